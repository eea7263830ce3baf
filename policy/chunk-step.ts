/**
 * Some tokens of many sequences against their caches, on the weights as they stand under their Hugging Face names: for
 * policies of which no second, laid-out copy fits. One token each is a decoding step, many are a part of a prompt. The
 * decoder is that of decoder.ts.
 * Shapes: N sequences, C new tokens of each, M = N * C, D width, F feed-forward width, H query heads, K key/value heads,
 * G = H / K, E head width, L cache length, V vocabulary.
 */
import * as tf from "../tensor/tfjs.js";
import type { DecoderConfig } from "./config.js";
import { applyRope, causalMask, type KeyValue, MASKED, rmsNorm, type Weights } from "./decoder.js";
import { loraA, loraB, loraScale } from "./lora.js";
import { ropeTables } from "./rope.js";

/** What is the same for every layer. */
interface ChunkContext {
  readonly config: DecoderConfig;
  readonly sequences: number;
  /** C */
  readonly tokens: number;
  /** [M, 1, E] */
  readonly cos: tf.Tensor;
  readonly sin: tf.Tensor;
  /** [N, 1, 1, L]: 0 before the sequence's first new token, MASKED from it on; null without a cache. */
  readonly pastMask: tf.Tensor | null;
}

function chunkContext(
  starts: tf.Tensor1D,
  tokens: number,
  cacheLength: number,
  config: DecoderConfig,
): ChunkContext {
  const sequences = starts.shape[0];
  const tables = ropeTables(config, cacheLength + tokens);
  const first = tf.reshape(starts, [sequences, 1]);
  const positions = tf.reshape(tf.add(first, tf.range(0, tokens, 1, "int32")), [sequences * tokens]);
  const at = (table: Float32Array): tf.Tensor =>
    tf.expandDims(tf.gather(tf.tensor(table, [cacheLength + tokens, config.headDim]), positions), 1);
  let pastMask: tf.Tensor | null = null;
  if (cacheLength > 0) {
    const isPast = tf.cast(tf.less(tf.range(0, cacheLength, 1, "int32"), first), "float32"); // [N, L]
    pastMask = tf.reshape(tf.mul(tf.sub(1, isPast), MASKED), [sequences, 1, 1, cacheLength]);
  }
  return { config, sequences, tokens, cos: at(tables.cos), sin: at(tables.sin), pastMask };
}

/** [1, n, M] to [M, n]. */
const byRow = (x: tf.Tensor): tf.Tensor => tf.reshape(tf.transpose(x, [0, 2, 1]), [x.shape[2]!, x.shape[1]!]);

/**
 * W x for W [out, in]: [1, out, M]. A CPU packs the right operand of a product before it multiplies; this way round that is
 * the small one, and the matrix is read once, as it stands. The leading 1 keeps ONNX Runtime from turning the product round
 * again. A single token is a product of a vector, which has a kernel of its own that reads as fast as memory gives.
 * @param x - [1, M, in], or [1, in, M] where `isColumn`
 */
function product(weight: tf.Tensor, x: tf.Tensor, isColumn = false): tf.Tensor {
  const [out, width] = weight.shape as [number, number];
  if (x.size > width) return tf.matMul(weight, x, false, !isColumn);
  const row = tf.matMul(tf.reshape(x, [1, width]) as tf.Tensor2D, weight as tf.Tensor2D, false, true);
  return tf.reshape(row, [1, out, 1]);
}

/** A projection with its adapter, see `product`: [1, out, M]. */
function project(
  x: tf.Tensor,
  weights: Weights,
  name: string,
  { lora }: DecoderConfig,
  isColumn = false,
): tf.Tensor {
  const own = product(weights[`${name}.weight`]!, x, isColumn);
  const down = weights[loraA(name)];
  if (lora === undefined || down === undefined) return own;
  const narrow = tf.mul(product(down, x, isColumn), loraScale(lora)); // [1, rank, M]
  return tf.add(own, product(weights[loraB(name)]!, narrow, true));
}

/** Heads of the new tokens: scaled queries [M, H, E], keys and values [M, K, E]; queries and keys after RoPE. */
function newHeads(
  normed: tf.Tensor,
  weights: Weights,
  at: string,
  { config, cos, sin }: ChunkContext,
): { query: tf.Tensor; key: tf.Tensor; value: tf.Tensor } {
  const heads = (name: "q" | "k" | "v", count: number): tf.Tensor => {
    const projected = byRow(project(normed, weights, `${at}.${name}_proj`, config));
    const bias = weights[`${at}.${name}_proj.bias`];
    const split = tf.reshape(bias ? tf.add(projected, bias) : projected, [-1, count, config.headDim]);
    const norm = weights[`${at}.${name}_norm.weight`];
    return norm ? rmsNorm(split, norm, config.normEpsilon) : split;
  };
  const query = applyRope(heads("q", config.heads), cos, sin);
  return {
    query: tf.mul(query, 1 / Math.sqrt(config.headDim)),
    key: applyRope(heads("k", config.keyValueHeads), cos, sin),
    value: heads("v", config.keyValueHeads),
  };
}

