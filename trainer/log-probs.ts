/**
 * Log-probabilities from logits, over tfjs ops with static shapes and no read-back, so that they can be traced into a
 * graph. Everything is natural log in float32, shifted by the maximum. N positions, V vocabulary, K chosen tokens.
 */
import * as tf from "../tensor/tfjs.js";

type Save = (tensors: tf.Tensor[]) => void;

/** x, but nothing flows back through it. */
export function stopGradient<T extends tf.Tensor>(x: T): T {
  return tf.customGrad((input: tf.Tensor | Save) => ({
    value: tf.clone(input as tf.Tensor),
    gradFunc: (dy: tf.Tensor) => tf.zerosLike(dy),
  }))(x) as T;
}

/** log(sum(exp(x))) over the last axis: [N, V] -> [N, 1]. */
export function logSumExp(logits: tf.Tensor2D): tf.Tensor2D {
  return tf.customGrad((input: tf.Tensor | Save, save: tf.Tensor | Save) => {
    const x = input as tf.Tensor;
    const peak = tf.max(x, -1, true);
    const value = tf.add(tf.log(tf.sum(tf.exp(tf.sub(x, peak)), -1, true)), peak);
    (save as Save)([x, value]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => tf.mul(dy, tf.exp(tf.sub(saved[0]!, saved[1]!))),
    };
  })(logits) as tf.Tensor2D;
}

/** Log-probabilities of the whole vocabulary: [N, V] -> [N, V]. */
export function logSoftmax(logits: tf.Tensor2D): tf.Tensor2D {
  return tf.customGrad((input: tf.Tensor | Save, save: tf.Tensor | Save) => {
    const x = input as tf.Tensor2D;
    const value = tf.sub(x, logSumExp(x));
    (save as Save)([value]);
    return {
      value,
      gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) =>
        tf.sub(dy, tf.mul(tf.sum(dy, -1, true), tf.exp(saved[0]!))),
    };
  })(logits) as tf.Tensor2D;
}

/**
 * Rows of a matrix, none taken twice: x [M, D], rows [R] -> [R, D]. Its gradient is a gather as well, by the inverse
 * map, where the general one is a scatter-add: slow on CPUs, and order-dependent on GPUs.
 * @param inverse - [M] where each row of x went, or R: nowhere. Rows listed in `rows` but not in `inverse` are padding
 */
export function gatherOnce(x: tf.Tensor2D, rows: tf.Tensor1D, inverse: tf.Tensor1D): tf.Tensor2D {
  return tf.customGrad((input: tf.Tensor | Save) => ({
    value: tf.gather(input as tf.Tensor, rows),
    gradFunc: (dy: tf.Tensor) =>
      tf.gather(tf.concat([dy as tf.Tensor2D, tf.zeros<tf.Rank.R2>([1, x.shape[1]])], 0), inverse),
  }))(x) as tf.Tensor2D;
}

/**
 * values[n, indices[n, k]]: [N, V], [N, K] -> [N, K]. Gathers from the flattened matrix, whose gradient is one
 * scatter-add, where a one-hot product would need N x K x V numbers.
 */
export function pick(values: tf.Tensor2D, indices: tf.Tensor2D): tf.Tensor2D {
  const [rows, width] = values.shape;
  const starts = Int32Array.from({ length: rows }, (_, row) => row * width);
  const flat = tf.add(indices, tf.tensor2d(starts, [rows, 1], "int32"));
  const picked = tf.gather(tf.reshape(values, [rows * width]), tf.reshape(flat, [rows * indices.shape[1]]));
  return tf.reshape(picked, indices.shape);
}

/** Log-probability of one token at each position: logits [N, V], ids [N] -> [N]. */
export function tokenLogProbs(logits: tf.Tensor2D, ids: tf.Tensor1D): tf.Tensor1D {
  const rows = logits.shape[0];
  const chosen = pick(logits, tf.reshape(ids, [rows, 1]) as tf.Tensor2D);
  return tf.reshape(tf.sub(chosen, logSumExp(logits)), [rows]);
}

/** Log-probabilities at chosen tokens, normalised over the whole vocabulary: [N, V], [N, K] -> [N, K]. */
export function logProbsAt(logits: tf.Tensor2D, indices: tf.Tensor2D): tf.Tensor2D {
  return tf.sub(pick(logits, indices), logSumExp(logits));
}

/** The K likeliest tokens of each position: [N, V] -> [N, K] int32. No gradient: call it outside of one. */
export function topIndices(logits: tf.Tensor2D, k: number): tf.Tensor2D {
  return tf.topk(logits, Math.min(k, logits.shape[1])).indices as tf.Tensor2D;
}

/** Entropy of each position in nats: log-probabilities of the whole vocabulary [N, V] -> [N]. */
export function entropy(logProbs: tf.Tensor2D): tf.Tensor1D {
  return tf.neg(tf.sum(tf.mul(tf.exp(logProbs), logProbs), -1)) as tf.Tensor1D;
}
