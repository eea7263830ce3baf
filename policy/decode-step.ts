/**
 * One token of many sequences against their caches, with the weights laid out for it. The decoder is that of decoder.ts.
 * Shapes: S slots, D width, H query heads, K key/value heads, G = H / K, E head width, C cache length, V vocabulary.
 */
import * as tf from "../tensor/tfjs.js";
import type { DecoderConfig } from "./config.js";
import { applyRope, type KeyValue, MASKED, type Weights } from "./decoder.js";
import { loraA, loraB, loraScale } from "./lora.js";
import { ropeTables } from "./rope.js";
import { linear, linearOfProduct, product, stored, storedShape, type WeightLayout } from "./step-products.js";

/**
 * Shapes of the weights as `decodeStep` wants them. Per layer one matrix for query, key and value; the weight of each
 * RMSNorm stands in the matrix after it, and the 1 / sqrt(E) of the scores in the queries.
 */
export function decodingShapes(
  config: DecoderConfig,
  layout: WeightLayout = "rows",
): Record<string, number[]> {
  const { width, headDim, heads, keyValueHeads } = config;
  const projected = (heads + 2 * keyValueHeads) * headDim;
  const matrix = (out: number, from: number): number[] => storedShape(layout, [out, from]);
  const shapes: Record<string, number[]> = { embedding: [config.vocabulary, width] };
  for (let layer = 0; layer < config.layers; layer++) {
    shapes[`${layer}.qkv`] = matrix(projected, width);
    if (config.queryKeyValueBias) shapes[`${layer}.qkv_bias`] = [projected];
    if (config.queryKeyNorm) shapes[`${layer}.query_key_norm`] = [heads + keyValueHeads, headDim];
    shapes[`${layer}.out`] = matrix(width, heads * headDim);
    shapes[`${layer}.gate`] = matrix(config.feedForward, width);
    shapes[`${layer}.up`] = matrix(config.feedForward, width);
    shapes[`${layer}.down`] = matrix(width, config.feedForward);
  }
  shapes.head = matrix(config.vocabulary, width);
  return shapes;
}

/** A projection's matrix [out, in] with its adapter added in. */
function withAdapter(weights: Weights, name: string, { lora }: DecoderConfig): tf.Tensor {
  const weight = weights[`${name}.weight`]!;
  const down = weights[loraA(name)];
  if (lora === undefined || down === undefined) return weight;
  const product = tf.matMul(weights[loraB(name)] as tf.Tensor2D, down as tf.Tensor2D);
  return tf.add(weight, tf.mul(product, loraScale(lora)));
}

/** The weights as `decodeStep` wants them, from their Hugging Face names. */
export function decodingWeights(
  weights: Weights,
  config: DecoderConfig,
  layout: WeightLayout = "rows",
): Record<string, tf.Tensor> {
  const layers = Array.from({ length: config.layers }, (_, layer) =>
    decodingLayer(weights, layer, config, layout),
  );
  return Object.assign(decodingEnds(weights, layout), ...layers) as Record<string, tf.Tensor>;
}

/** Of `decodingWeights`: the embedding and the head. */
export const decodingEnds = (weights: Weights, layout: WeightLayout): Record<string, tf.Tensor> => {
  const embedding = weights["model.embed_tokens.weight"]!;
  const head = tf.mul(weights["lm_head.weight"] ?? embedding, weights["model.norm.weight"]!);
  return { embedding, head: stored(head, layout) };
};

