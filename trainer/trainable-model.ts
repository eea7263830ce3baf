import {
  adapterShapes,
  causalAttention,
  type DecoderConfig,
  decoderHidden,
  decoderLayer,
  embed,
  lastNorm,
  type PositionTables,
  parameterShapes,
  positionTableShapes,
  positionTables,
  projectLogits,
  type UnpaddedRows,
} from "../policy/index.js";
import type { TensorMap } from "../tensor/index.js";
import * as tf from "../tensor/tfjs.js";
import { gatherOnce } from "./log-probs.js";

/** What the learner needs of a policy: a few functions over tfjs ops. policy/'s decoder is one. */
export interface TrainableModel {
  /** Shape of each parameter that is learned, under its name; matrices are [out, in]. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** Shape of each parameter that stays as it is: the policy under an adapter. */
  readonly frozenShapes?: Readonly<Record<string, readonly number[]>>;
  /** Type of the matrices among them. Default: float32. */
  readonly frozenType?: "float16";
  readonly vocabulary: number;
  /** Causal hidden states of right-padded rows, ids [B, T] int32 -> [B * T, D]; of unpadded ones, [N] -> [N, D]. */
  hidden(weights: TensorMap, ids: tf.Tensor, unpadded?: UnpaddedRows): tf.Tensor2D;
  /** Logits of hidden states: [N, D] -> [N, V]. */
  logits(weights: TensorMap, hidden: tf.Tensor2D): tf.Tensor2D;
  readonly parts: ModelParts;
}

/** The same policy as parts that run one after the other: the embedding, layers that differ in their weights alone, the head. */
export interface ModelParts {
  readonly width: number;
  /** Names of the parameters that each part reads; those of a layer in the same order for every layer. */
  readonly names: {
    readonly embedding: readonly string[];
    readonly layers: readonly (readonly string[])[];
    /** Of the last norm and the projection onto the vocabulary, which may be the embedding. */
    readonly head: readonly string[];
  };
  /** ids [B, T] int32 -> [B * T, D]. */
  embed(weights: TensorMap, ids: tf.Tensor2D): tf.Tensor2D;
  /** Tables that every layer reads, for rows of one length. */
  tables(length: number): PositionTables<Float32Array>;
  tableShapes(length: number): PositionTables<readonly number[]>;
  /** One layer, [B * T, D] -> [B * T, D]. @param weights - under the names of the first layer */
  layer(
    weights: TensorMap,
    x: tf.Tensor2D,
    rows: readonly [rows: number, length: number],
    tables: PositionTables<tf.Tensor>,
  ): tf.Tensor2D;
  /** Last norm and logits: [N, D] -> [N, V]. */
  head(weights: TensorMap, x: tf.Tensor2D): tf.Tensor2D;
}

/** The decoder of policy/ as the learner sees it; with an adapter, only that is learned. */
export function decoderModel(config: DecoderConfig): TrainableModel {
  const own =
    config.lora === undefined
      ? { shapes: parameterShapes(config) }
      : {
          shapes: adapterShapes(config),
          frozenShapes: parameterShapes(config),
          ...(config.matrixType === undefined ? {} : { frozenType: config.matrixType }),
        };
  return {
    ...own,
    vocabulary: config.vocabulary,
    hidden: (weights, ids, unpadded) => decoderHidden(weights, ids, config, unpadded).hidden,
    logits: (weights, hidden) => projectLogits(weights, hidden),
    parts: decoderParts(config),
  };
}

function decoderParts(config: DecoderConfig): ModelParts {
  const names = Object.keys({ ...parameterShapes(config), ...adapterShapes(config) });
  const embedding = "model.embed_tokens.weight";
  return {
    width: config.width,
    names: {
      embedding: [embedding],
      layers: Array.from({ length: config.layers }, (_, layer) =>
        names.filter((name) => name.startsWith(`model.layers.${layer}.`)),
      ),
      head: ["model.norm.weight", config.tiedEmbeddings ? embedding : "lm_head.weight"],
    },
    embed: (weights, ids) => embed(weights, tf.reshape(ids, [ids.size])),
    tables: (length) => positionTables(length, config),
    tableShapes: (length) => positionTableShapes(length, config),
    layer: (weights, x, rows, tables) =>
      decoderLayer(x, weights, 0, config, causalAttention(rows, tables, config)) as tf.Tensor2D,
    head: (weights, x) => projectLogits(weights, lastNorm(weights, x, config)),
  };
}

/**
 * Logits, divided by the sampling temperature, at chosen positions only: the projection onto the vocabulary is the
 * largest product of a small policy, and half of the positions are prompt or padding.
 * @param inputs - `ids` [B, T], or `ids` [N] with `token_at` [B, T] and `place_of` [N]; `positions` [R] into the flattened
 *   ids; `inverse`, as long as those, where a gradient is taken
 * @returns [R, V]
 */
export function logitsAt(
  model: TrainableModel,
  weights: TensorMap,
  inputs: TensorMap,
  temperature: number,
): tf.Tensor2D {
  const [tokenAt, placeOf] = [inputs.token_at as tf.Tensor2D | undefined, inputs.place_of as tf.Tensor1D];
  const everywhere = model.hidden(weights, inputs.ids!, tokenAt && { tokenAt, placeOf });
  const positions = inputs.positions as tf.Tensor1D;
  const hidden = inputs.inverse
    ? gatherOnce(everywhere, positions, inputs.inverse as tf.Tensor1D)
    : tf.gather(everywhere, positions);
  return atTemperature(model.logits(weights, hidden), temperature);
}

export const atTemperature = (logits: tf.Tensor2D, temperature: number): tf.Tensor2D =>
  temperature === 1 ? logits : tf.mul(logits, 1 / temperature);
