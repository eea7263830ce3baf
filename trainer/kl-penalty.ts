import * as tf from "../tensor/tfjs.js";
import { MAX_LOG_RATIO } from "./importance.js";
import type { KlEstimator } from "./objective-config.js";

/** k3 of one token is cut here, as the log-ratio is: a token that the policy has left behind must not rule the batch. */
const MOST_K3 = 10;

/**
 * Estimate of KL(policy || reference) from the sampled tokens: k1 = log p - log q (unbiased), k2 = k1^2 / 2 (small
 * variance), k3 = q/p - 1 - log(q/p) (unbiased, never negative).
 * @see Schulman 2020, "Approximating KL divergence", joschu.net/blog/kl-approx.html
 */
export function klPenalty<T extends tf.Tensor>(logProbs: T, refLogProbs: T, estimator: KlEstimator): T {
  if (estimator === "k1") return tf.sub(logProbs, refLogProbs);
  if (estimator === "k2") return tf.mul(tf.square(tf.sub(logProbs, refLogProbs)), 0.5) as T;
  const d = tf.clipByValue(tf.sub(refLogProbs, logProbs), -MAX_LOG_RATIO, MAX_LOG_RATIO);
  return tf.clipByValue(tf.sub(tf.sub(tf.exp(d), d), 1), -MOST_K3, MOST_K3) as T;
}
