/** The traced functions of sampling, shared by both kinds of cache. */
import * as tf from "@tensorflow/tfjs-core";
import {
  type DecoderConfig,
  decoderHidden,
  decodeStep,
  decodingSpecs,
  decodingWeights,
  type KeyValue,
  projectLogits,
  weightSpecs,
} from "../policy/index.js";
import type { TensorSpec, TracedFunction } from "../tensor/index.js";
import { PREFILL_ROWS, type RunnerShape } from "./key-value-cache.js";

export type Specs = Record<string, TensorSpec>;

/** Names of a layer's cache tensors. */
export const keyName = (layer: number): string => `cache.${layer}.key`;
export const valueName = (layer: number): string => `cache.${layer}.value`;

/** Specs of the whole cache: per layer, keys and values [S, K, C, E]. */
export function cacheSpecs(config: DecoderConfig, { slots, cacheLength }: RunnerShape): Specs {
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

/** Prefill: ids [N, P] and the flat index of each last token [N] to logits [N, V] and keys and values [N, K, P, E]. */
export const prefillFunction =
  (config: DecoderConfig): TracedFunction =>
  (inputs) => {
    const { hidden, keyValues } = decoderHidden(inputs, inputs.ids as tf.Tensor2D, config);
    const last = tf.gather(hidden, inputs.last as tf.Tensor1D) as tf.Tensor2D;
    return { logits: projectLogits(inputs, last), ...namedKeyValues(keyValues) };
  };

export const prefillSpecs = (config: DecoderConfig, { promptLength }: RunnerShape): Specs => ({
  ...weightSpecs(config),
  ids: { shape: [PREFILL_ROWS, promptLength], dtype: "int32" },
  last: { shape: [PREFILL_ROWS], dtype: "int32" },
});

/** The weights laid out for decoding steps. */
export const layOutFunction =
  (config: DecoderConfig): TracedFunction =>
  (inputs) =>
    decodingWeights(inputs, config);

/** One decoding step: weights from `layOutFunction`, ids [S], positions [S] and the cache to logits [S, V] and the new keys and values [S, K, E]. */
export const stepFunction =
  (config: DecoderConfig): TracedFunction =>
  (inputs) => {
    const ids = inputs.ids as tf.Tensor1D;
    const positions = inputs.positions as tf.Tensor1D;
    const { logits, keyValues } = decodeStep(inputs, ids, positions, cacheOf(inputs, config), config);
    return { logits, ...namedKeyValues(keyValues) };
  };

export const stepSpecs = (config: DecoderConfig, shape: RunnerShape): Specs => ({
  ...decodingSpecs(config),
  ...cacheSpecs(config, shape),
  ids: { shape: [shape.slots], dtype: "int32" },
  positions: { shape: [shape.slots], dtype: "int32" },
});
