/**
 * Causal attention of long rows in blocks of queries, each against the keys up to its own end: half of the products and
 * bytes of whole [T, T] scores. Its gradient keeps each block's attention and makes two elementwise passes over it, where
 * that of a softmax over masked, scaled scores makes five.
 * Shapes: B rows, T tokens, H query heads, K key/value heads, G = H / K, E head width; a block has C queries and sees
 * the first L keys.
 */
import * as tf from "../tensor/tfjs.js";

/** Some queries of a row, and how many keys they see. */
export interface QueryBlock {
  readonly start: number;
  readonly size: number;
  /** start + size: keys from here on come after every query of the block. */
  readonly end: number;
}

/** Rows up to this long are one block. */
const SMALLEST_BLOCK = 128;
/** Smaller ones save little more of a long row, and each is some 25 nodes a layer. */
const LARGEST_BLOCK = 256;
/** Longer rows have more blocks, then larger ones: 8 of 128, 16 of 256. At 1024 tokens 8 are 5 % faster than 4. */
const [FEW_BLOCKS, MOST_BLOCKS] = [8, 16];

/** Blocks of queries of a row, nearly equal in size. */
export function queryBlocks(length: number): QueryBlock[] {
  const wanted = Math.min(Math.max(SMALLEST_BLOCK, length / FEW_BLOCKS), LARGEST_BLOCK);
  const count = Math.ceil(length / Math.max(wanted, length / MOST_BLOCKS));
  return Array.from({ length: count }, (_, i) => {
    const [start, end] = [Math.floor((i * length) / count), Math.floor(((i + 1) * length) / count)];
    return { start, size: end - start, end };
  });
}

/** Queries of the largest block of a row. */
export const largestBlock = (length: number): number =>
  Math.max(...queryBlocks(length).map(({ size }) => size));

/** Heads of whole rows: queries after RoPE, scaled, [B, T, H, E]; keys after RoPE and values, both [B, K, T, E]. */
export interface RowHeads {
  readonly query: tf.Tensor;
  readonly key: tf.Tensor;
  readonly value: tf.Tensor;
}

/**
 * Values mixed by causal attention.
 * @param mask - the last rows of the causal mask, [largest C, T]; its lower right corner is the mask of every block
 * @returns [B, T, H, E]
 */
export function blockedAttention({ query, key, value }: RowHeads, mask: tf.Tensor): tf.Tensor {
  const blocks = queryBlocks(query.shape[1]!);
  return tf.customGrad((...inputs) => {
    const [q, k, v, save] = inputs as [tf.Tensor, tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    const parts = blocks.map((block) => attend(block, { query: q, key: k, value: v }, mask));
    const mixed = joined(parts.map((part) => part.mixed));
    save([q, k, v, mixed, ...parts.map(({ attention }) => attention)]);
    return {
      value: mixed,
      gradFunc: (dMixed: tf.Tensor, saved: tf.Tensor[]) => {
        const [query, key, value, mixed, ...attention] = saved as [tf.Tensor, ...tf.Tensor[]];
        const heads = { query, key: key!, value: value! };
        return gradients(dMixed, rowsOfProduct(dMixed, mixed!), heads, blocks, attention);
      },
    };
  })(query, key, value);
}

/** One block: its attention [B, K, G * C, L] and mixed values [B, C, H, E]. */
function attend(
  block: QueryBlock,
  { query, key, value }: RowHeads,
  mask: tf.Tensor,
): { attention: tf.Tensor; mixed: tf.Tensor } {
  const [rows, , heads] = query.shape as [number, number, number];
  const { size, end } = block;
  const scores = tf.matMul(byKeyHead(query, block, key), seen(key, block), false, true);
  const corner = tf.slice(mask, [mask.shape[0]! - size, mask.shape[1]! - end], [size, end]);
  const masked = tf.add(tf.reshape(scores, [rows, heads, size, end]), corner);
  const attention = tf.reshape(tf.softmax(masked), scores.shape);
  return { attention, mixed: byToken(tf.matMul(attention, seen(value, block)), block, heads) };
}

/**
 * Gradients of query, key and value. With mixed values O = P V: dV = P^T dO; dS = P (dP - rowsum(P dP)) with dP = dO V^T, where
 * rowsum(P dP) = rowsum(dO O) needs no pass over P; dQ = dS K; dK = dS^T Q.
 * @param rowSums - rowsum(dO O), [B, T, H, 1]
 * @param attention - P of each block
 */
function gradients(
  dMixed: tf.Tensor,
  rowSums: tf.Tensor,
  { query, key, value }: RowHeads,
  blocks: readonly QueryBlock[],
  attention: readonly tf.Tensor[],
): tf.Tensor[] {
  const dQueries: tf.Tensor[] = [];
  let dKey: tf.Tensor | null = null;
  let dValue: tf.Tensor | null = null;
  // The last block first: it sees all keys, and each one before it adds to a beginning of that.
  for (const [i, block] of [...blocks.entries()].reverse()) {
    const p = attention[i]!;
    const dO = byKeyHead(dMixed, block, key);
    const dP = tf.matMul(dO, seen(value, block), false, true);
    const dS = tf.mul(p, tf.sub(dP, byKeyHead(rowSums, block, key)));
    dValue = addedToFirst(dValue, tf.matMul(p, dO, true, false));
    dKey = addedToFirst(dKey, tf.matMul(dS, byKeyHead(query, block, key), true, false));
    dQueries.unshift(byToken(tf.matMul(dS, seen(key, block)), block, query.shape[2]!));
  }
  return [joined(dQueries), dKey!, dValue!];
}

const rowsOfProduct = (a: tf.Tensor, b: tf.Tensor): tf.Tensor => tf.sum(tf.mul(a, b), -1, true);

/** Blocks [B, C, H, E] side by side: [B, T, H, E]. */
const joined = (blocks: tf.Tensor[]): tf.Tensor => tf.concat(blocks, 1);

/** What of [B, T, H, E] belongs to a block, the query heads that share a key's together: [B, K, G * C, E]. */
function byKeyHead(x: tf.Tensor, { start, size }: QueryBlock, key: tf.Tensor): tf.Tensor {
  const [rows, , heads, width] = x.shape as [number, number, number, number];
  const keyHeads = key.shape[1]!;
  const own = tf.transpose(tf.slice(x, [0, start, 0, 0], [rows, size, heads, width]), [0, 2, 1, 3]);
  return tf.reshape(own, [rows, keyHeads, (heads / keyHeads) * size, width]);
}

/** The way back: [B, K, G * C, E] -> [B, C, H, E]. */
function byToken(x: tf.Tensor, { size }: QueryBlock, heads: number): tf.Tensor {
  const [rows, , , width] = x.shape as [number, number, number, number];
  return tf.transpose(tf.reshape(x, [rows, heads, size, width]), [0, 2, 1, 3]);
}

/** The keys or values that a block sees: [B, K, T, E] -> [B, K, L, E]. */
const seen = (x: tf.Tensor, { end }: QueryBlock): tf.Tensor =>
  tf.slice(x, [0, 0, 0, 0], [x.shape[0]!, x.shape[1]!, end, x.shape[3]!]);

/** A sum over blocks [B, K, T, E] with one's part [B, K, L, E] added to its first L keys. */
function addedToFirst(sum: tf.Tensor | null, part: tf.Tensor): tf.Tensor {
  if (sum === null) return part;
  const [length, all] = [part.shape[2]!, sum.shape[2]!];
  const [first, rest] = tf.split(sum, [length, all - length], 2) as [tf.Tensor, tf.Tensor];
  return tf.concat([tf.add(first, part), rest], 2);
}
