import * as tf from "../tensor/tfjs.js";

/**
 * One step of the teacher's running average: (1 - rate) x teacher + rate x policy. Rate 0 freezes the teacher, 1 makes
 * it the policy itself. SDPO takes one step per training batch, after its last optimizer step.
 */
export function averageTeacher(teacher: tf.Tensor, policy: tf.Tensor, rate: tf.Scalar): tf.Tensor {
  return tf.add(teacher, tf.mul(rate, tf.sub(policy, teacher)));
}
