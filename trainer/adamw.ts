import * as tf from "../tensor/tfjs.js";

export const ADAMW_EPSILON = 1e-8;

/** Scalars of one step. The corrections 1 / (1 - beta^t) come from the host: float32 has no digits for 1 - 0.999. */
export interface AdamwStep {
  readonly lr: tf.Scalar;
  readonly correction1: tf.Scalar;
  readonly correction2: tf.Scalar;
}

/**
 * AdamW on one parameter.
 * @param weightDecay - decoupled: weight x lr x decay is taken off, whatever the gradient
 * @see Loshchilov & Hutter, arXiv 1711.05101
 */
export function adamw(
  parameter: { weight: tf.Tensor; gradient: tf.Tensor; moment1: tf.Tensor; moment2: tf.Tensor },
  step: AdamwStep,
  [beta1, beta2]: readonly [number, number],
  weightDecay: number,
): { weight: tf.Tensor; moment1: tf.Tensor; moment2: tf.Tensor } {
  const { weight, gradient } = parameter;
  const moment1 = tf.add(tf.mul(parameter.moment1, beta1), tf.mul(gradient, 1 - beta1));
  const moment2 = tf.add(tf.mul(parameter.moment2, beta2), tf.mul(tf.mul(gradient, gradient), 1 - beta2));
  const spread = tf.add(tf.sqrt(tf.mul(moment2, step.correction2)), ADAMW_EPSILON);
  const direction = tf.div(tf.mul(moment1, step.correction1), spread);
  const change = weightDecay === 0 ? direction : tf.add(direction, tf.mul(weight, weightDecay));
  return { weight: tf.sub(weight, tf.mul(step.lr, change)), moment1, moment2 };
}

/** The bias corrections of optimizer step t (1 for the first), in float64. */
export function biasCorrections(
  [beta1, beta2]: readonly [number, number],
  t: number,
): { correction1: number; correction2: number } {
  return { correction1: 1 / (1 - beta1 ** t), correction2: 1 / (1 - beta2 ** t) };
}
