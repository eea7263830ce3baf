/**
 * The decoder of the Llama, Qwen2 and Qwen3 families as plain functions over tfjs ops. The same functions are traced
 * into the sampler's and the trainer's graphs, so their log-probabilities agree.
 * Shapes: B rows, T tokens, D width, H query heads, K key/value heads, G = H / K, E head width, V vocabulary.
 */
import * as tf from "../tensor/tfjs.js";
import { blockedAttention, largestBlock, queryBlocks } from "./blocked-attention.js";
import type { DecoderConfig } from "./config.js";
import { loraA, loraB, loraScale } from "./lora.js";
import { ropeTables } from "./rope.js";
import { padRows, type UnpaddedRows, unpadRows } from "./unpadded-rows.js";

/** Parameters under their Hugging Face names, see `parameterShapes`. */
export type Weights = Readonly<Record<string, tf.Tensor>>;

/** Large enough that exp() is exactly 0, small enough that a sum of two stays finite in half precision too. */
export const MASKED = -30_000;

/** x / sqrt(mean(x^2) + epsilon) * weight over the last axis. @see Zhang & Sennrich 2019, arXiv 1910.07467 */
export function rmsNorm(x: tf.Tensor, weight: tf.Tensor, epsilon: number): tf.Tensor {
  const meanSquare = tf.mean(tf.mul(x, x), -1, true);
  return tf.mul(tf.mul(x, tf.rsqrt(tf.add(meanSquare, epsilon))), weight);
}

/** x [N, in] times a Hugging Face matrix [out, in], plus an optional bias [out]. */
export function linear(x: tf.Tensor, weight: tf.Tensor, bias?: tf.Tensor): tf.Tensor {
  const product = tf.matMul(x as tf.Tensor2D, weight as tf.Tensor2D, false, true);
  return bias ? tf.add(product, bias) : product;
}

/** Turns each head by its position: x * cos + swap(x) * sin, with the sign of the first half already in `sin`. */
export function applyRope(x: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor): tf.Tensor {
  const axis = x.rank - 1;
  const [first, second] = tf.split(x, 2, axis) as [tf.Tensor, tf.Tensor];
  return tf.add(tf.mul(x, cos), tf.mul(tf.concat([second, first], axis), sin));
}

/** x times the matrix of a projection, plus its bias and its adapter where it has them. */
function project(x: tf.Tensor, weights: Weights, name: string, { lora }: DecoderConfig): tf.Tensor {
  const product = linear(x, weights[`${name}.weight`]!, weights[`${name}.bias`]);
  const down = weights[loraA(name)];
  if (lora === undefined || down === undefined) return product;
  return tf.add(product, tf.mul(linear(linear(x, down), weights[loraB(name)]!), loraScale(lora)));
}

/** Query, key and value heads of one layer before RoPE: [N, H, E], [N, K, E], [N, K, E]. */
function projectHeads(x: tf.Tensor, weights: Weights, at: string, config: DecoderConfig): Heads {
  const heads = (name: string, count: number): tf.Tensor => {
    const projected = project(x, weights, `${at}.${name}_proj`, config);
    const split = tf.reshape(projected, [-1, count, config.headDim]);
    const norm = weights[`${at}.${name}_norm.weight`];
    return norm ? rmsNorm(split, norm, config.normEpsilon) : split;
  };
  return {
    query: heads("q", config.heads),
    key: heads("k", config.keyValueHeads),
    value: heads("v", config.keyValueHeads),
  };
}

/** SwiGLU: down(silu(gate(x)) * up(x)). @see Shazeer 2020, arXiv 2002.05202 */
function feedForward(x: tf.Tensor, weights: Weights, at: string, config: DecoderConfig): tf.Tensor {
  const gate = project(x, weights, `${at}.gate_proj`, config);
  const up = project(x, weights, `${at}.up_proj`, config);
  return project(tf.mul(tf.mul(gate, tf.sigmoid(gate)), up), weights, `${at}.down_proj`, config);
}

