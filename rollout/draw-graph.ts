/**
 * Drawing tokens inside the graph, so that logits never leave a GPU: `drawToken` of sampling.ts in float32.
 * Shapes: S slots, V vocabulary, N blocks of L words each.
 */

import type { TensorSpec, Value } from "../tensor/index.js";
import * as tf from "../tensor/tfjs.js";
import type { SlotDraw, StreamedToken } from "./sampling.js";

/** Halvings of the interval in which the least logit kept lies: from some 100 wide down to float32's resolution. */
const HALVINGS = 30;

/** Which parts the graph has: a step in which no slot cuts the distribution does not pay for cutting. */
export interface DrawKind {
  /** Some slot asks for top-k or top-p. */
  readonly isCut: boolean;
  /** Most likely tokens to give beside the drawn one; 0: none. */
  readonly alternatives: number;
}

const KEYS = ["temperature", "top_p", "top_k", "uniform"] as const;

/** Inputs of `drawInGraph` beside the logits: all [S] float32. */
export const drawSpecs = (slots: number): Record<(typeof KEYS)[number], TensorSpec> => {
  const spec: TensorSpec = { shape: [slots], dtype: "float32" };
  return { temperature: spec, top_p: spec, top_k: spec, uniform: spec };
};

/** Feeds of `drawSpecs`. A slot without a sequence (null) draws greedily, and nobody looks. */
export function drawFeeds(
  draws: readonly (SlotDraw | null)[],
  vocabulary: number,
): Record<(typeof KEYS)[number], Float32Array> {
  const of = (read: (draw: SlotDraw) => number, none: number): Float32Array =>
    Float32Array.from(draws, (draw) => (draw === null ? none : read(draw)));
  return {
    temperature: of(({ temperature }) => temperature, 0),
    top_p: of(({ topP }) => (topP < 1 ? topP : 2), 2), // 2: never reached, also after rounding
    top_k: of(({ topK }) => (topK > 0 ? topK : vocabulary), vocabulary),
    uniform: of(({ uniform }) => uniform, 0),
  };
}

/** Numbers of alternatives that graphs are made for. */
const ALTERNATIVES = [0, 5, 20];

/** The smallest kind of graph that serves all slots. */
export function drawKind(draws: readonly (SlotDraw | null)[], vocabulary: number): DrawKind {
  const isCut = draws.some(
    (draw) =>
      draw !== null && draw.temperature > 0 && (draw.topP < 1 || (draw.topK > 0 && draw.topK < vocabulary)),
  );
  const most = Math.max(0, ...draws.map((draw) => draw?.alternatives ?? 0));
  return { isCut, alternatives: Math.min(ALTERNATIVES.find((count) => count >= most) ?? most, vocabulary) };
}

/** The tokens of all slots, from what `drawInGraph` gave. */
export function drawnTokens(
  outputs: Readonly<Record<string, Value>>,
  draws: readonly (SlotDraw | null)[],
): StreamedToken[] {
  const { drawn, log_probs, cut_log_probs, alternative_ids, alternative_log_probs } = outputs as Readonly<
    Record<string, Float32Array | undefined>
  >;
  const width = (alternative_ids?.length ?? 0) / draws.length;
  return draws.map((draw, slot) => {
    const token = { id: drawn![slot]!, logProb: log_probs![slot]!, cutLogProb: cut_log_probs![slot]! };
    const count = draw?.alternatives ?? 0;
    if (count === 0) return token;
    const alternatives = Array.from({ length: Math.min(count, width) }, (_, place) => ({
      id: alternative_ids![slot * width + place]!,
      logProb: alternative_log_probs![slot * width + place]!,
    }));
    return { ...token, alternatives };
  });
}

/** Sums over the words, block by block: one running sum of 151,936 small numbers would lose digits. [S, V] -> [S, N, L] */
function inBlocks(words: tf.Tensor2D): tf.Tensor3D {
  const [slots, vocabulary] = words.shape;
  const length = Math.ceil(Math.sqrt(vocabulary));
  const blocks = Math.ceil(vocabulary / length);
  const padded = tf.pad(words, [
    [0, 0],
    [0, blocks * length - vocabulary],
  ]);
  return tf.reshape(padded, [slots, blocks, length]);
}

const count = (condition: tf.Tensor): tf.Tensor1D => tf.sum(tf.cast(condition, "float32"), -1) as tf.Tensor1D;
const column = (row: tf.Tensor): tf.Tensor2D => tf.reshape(row, [row.size, 1]);
const asId = (row: tf.Tensor1D): tf.Tensor1D => tf.cast(row, "int32");

/** Place of the first running sum above the target; of the last word that adds to the sum, where rounding passes all. */
function firstAbove(sums: tf.Tensor2D, target: tf.Tensor1D): tf.Tensor1D {
  const last = tf.max(sums, -1, true);
  return tf.minimum(count(tf.lessEqual(sums, column(target))), count(tf.less(sums, last)));
}

/** Row `index[s]` of each slot: [S, N, ...] and [S] -> [S, ...]. */
function rowOfEach(rows: tf.Tensor, index: tf.Tensor1D): tf.Tensor {
  const [slots, length] = rows.shape as [number, number];
  const starts = tf.tensor1d(
    Int32Array.from({ length: slots }, (_, slot) => slot * length),
    "int32",
  );
  return tf.gather(tf.reshape(rows, [slots * length, ...rows.shape.slice(2)]), tf.add(starts, asId(index)));
}