/** Of `decodingWeights`: one layer's. */
export function decodingLayer(
  weights: Weights,
  layer: number,
  config: DecoderConfig,
  layout: WeightLayout,
): Record<string, tf.Tensor> {
  const { heads, keyValueHeads, headDim } = config;
  const scale = 1 / Math.sqrt(headDim);
  const at = (name: string): tf.Tensor => weights[`model.layers.${layer}.${name}`]!;
  const matrix = (name: string): tf.Tensor => withAdapter(weights, `model.layers.${layer}.${name}`, config);
  const keep = (weight: tf.Tensor): tf.Tensor => stored(weight, layout);
  const prepared: Record<string, tf.Tensor> = {};
  // With a norm over each query the scale must come after it, else it would be divided out again.
  const queryScale = config.queryKeyNorm ? 1 : scale;
  const joined = (of: (name: string) => tf.Tensor): tf.Tensor =>
    tf.concat([tf.mul(of("self_attn.q_proj"), queryScale), of("self_attn.k_proj"), of("self_attn.v_proj")]);
  prepared[`${layer}.qkv`] = keep(tf.mul(joined(matrix), at("input_layernorm.weight")));
  if (config.queryKeyValueBias) prepared[`${layer}.qkv_bias`] = joined((name) => at(`${name}.bias`));
  if (config.queryKeyNorm) {
    const repeated = (name: string, count: number): tf.Tensor =>
      tf.tile(tf.expandDims(at(name), 0), [count, 1]);
    prepared[`${layer}.query_key_norm`] = tf.concat([
      tf.mul(repeated("self_attn.q_norm.weight", heads), scale),
      repeated("self_attn.k_norm.weight", keyValueHeads),
    ]);
  }
  const afterAttention = at("post_attention_layernorm.weight");
  prepared[`${layer}.out`] = keep(matrix("self_attn.o_proj"));
  prepared[`${layer}.gate`] = keep(tf.mul(matrix("mlp.gate_proj"), afterAttention));
  prepared[`${layer}.up`] = keep(tf.mul(matrix("mlp.up_proj"), afterAttention));
  prepared[`${layer}.down`] = keep(matrix("mlp.down_proj"));
  return prepared;
}

/** x / sqrt(mean(x^2) + epsilon) over the last axis. */
function normalized(x: tf.Tensor, epsilon: number): tf.Tensor {
  return tf.div(x, tf.sqrt(tf.add(tf.mean(tf.mul(x, x), -1, true), epsilon)));
}

/** What is the same for every layer of a step. */
interface StepContext {
  readonly config: DecoderConfig;
  readonly layout: WeightLayout;
  readonly slots: number;
  /** [S, 1, E] */
  readonly cos: tf.Tensor;
  readonly sin: tf.Tensor;
  /** [S, 1, 1, C]: 0 before the token's position, MASKED from it on. */
  readonly mask: tf.Tensor;
}

function stepContext(
  positions: tf.Tensor1D,
  length: number,
  config: DecoderConfig,
  layout: WeightLayout,
): StepContext {
  const slots = positions.shape[0];
  const tables = ropeTables(config, length);
  const atPosition = (table: Float32Array): tf.Tensor =>
    tf.reshape(tf.gather(tf.tensor(table, [length, config.headDim]), positions), [slots, 1, config.headDim]);
  const isBefore = tf.less(tf.range(0, length, 1, "int32"), tf.reshape(positions, [slots, 1])); // [S, C]
  const bias = tf.mul(tf.sub(1, tf.cast(isBefore, "float32")), MASKED);
  return {
    config,
    layout,
    slots,
    cos: atPosition(tables.cos),
    sin: atPosition(tables.sin),
    mask: tf.reshape(bias, [slots, 1, 1, length]),
  };
}

