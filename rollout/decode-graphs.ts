/** The traced functions of sampling, shared by both kinds of cache. */

import {
  chunkLogits,
  type DecoderConfig,
  decodeChunk,
  decoderHidden,
  decodeStep,
  decodingSpecs,
  decodingWeights,
  type KeyValue,
  projectLogits,
  type WeightLayout,
  weightSpecs,
} from "../policy/index.js";
import type { Provider, TensorSpec, TracedFunction } from "../tensor/index.js";
import * as tf from "../tensor/tfjs.js";
import { PREFILL_ROWS, type RunnerShape } from "./key-value-cache.js";

export type Specs = Record<string, TensorSpec>;

/** Names of a layer's cache tensors. */
export const keyName = (layer: number): string => `cache.${layer}.key`;
export const valueName = (layer: number): string => `cache.${layer}.value`;

/** Of all layers, in order. */
export const cacheNames = (config: DecoderConfig): string[] =>
  Array.from({ length: config.layers }, (_, layer) => [keyName(layer), valueName(layer)]).flat();

/**
 * Cache lengths that graphs are compiled for: a graph reads as much cache as it is compiled for, so a call runs in the
 * shortest that holds its longest sequence. All but the longest are multiples of 32, whole vectors of any CPU.
 * @returns ascending; the last is `longest`
 */
export function cacheLengths(longest: number): number[] {
  const lengths: number[] = [];
  for (let length = 32; length < longest; length += length < 128 ? 32 : length < 512 ? 64 : length / 4)
    lengths.push(Math.floor(length / 32) * 32);
  return [...lengths, longest];
}

/**
 * As `cacheLengths`, each twice the one before: for graphs that hold a packed copy of the weights. The attention reads up to
 * twice the cache that it needs.
 */
export function fewCacheLengths(longest: number): number[] {
  const lengths: number[] = [];
  for (let length = 256; length < longest; length *= 2) lengths.push(length);
  return [...lengths, longest];
}

/** Specs of the whole cache: per layer, keys and values [S, K, C, E]. */
export function cacheSpecs(
  config: DecoderConfig,
  { slots, cacheLength }: Pick<RunnerShape, "slots" | "cacheLength">,
): Specs {
  const spec: TensorSpec = {
    shape: [slots, config.keyValueHeads, cacheLength, config.headDim],
    dtype: "float32",
  };
  const layers = Array.from({ length: config.layers }, (_, layer) => layer);
  return Object.fromEntries(
    layers.flatMap((layer) => [
      [keyName(layer), spec],
      [valueName(layer), spec],
    ]),
  );
}

/** The cache tensors of a traced call, layer by layer. */
export const cacheOf = (inputs: Readonly<Record<string, tf.Tensor>>, config: DecoderConfig): KeyValue[] =>
  Array.from({ length: config.layers }, (_, layer) => ({
    key: inputs[keyName(layer)]!,
    value: inputs[valueName(layer)]!,
  }));

/** Keys and values of all layers as named outputs. */
export const namedKeyValues = (keyValues: readonly KeyValue[]): Record<string, tf.Tensor> =>
  Object.fromEntries(
    keyValues.flatMap(({ key, value }, layer) => [
      [keyName(layer), key],
      [valueName(layer), value],
    ]),
  );

/** Prefill: ids [N, P] and the flat index of each last token [N], two at least, to their logits and keys and values [N, K, P, E]. */
export const prefillFunction =
  (config: DecoderConfig): TracedFunction =>
  (inputs) => {
    const { hidden, keyValues } = decoderHidden(inputs, inputs.ids as tf.Tensor2D, config);
    const last = tf.gather(hidden, inputs.last as tf.Tensor1D) as tf.Tensor2D;
    return { logits: projectLogits(inputs, last), ...namedKeyValues(keyValues) };
  };

/** The head's products of a single row round differently: no prompt may be drawn from those for want of neighbours. */
const LEAST_HEADS = 2;

export const prefillSpecs = (
  config: DecoderConfig,
  { promptLength }: RunnerShape,
  rows = PREFILL_ROWS,
): Specs => ({
  ...weightSpecs(config),
  ids: { shape: [rows, promptLength], dtype: "int32" },
  last: { shape: [Math.max(rows, LEAST_HEADS)], dtype: "int32" },
});

/**
 * Slots up to which a step multiplies row by row: more share what is read if they are multiplied together. Measured at 10M
 * and 100M: with 1 slot 1.4 to 1.9 times as fast, with 2 1.8, with 4 1.2 to 1.3.
 */
export const FEW_SLOTS = 4;

/** How decoding steps want the weights. */
export const layoutFor = (provider: Provider, slots: number): WeightLayout =>
  provider === "cpu" && slots <= FEW_SLOTS ? "blocks" : "rows";

/** The weights laid out for decoding steps. */
export const layOutFunction =
  (config: DecoderConfig, layout: WeightLayout = "rows"): TracedFunction =>
  (inputs) =>
    decodingWeights(inputs, config, layout);

/** One decoding step: weights from `layOutFunction`, ids [S], positions [S] and the cache to logits [S, V] and the new keys and values [S, K, E]. */
export const stepFunction =
  (config: DecoderConfig, layout: WeightLayout = "rows"): TracedFunction =>
  (inputs) => {
    const ids = inputs.ids as tf.Tensor1D;
    const positions = inputs.positions as tf.Tensor1D;
    const { logits, keyValues } = decodeStep(inputs, ids, positions, cacheOf(inputs, config), config, layout);
    return { logits, ...namedKeyValues(keyValues) };
  };

export const stepSpecs = (
  config: DecoderConfig,
  shape: RunnerShape,
  layout: WeightLayout = "rows",
): Specs => ({
  ...decodingSpecs(config, layout),
  ...cacheSpecs(config, shape),
  ids: { shape: [shape.slots], dtype: "int32" },
  positions: { shape: [shape.slots], dtype: "int32" },
});

/** As `stepFunction`, on the weights as they stand. */
export const standingStepFunction =
  (config: DecoderConfig): TracedFunction =>
  (inputs) => {
    const ids = tf.expandDims(inputs.ids as tf.Tensor1D, 1) as tf.Tensor2D; // [S, 1]
    const positions = inputs.positions as tf.Tensor1D;
    const { hidden, keyValues } = decodeChunk(inputs, ids, positions, cacheOf(inputs, config), config);
    return { logits: chunkLogits(inputs, hidden, config), ...namedKeyValues(keyValues) };
  };

export const standingStepSpecs = (config: DecoderConfig, shape: RunnerShape): Specs => ({
  ...weightSpecs(config),
  ...cacheSpecs(config, shape),
  ids: { shape: [shape.slots], dtype: "int32" },
  positions: { shape: [shape.slots], dtype: "int32" },
});
