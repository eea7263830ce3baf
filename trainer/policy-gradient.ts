import * as tf from "../tensor/tfjs.js";
import { logRatio } from "./importance.js";

/** How far one update may move a token's probability before its gradient stops. */
export interface ClipOptions {
  /** The ratio's lower bound is 1 - clipLow. */
  readonly clipLow: number;
  /** Its upper bound is 1 + clipHigh; above clipLow it lets rare tokens grow (clip-higher, arXiv 2503.14476). */
  readonly clipHigh: number;
  /** Bound on ratio x |advantage| where the advantage is negative (dual clip, arXiv 1912.09729); null: none. */
  readonly dualClip: number | null;
}

/**
 * PPO's clipped loss of each token, negative because it is minimised.
 * @param logProbs - any shape; the only input that carries a gradient
 * @param oldLogProbs - same shape; equal to logProbs (detached) when the update is on-policy
 * @param advantages - same shape
 * @returns perToken, and isClipped: 1 where the clipped term won, so that no gradient flows (dual clip not counted)
 * @see PPO, arXiv 1707.06347, equation 7
 */
export function clippedPolicyLoss<T extends tf.Tensor>(
  logProbs: T,
  oldLogProbs: T,
  advantages: T,
  options: ClipOptions,
): { perToken: T; isClipped: T } {
  const ratio = tf.exp(logRatio(logProbs, oldLogProbs));
  const bounded = tf.clipByValue(ratio, 1 - options.clipLow, 1 + options.clipHigh);
  const gain = tf.neg(advantages);
  const free = tf.mul(gain, ratio);
  const clipped = tf.mul(gain, bounded);
  // The free term first: at ratio 1 the two tie, and tfjs gives a tie's gradient to the first argument.
  const pessimistic = tf.maximum(free, clipped);
  const isClipped = tf.cast(tf.greater(clipped, free), "float32");
  if (options.dualClip === null) return { perToken: pessimistic as T, isClipped: isClipped as T };
  const floor = tf.mul(gain, options.dualClip);
  const perToken = tf.where(tf.less(advantages, 0), tf.minimum(pessimistic, floor), pessimistic);
  return { perToken: perToken as T, isClipped: isClipped as T };
}