/** Scaled queries, keys [S, K, E] after RoPE, and values of the new token. */
function newHeads(
  x: tf.Tensor,
  weights: Weights,
  layer: number,
  { config, layout, slots, cos, sin }: StepContext,
): { query: tf.Tensor } & KeyValue {
  const { heads, keyValueHeads, headDim } = config;
  const projected = linear(x, weights[`${layer}.qkv`]!, layout);
  const bias = weights[`${layer}.qkv_bias`];
  const byHead = tf.reshape(bias ? tf.add(projected, bias) : projected, [
    slots,
    heads + 2 * keyValueHeads,
    headDim,
  ]);
  const [raw, value] = tf.split(byHead, [heads + keyValueHeads, keyValueHeads], 1) as [tf.Tensor, tf.Tensor];
  const norm = weights[`${layer}.query_key_norm`];
  const turned = applyRope(norm ? tf.mul(normalized(raw, config.normEpsilon), norm) : raw, cos, sin);
  const [query, key] = tf.split(turned, [heads, keyValueHeads], 1) as [tf.Tensor, tf.Tensor];
  return { query: tf.reshape(query, [slots, keyValueHeads, heads / keyValueHeads, headDim]), key, value };
}

/**
 * Attention of each slot's new token to itself and to its cache: [S, H * E]. The token's own score comes first, so that
 * every cached position has the same place in the softmax whatever C is; what the mask hides adds exact zeros.
 */
function attend(
  { query, key, value }: { query: tf.Tensor } & KeyValue,
  past: KeyValue,
  { config, slots, mask }: StepContext,
): tf.Tensor {
  const self = tf.sum(tf.mul(query, tf.expandDims(key, 2)), -1, true); // [S, K, G, 1]
  const scores = tf.add(tf.matMul(query, past.key, false, true), mask); // [S, K, G, C]
  const attention = tf.softmax(tf.concat([self, scores], -1));
  const [toSelf, toPast] = tf.split(attention, [1, scores.shape[3]!], -1) as [tf.Tensor, tf.Tensor];
  const mixed = tf.add(tf.matMul(toPast, past.value), tf.mul(toSelf, tf.expandDims(value, 2)));
  return tf.reshape(mixed, [slots, config.heads * config.headDim]);
}

/**
 * One token of every slot, against the cache of the tokens before it.
 * @param weights - of `decodingWeights`, in this layout
 * @param ids - [S] int32, the token each slot has just received
 * @param positions - [S] int32, its position, less than C; cache entries at and after it are ignored, if finite
 * @param cache - per layer, keys and values [S, K, C, E]
 * @returns logits [S, V] of the next token; per layer this token's keys and values [S, K, E], to be written at `positions`
 */
export function decodeStep(
  weights: Weights,
  ids: tf.Tensor1D,
  positions: tf.Tensor1D,
  cache: readonly KeyValue[],
  config: DecoderConfig,
  layout: WeightLayout = "rows",
): { logits: tf.Tensor2D; keyValues: KeyValue[] } {
  const context = stepContext(positions, cache[0]!.key.shape[2]!, config, layout);
  const keyValues: KeyValue[] = [];
  let x = tf.gather(weights.embedding!, ids); // [S, D]
  cache.forEach((past, layer) => {
    const matrix = (name: string): tf.Tensor => weights[`${layer}.${name}`]!;
    const heads = newHeads(normalized(x, config.normEpsilon), weights, layer, context);
    keyValues.push({ key: heads.key, value: heads.value });
    const afterAttention = tf.add(x, linear(attend(heads, past, context), matrix("out"), layout));
    const normed = normalized(afterAttention, config.normEpsilon);
    const gate = product(matrix("gate"), normed, layout);
    const gated = tf.mul(tf.mul(gate, tf.sigmoid(gate)), product(matrix("up"), normed, layout));
    x = tf.add(afterAttention, linearOfProduct(gated, matrix("down"), layout));
  });
  const logits = linear(normalized(x, config.normEpsilon), weights.head!, layout) as tf.Tensor2D;
  return { logits, keyValues };
}

/** Shapes and type of `decodingWeights` as inputs of a compiled function. */
export const decodingSpecs = (
  config: DecoderConfig,
  layout: WeightLayout = "rows",
): Record<string, { shape: number[]; dtype: "float32" }> =>
  Object.fromEntries(
    Object.entries(decodingShapes(config, layout)).map(([name, shape]) => [
      name,
      { shape, dtype: "float32" },
    ]),
  );
