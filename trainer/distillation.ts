/**
 * The divergence between policy and self-teacher, per token. Inputs are log-probabilities over bins: the vocabulary, or
 * the student's top-k tokens plus one bin for the rest. Only the student carries a gradient.
 * @see SDPO, arXiv 2601.20802, section 2 and appendix A; lasgroup/SDPO@0e6d510, core_algos.py
 */
import * as tf from "../tensor/tfjs.js";
import { logSumExp, stopGradient } from "./log-probs.js";

type Save = (tensors: tf.Tensor[]) => void;

/** The rest of the distribution counts as at least this much, so that its logarithm stays finite. */
const LEAST_TAIL = 1e-7;

/** log((1 - alpha) S + alpha Q) from log S and log Q, without ever leaving log space. */
function logMixture(student: tf.Tensor, teacher: tf.Tensor, alpha: number): tf.Tensor {
  const s = tf.add(student, Math.log(1 - alpha));
  const q = tf.add(teacher, Math.log(alpha));
  return tf.add(tf.maximum(s, q), tf.log(tf.add(tf.exp(tf.neg(tf.abs(tf.sub(s, q)))), 1)));
}

/**
 * Divergence of each position, summed over its bins: alpha 0 is KL(teacher || student), 1 is KL(student || teacher),
 * between them the generalised Jensen-Shannon divergence (1 - alpha) KL(S || M) + alpha KL(Q || M), with
 * M = (1 - alpha) S + alpha Q. The ends are not its limits: it goes to 0 there, and is about a quarter of them.
 * @param student - [N, K] log-probabilities that sum to 1 over the bins
 * @param teacher - [N, K] the same bins
 * @returns [N]
 */
export function divergence(student: tf.Tensor2D, teacher: tf.Tensor2D, alpha: number): tf.Tensor1D {
  if (!(alpha >= 0 && alpha <= 1)) throw new RangeError(`alpha is ${alpha}, need a number from 0 to 1`);
  const q = teacher;
  return tf.customGrad((input: tf.Tensor | Save, save: tf.Tensor | Save) => {
    const s = input as tf.Tensor;
    if (alpha === 0) {
      const probabilities = tf.exp(q);
      (save as Save)([probabilities]);
      return {
        value: tf.sum(tf.mul(probabilities, tf.sub(q, s)), -1),
        gradFunc: (dy: tf.Tensor, [p]: tf.Tensor[]) => tf.mul(tf.expandDims(tf.neg(dy), -1), p!),
      };
    }
    // Both gradients below are with respect to log S, S = exp(log S) moving with it and M with S.
    const probabilities = tf.exp(s);
    if (alpha === 1) {
      const gap = tf.sub(s, q);
      (save as Save)([tf.mul(probabilities, tf.add(gap, 1))]);
      return {
        value: tf.sum(tf.mul(probabilities, gap), -1),
        gradFunc: (dy: tf.Tensor, [slope]: tf.Tensor[]) => tf.mul(tf.expandDims(dy, -1), slope!),
      };
    }
    const mixture = logMixture(s, q, alpha);
    const fromStudent = tf.mul(tf.mul(probabilities, tf.sub(s, mixture)), 1 - alpha);
    const fromTeacher = tf.mul(tf.mul(tf.exp(q), tf.sub(q, mixture)), alpha);
    (save as Save)([fromStudent]);
    return {
      value: tf.sum(tf.add(fromStudent, fromTeacher), -1),
      gradFunc: (dy: tf.Tensor, [slope]: tf.Tensor[]) => tf.mul(tf.expandDims(dy, -1), slope!),
    };
  })(student) as tf.Tensor1D;
}

/**
 * -expm1(x) for x < 0 without cancellation near 0, where float32's 1 - exp(x) has no digits left.
 * The series is cut after x^6 / 720, exact to float32 down to x = -0.2.
 */
function oneMinusExp(x: tf.Tensor): tf.Tensor {
  const near = tf.maximum(x, -0.2);
  let series = tf.add(tf.mul(near, 1 / 6), 1);
  for (const order of [5, 4, 3, 2]) series = tf.add(tf.mul(tf.mul(near, series), 1 / order), 1);
  return tf.where(tf.greater(x, -0.2), tf.neg(tf.mul(near, series)), tf.sub(1, tf.exp(x)));
}

/** log(1 - p) from log p, never below log(1e-7): [N, 1] -> [N, 1]. */
function logRest(logCovered: tf.Tensor2D): tf.Tensor2D {
  return tf.customGrad((input: tf.Tensor | Save, save: tf.Tensor | Save) => {
    const x = input as tf.Tensor;
    const bounded = tf.minimum(x, -LEAST_TAIL);
    const rest = oneMinusExp(bounded);
    const isFree = tf.cast(tf.less(x, -LEAST_TAIL), "float32");
    (save as Save)([tf.neg(tf.mul(isFree, tf.div(tf.exp(bounded), rest)))]);
    return {
      value: tf.log(rest),
      gradFunc: (dy: tf.Tensor, [slope]: tf.Tensor[]) => tf.mul(dy, slope!),
    };
  })(logCovered) as tf.Tensor2D;
}

/**
 * Log-probabilities of the top-k tokens and, as a last bin, of all others together.
 * @param logProbs - [N, K], normalised over the whole vocabulary
 * @returns [N, K + 1]; the last bin is never below log(1e-7)
 */
export function withTail(logProbs: tf.Tensor2D): tf.Tensor2D {
  return tf.concat([logProbs, logRest(logSumExp(logProbs))], 1);
}

/** The top-k log-probabilities [N, K], rescaled so that they alone sum to 1. */
export function renormalised(logProbs: tf.Tensor2D): tf.Tensor2D {
  return tf.sub(logProbs, logSumExp(logProbs));
}

/** The bins that `divergence` compares in top-k mode: [N, K] -> [N, K + 1] with a tail, [N, K] without. */
export function topkBins(logProbs: tf.Tensor2D, tail: boolean): tf.Tensor2D {
  return tail ? withTail(logProbs) : renormalised(logProbs);
}

/**
 * Distillation from the sampled token alone, for teachers that give no distribution:
 * stopgrad(log S - log Q) x log S, whose gradient estimates that of KL(student || teacher). Not itself a divergence.
 * @param student - [N] log-probability of the sampled token under the policy
 * @param teacher - [N] the same under the teacher
 */
export function sampledTokenDistillation(student: tf.Tensor1D, teacher: tf.Tensor1D): tf.Tensor1D {
  return tf.mul(stopGradient(tf.sub(student, teacher)), student);
}
