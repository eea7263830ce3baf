import * as tf from "@tensorflow/tfjs-core";
import {
  adapterShapes,
  type DecoderConfig,
  decoderHidden,
  parameterShapes,
  projectLogits,
} from "../policy/index.js";
import type { TensorMap } from "../tensor/index.js";
import { gatherOnce } from "./log-probs.js";

/** What the learner needs of a policy: two functions over tfjs ops. policy/'s decoder is one. */
export interface TrainableModel {
  /** Shape of each parameter that is learned, under its name; matrices are [out, in]. */
  readonly shapes: Readonly<Record<string, readonly number[]>>;
  /** Shape of each parameter that stays as it is: the policy under an adapter. */
  readonly frozenShapes?: Readonly<Record<string, readonly number[]>>;
  readonly vocabulary: number;
  /** Causal hidden states of right-padded rows: ids [B, T] int32 -> [B * T, D]. */
  hidden(weights: TensorMap, ids: tf.Tensor2D): tf.Tensor2D;
  /** Logits of hidden states: [N, D] -> [N, V]. */
  logits(weights: TensorMap, hidden: tf.Tensor2D): tf.Tensor2D;
}

/** The decoder of policy/ as the learner sees it; with an adapter, only that is learned. */
export function decoderModel(config: DecoderConfig): TrainableModel {
  const own =
    config.lora === undefined
      ? { shapes: parameterShapes(config) }
      : { shapes: adapterShapes(config), frozenShapes: parameterShapes(config) };
  return {
    ...own,
    vocabulary: config.vocabulary,
    hidden: (weights, ids) => decoderHidden(weights, ids, config).hidden,
    logits: (weights, hidden) => projectLogits(weights, hidden),
  };
}

/**
 * Logits, divided by the sampling temperature, at chosen positions only: the projection onto the vocabulary is the
 * largest product of a small policy, and half of the positions are prompt or padding.
 * @param inputs - `ids` [B, T]; `positions` [R] into the flattened rows; `inverse` [B * T], where a gradient is taken
 * @returns [R, V]
 */
export function logitsAt(
  model: TrainableModel,
  weights: TensorMap,
  inputs: TensorMap,
  temperature: number,
): tf.Tensor2D {
  const everywhere = model.hidden(weights, inputs.ids as tf.Tensor2D);
  const positions = inputs.positions as tf.Tensor1D;
  const hidden = inputs.inverse
    ? gatherOnce(everywhere, positions, inputs.inverse as tf.Tensor1D)
    : tf.gather(everywhere, positions);
  const logits = model.logits(weights, hidden);
  return temperature === 1 ? logits : tf.mul(logits, 1 / temperature);
}