/** Query, key and value heads of N tokens, before RoPE. */
interface Heads {
  readonly query: tf.Tensor;
  readonly key: tf.Tensor;
  readonly value: tf.Tensor;
}

/** Mixes the values of N tokens: heads -> [N, H * E]. */
export type Attention = (heads: Heads) => tf.Tensor;

/**
 * One layer around its attention: norm, attend, add, norm, feed forward, add. All [N, D].
 * @param layer - whose weights: those under `model.layers.<layer>.`
 */
export function decoderLayer(
  x: tf.Tensor,
  weights: Weights,
  layer: number,
  config: DecoderConfig,
  attend: Attention,
): tf.Tensor {
  const at = `model.layers.${layer}`;
  const normed = rmsNorm(x, weights[`${at}.input_layernorm.weight`]!, config.normEpsilon);
  const attended = attend(projectHeads(normed, weights, `${at}.self_attn`, config));
  const afterAttention = tf.add(x, project(attended, weights, `${at}.self_attn.o_proj`, config));
  const again = rmsNorm(
    afterAttention,
    weights[`${at}.post_attention_layernorm.weight`]!,
    config.normEpsilon,
  );
  return tf.add(afterAttention, feedForward(again, weights, `${at}.mlp`, config));
}

/** What one layer leaves in the cache: keys (after RoPE) and values. */
export interface KeyValue {
  readonly key: tf.Tensor;
  readonly value: tf.Tensor;
}

/** What attention over T positions needs to know of them, the same for every layer and row. */
export interface PositionTables<T> {
  /** [T, 1, E] */
  readonly cos: T;
  /** [T, 1, E] */
  readonly sin: T;
  /** [C, T]: of the last C queries of a row, as many as a block has; all T of a row that is not cut into blocks. */
  readonly mask: T;
}

export const positionTables = (length: number, config: DecoderConfig): PositionTables<Float32Array> => ({
  ...ropeTables(config, length),
  mask: causalMask(length, largestBlock(length)),
});

export const positionTableShapes = (length: number, config: DecoderConfig): PositionTables<number[]> => ({
  cos: [length, 1, config.headDim],
  sin: [length, 1, config.headDim],
  mask: [largestBlock(length), length],
});

/**
 * Attention of whole sequences, each token to those before it and itself. Rows are right-padded: padding comes after
 * every real token, so causality alone hides it.
 * @param keyValues - gets, of every layer that uses it, keys and values [B, K, T, E]
 */
export function causalAttention(
  [rows, length]: readonly [rows: number, length: number],
  { cos, sin, mask }: PositionTables<tf.Tensor>,
  config: DecoderConfig,
  keyValues: KeyValue[] = [],
): Attention {
  const { heads, keyValueHeads, headDim } = config;
  return ({ query, key, value }) => {
    const byHead = (x: tf.Tensor, count: number): tf.Tensor =>
      tf.transpose(tf.reshape(x, [rows, length, count, headDim]), [0, 2, 1, 3]);
    const turn = (x: tf.Tensor, count: number): tf.Tensor =>
      applyRope(tf.reshape(x, [rows, length, count, headDim]), cos, sin);
    const turned = turn(query, heads); // [B, T, H, E]
    const k = byHead(turn(key, keyValueHeads), keyValueHeads); // [B, K, T, E]
    const v = byHead(value, keyValueHeads);
    keyValues.push({ key: k, value: v });
    if (queryBlocks(length).length > 1) {
      const scaled = tf.mul(turned, 1 / Math.sqrt(headDim));
      const mixed = blockedAttention({ query: scaled, key: k, value: v }, mask);
      return tf.reshape(mixed, [rows * length, heads * headDim]);
    }
    const q = tf.transpose(turned, [0, 2, 1, 3]); // [B, H, T, E]
    const shared = heads / keyValueHeads;
    const grouped = tf.reshape(q, [rows, keyValueHeads, shared * length, headDim]); // [B, K, G * T, E]
    const scores = tf.mul(tf.matMul(grouped, k, false, true), 1 / Math.sqrt(headDim));
    const masked = tf.add(tf.reshape(scores, [rows, keyValueHeads, shared, length, length]), mask);
    const attention = tf.reshape(tf.softmax(masked), [rows, keyValueHeads, shared * length, length]);
    const mixed = tf.reshape(tf.matMul(attention, v), [rows, heads, length, headDim]);
    return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [rows * length, heads * headDim]);
  };
}