/** Attention of the new tokens to themselves, causally, and to the cache: [M, H * E]. */
function attend(
  query: tf.Tensor,
  { key, value }: KeyValue,
  past: KeyValue | null,
  { config, sequences, tokens, pastMask }: ChunkContext,
): tf.Tensor {
  const { heads, keyValueHeads, headDim } = config;
  const shared = heads / keyValueHeads;
  const grouped = tf.reshape(
    tf.transpose(tf.reshape(query, [sequences, tokens, heads, headDim]), [0, 2, 1, 3]),
    [sequences, keyValueHeads, shared * tokens, headDim],
  );
  const raw = tf.matMul(grouped, key, false, true); // [N, K, G * C, C]
  const self =
    tokens === 1
      ? raw
      : tf.reshape(
          tf.add(
            tf.reshape(raw, [sequences, heads, tokens, tokens]),
            tf.tensor(causalMask(tokens), [tokens, tokens]),
          ),
          raw.shape as number[],
        );
  let mixed: tf.Tensor;
  if (past === null) mixed = tf.matMul(tf.softmax(self), value);
  else {
    const before = tf.add(tf.matMul(grouped, past.key, false, true), pastMask!); // [N, K, G * C, L]
    const attention = tf.softmax(tf.concat([self, before], -1));
    const [toSelf, toPast] = tf.split(attention, [tokens, before.shape[3]!], -1) as [tf.Tensor, tf.Tensor];
    mixed = tf.add(tf.matMul(toPast, past.value), tf.matMul(toSelf, value));
  }
  const byToken = tf.transpose(tf.reshape(mixed, [sequences, heads, tokens, headDim]), [0, 2, 1, 3]);
  return tf.reshape(byToken, [sequences * tokens, heads * headDim]);
}

/**
 * New tokens of every sequence, against the cache of the tokens before them.
 * @param weights - under their Hugging Face names, with the adapter's
 * @param ids - [N, C] int32
 * @param starts - [N] int32, position of each sequence's first new token, at most L; cache entries at and after it are
 * ignored, if finite
 * @param cache - per layer, keys and values [N, K, L, E]; null: nothing is before them, and `starts` are 0
 * @returns hidden [M, D] before the last norm; per layer the new tokens' keys and values [N, K, C, E]
 */
export function decodeChunk(
  weights: Weights,
  ids: tf.Tensor2D,
  starts: tf.Tensor1D,
  cache: readonly KeyValue[] | null,
  config: DecoderConfig,
): { hidden: tf.Tensor2D; keyValues: KeyValue[] } {
  const [sequences, tokens] = ids.shape;
  const context = chunkContext(starts, tokens, cache?.[0]?.key.shape[2] ?? 0, config);
  const keyValues: KeyValue[] = [];
  const normed = (x: tf.Tensor, name: string): tf.Tensor =>
    tf.expandDims(rmsNorm(x, weights[`${name}.weight`]!, config.normEpsilon), 0); // [1, M, D]
  const byHead = (x: tf.Tensor): tf.Tensor =>
    tf.transpose(tf.reshape(x, [sequences, tokens, config.keyValueHeads, config.headDim]), [0, 2, 1, 3]);
  let x: tf.Tensor = tf.gather(
    weights["model.embed_tokens.weight"]!,
    tf.reshape(ids, [sequences * tokens]) as tf.Tensor1D,
  );
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `model.layers.${layer}`;
    const heads = newHeads(normed(x, `${at}.input_layernorm`), weights, `${at}.self_attn`, context);
    const fresh = { key: byHead(heads.key), value: byHead(heads.value) };
    keyValues.push(fresh);
    const attended = tf.expandDims(attend(heads.query, fresh, cache?.[layer] ?? null, context), 0);
    x = tf.add(x, byRow(project(attended, weights, `${at}.self_attn.o_proj`, config)));
    const again = normed(x, `${at}.post_attention_layernorm`);
    const gate = project(again, weights, `${at}.mlp.gate_proj`, config); // [1, F, M]
    const up = project(again, weights, `${at}.mlp.up_proj`, config);
    const gated = tf.mul(tf.mul(gate, tf.sigmoid(gate)), up);
    x = tf.add(x, byRow(project(gated, weights, `${at}.mlp.down_proj`, config, true)));
  }
  return { hidden: x as tf.Tensor2D, keyValues };
}

/** Logits [M, V] of hidden states [M, D] as `decodeChunk` gives them. */
export function chunkLogits(weights: Weights, hidden: tf.Tensor2D, config: DecoderConfig): tf.Tensor2D {
  const head = weights["lm_head.weight"] ?? weights["model.embed_tokens.weight"]!;
  const normed = rmsNorm(hidden, weights["model.norm.weight"]!, config.normEpsilon);
  return byRow(product(head, tf.expandDims(normed, 0))) as tf.Tensor2D;
}
