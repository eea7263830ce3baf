import * as tf from "../tensor/tfjs.js";
import { stopGradient } from "./log-probs.js";

/** One stale token with a log-ratio of 800 would make the whole batch's loss Infinity. */
export const MAX_LOG_RATIO = 20;

/** log(p / q) of each token, kept within exp's range. */
export function logRatio(logProbs: tf.Tensor, oldLogProbs: tf.Tensor): tf.Tensor {
  return tf.clipByValue(tf.sub(logProbs, oldLogProbs), -MAX_LOG_RATIO, MAX_LOG_RATIO);
}

/**
 * Truncated importance weight of each token: min(p / q, most), a constant to the gradient. Only large weights are cut.
 * @param logProbs - of the distribution that the loss is about
 * @param behaviourLogProbs - of the distribution that sampled the token
 * @see TIS as in SDPO, arXiv 2601.20802, appendix A.4
 */
export function truncatedImportance<T extends tf.Tensor>(logProbs: T, behaviourLogProbs: T, most: number): T {
  return stopGradient(tf.minimum(tf.exp(logRatio(logProbs, behaviourLogProbs)), most)) as T;
}