/** Attention of padded rows, for tokens that stand without padding. */
function unpaddedAttention(attend: Attention, rows: UnpaddedRows): Attention {
  return ({ query, key, value }) => {
    const padded = { query: padRows(query, rows), key: padRows(key, rows), value: padRows(value, rows) };
    return unpadRows(attend(padded), rows);
  };
}

/**
 * Hidden states of whole sequences under causal attention.
 * @param ids - [B, T] int32; with `unpadded`: [N]
 * @returns hidden [B * T, D], or [N, D], after the last norm; keyValues per layer, each [B, K, T, E]
 */
export function decoderHidden(
  weights: Weights,
  ids: tf.Tensor,
  config: DecoderConfig,
  unpadded?: UnpaddedRows,
): { hidden: tf.Tensor2D; keyValues: KeyValue[] } {
  const keyValues: KeyValue[] = [];
  const shape = (unpadded?.tokenAt ?? ids).shape as [number, number];
  const ofRows = causalAttention(shape, constantTables(shape[1], config), config, keyValues);
  const attend = unpadded === undefined ? ofRows : unpaddedAttention(ofRows, unpadded);
  let x: tf.Tensor = embed(weights, tf.reshape(ids, [ids.size]));
  for (let layer = 0; layer < config.layers; layer++) x = decoderLayer(x, weights, layer, config, attend);
  return { hidden: lastNorm(weights, x, config), keyValues };
}

/** The norm between the last layer and the head: [N, D] -> [N, D]. */
export function lastNorm(weights: Weights, x: tf.Tensor, config: DecoderConfig): tf.Tensor2D {
  return rmsNorm(x, weights["model.norm.weight"]!, config.normEpsilon) as tf.Tensor2D;
}

function constantTables(length: number, config: DecoderConfig): PositionTables<tf.Tensor> {
  const [tables, shapes] = [positionTables(length, config), positionTableShapes(length, config)];
  return {
    cos: tf.tensor(tables.cos, shapes.cos),
    sin: tf.tensor(tables.sin, shapes.sin),
    mask: tf.tensor(tables.mask, shapes.mask),
  };
}

/** The last `rows` rows of [T, T]: 0 on and below the diagonal, MASKED above. */
export function causalMask(length: number, rows = length): Float32Array {
  const mask = new Float32Array(rows * length);
  for (let row = 0; row < rows; row++)
    mask.fill(MASKED, row * length + (length - rows) + row + 1, (row + 1) * length);
  return mask;
}

/** Embeddings of ids [N]: [N, D]. */
export function embed(weights: Weights, ids: tf.Tensor1D): tf.Tensor2D {
  return tf.gather(weights["model.embed_tokens.weight"] as tf.Tensor2D, ids);
}

/** Logits [N, V] of hidden states [N, D], by the head or the tied embedding. */
export function projectLogits(weights: Weights, hidden: tf.Tensor2D): tf.Tensor2D {
  const head = weights["lm_head.weight"] ?? weights["model.embed_tokens.weight"]!;
  return linear(hidden, head) as tf.Tensor2D;
}

/** Logits [B, T, V] of whole sequences: position t predicts token t + 1. */
export function decoderLogits(weights: Weights, ids: tf.Tensor2D, config: DecoderConfig): tf.Tensor3D {
  const [rows, length] = ids.shape;
  const { hidden } = decoderHidden(weights, ids, config);
  return tf.reshape(projectLogits(weights, hidden), [rows, length, config.vocabulary]) as tf.Tensor3D;
}