/** The inverse of the cumulative distribution at `uniform`, of weights in blocks that sum to `total`: [S]. */
function drawFrom(blocks: tf.Tensor3D, total: tf.Tensor1D, uniform: tf.Tensor1D): tf.Tensor1D {
  const ofBlocks = tf.cumsum(tf.sum(blocks, -1), -1) as tf.Tensor2D;
  const target = tf.mul(total, uniform) as tf.Tensor1D;
  const block = firstAbove(ofBlocks, target);
  const before = tf.mul(
    rowOfEach(ofBlocks, tf.maximum(tf.sub(block, 1), 0)),
    tf.cast(tf.greater(block, 0), "float32"),
  );
  // Not below 0, else a word of weight 0 at the block's start would be drawn.
  const rest = tf.maximum(tf.sub(target, before), 0) as tf.Tensor1D;
  const word = firstAbove(tf.cumsum(rowOfEach(blocks, block), -1) as tf.Tensor2D, rest);
  return tf.add(tf.mul(block, blocks.shape[2]), word);
}

/** The smallest of the positions at which a row has its largest element: [S]. */
function firstMaximum(x: tf.Tensor2D): tf.Tensor1D {
  const fromEnd = tf.range(x.shape[1], 0, -1, "float32");
  const isLargest = tf.cast(tf.greaterEqual(x, tf.max(x, -1, true)), "float32");
  return tf.sub(x.shape[1], tf.max(tf.mul(isLargest, fromEnd), -1));
}

/**
 * 1 for the words that top-k and top-p leave, else 0: [S, V]. Nothing is sorted: a word is left when fewer than k words
 * stand above it and their weights reach less than p, so the logit at which that ends is found by halving. Words whose
 * logits are equal to the last digit are cut or left together.
 * @param scores - logits less the largest, over the temperature
 */
function leftByCut(scores: tf.Tensor2D, weights: tf.Tensor2D, total: tf.Tensor1D, inputs: Inputs): tf.Tensor {
  const most = tf.mul(inputs.top_p, total);
  let low = tf.sub(tf.min(scores, -1), 1) as tf.Tensor1D; // everything stands above it
  let high = tf.zerosLike(low);
  for (let i = 0; i < HALVINGS; i++) {
    const middle = tf.mul(tf.add(low, high), 0.5) as tf.Tensor1D;
    const isAbove = tf.cast(tf.greater(scores, column(middle)), "float32");
    const isFew = tf.less(tf.sum(isAbove, -1), inputs.top_k);
    const isLight = tf.less(tf.sum(tf.sum(inBlocks(tf.mul(isAbove, weights)), -1), -1), most);
    const isLeft = tf.logicalAnd(isFew, isLight);
    low = tf.where(isLeft, low, middle);
    high = tf.where(isLeft, middle, high);
  }
  return tf.cast(tf.greater(scores, column(low)), "float32");
}

type Inputs = Readonly<Record<(typeof KEYS)[number], tf.Tensor1D>>;

/**
 * Draws a token for each slot.
 * @param logits - [S, V]
 * @returns [S] `drawn` int32, `log_probs` of the whole distribution and `cut_log_probs` after the cut, at the slot's
 * temperature (0: greedy, at temperature 1); with alternatives, `alternative_ids` and `alternative_log_probs` [S, n]
 */
export function drawInGraph(
  logits: tf.Tensor2D,
  inputs: Inputs,
  { isCut, alternatives }: DrawKind,
): Record<string, tf.Tensor> {
  const isGreedy = tf.lessEqual(inputs.temperature, 0);
  const temperature = tf.where(isGreedy, tf.onesLike(inputs.temperature), inputs.temperature);
  const scores = tf.div(tf.sub(logits, tf.max(logits, -1, true)), column(temperature)) as tf.Tensor2D;
  const weights = tf.exp(scores);
  const blocks = inBlocks(weights);
  const total = tf.sum(tf.sum(blocks, -1), -1) as tf.Tensor1D;
  const left = isCut ? inBlocks(tf.mul(weights, leftByCut(scores, weights, total, inputs))) : blocks;
  const kept = isCut ? (tf.sum(tf.sum(left, -1), -1) as tf.Tensor1D) : total;
  const id = tf.where(isGreedy, firstMaximum(logits), drawFrom(left, kept, inputs.uniform)) as tf.Tensor1D;
  const logTotal = tf.log(total);
  const logProb = tf.sub(rowOfEach(scores, id), logTotal);
  const cut = isCut ? tf.add(logProb, tf.log(tf.div(total, kept))) : logProb;
  const drawn = {
    drawn: asId(id),
    log_probs: logProb,
    cut_log_probs: tf.where(isGreedy, tf.zerosLike(cut), cut),
  };
  if (alternatives === 0) return drawn;
  const { values, indices } = tf.topk(scores, alternatives);
  return {
    ...drawn,
    alternative_ids: indices,
    alternative_log_probs: tf.sub(values, column(logTotal)),
  };
}
