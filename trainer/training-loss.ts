/** The loss of one microbatch, all objectives in one: which terms it has is fixed when the graph is traced. */

import type { TensorMap } from "../tensor/index.js";
import * as tf from "../tensor/tfjs.js";
import { divergence, sampledTokenDistillation, topkBins } from "./distillation.js";
import { truncatedImportance } from "./importance.js";
import { klPenalty } from "./kl-penalty.js";
import { entropy, logSoftmax, pick, stopGradient } from "./log-probs.js";
import {
  hasPolicyGradient,
  hasTeacher,
  type ObjectiveConfig,
  type SelfDistillationConfig,
} from "./objective-config.js";
import { clippedPolicyLoss } from "./policy-gradient.js";

/** What the teacher's log-probabilities are given at: every token of the vocabulary, the student's top k, the sampled one. */
export type TeacherView =
  | { readonly kind: "vocabulary" }
  | { readonly kind: "topk"; readonly k: number }
  | { readonly kind: "sampled" };

/** How an objective looks at its teacher; a k above the vocabulary is the vocabulary, in the policy's order. */
export function teacherView(objective: SelfDistillationConfig, vocabulary: number): TeacherView {
  if (objective.sampled_token_only) return { kind: "sampled" };
  return objective.topk === null
    ? { kind: "vocabulary" }
    : { kind: "topk", k: Math.min(objective.topk, vocabulary) };
}

/** Loss terms of each response token [R], before their weights; `log_probs` and `entropy` beside them. */
export interface TokenTerms {
  readonly log_probs: tf.Tensor1D;
  readonly entropy: tf.Tensor1D;
  readonly policy?: tf.Tensor1D;
  readonly is_clipped?: tf.Tensor1D;
  readonly distill?: tf.Tensor1D;
  readonly imitate?: tf.Tensor1D;
  readonly kl?: tf.Tensor1D;
}

/**
 * The terms of every token.
 * @param logits - [R, V] at the sampling temperature
 * @param inputs - `targets`, and as the objective needs: `advantages`, `rollout_log_probs`, `old_log_probs` (absent when
 * the update is on-policy: the policy's own, detached), `ref_log_probs`, `teacher_log_probs`, `topk_indices`
 */
export function tokenTerms(logits: tf.Tensor2D, inputs: TensorMap, objective: ObjectiveConfig): TokenTerms {
  const size = logits.shape[0];
  const all = logSoftmax(logits);
  const logProbs = tf.reshape(pick(all, tf.reshape(inputs.targets!, [size, 1]) as tf.Tensor2D), [
    size,
  ]) as tf.Tensor1D;
  const seen = { log_probs: logProbs, entropy: entropy(all) };
  if (objective.type === "raft" || objective.type === "sft") return { ...seen, imitate: tf.neg(logProbs) };

  const isOnPolicy = inputs.old_log_probs === undefined;
  const old = isOnPolicy ? stopGradient(logProbs) : (inputs.old_log_probs as tf.Tensor1D);
  const clip = objective.importance_clip;
  const samplerWeights =
    clip === null ? null : truncatedImportance(old, inputs.rollout_log_probs as tf.Tensor1D, clip);
  const weigh = (term: tf.Tensor1D, weights: tf.Tensor1D | null): tf.Tensor1D =>
    weights === null ? term : tf.mul(term, weights);

  const terms: { -readonly [Name in keyof TokenTerms]: TokenTerms[Name] } = { ...seen };
  if (hasPolicyGradient(objective)) {
    const bounds = {
      clipLow: objective.clip_low,
      clipHigh: objective.clip_high,
      dualClip: objective.dual_clip,
    };
    const { perToken, isClipped } = clippedPolicyLoss(
      logProbs,
      old,
      inputs.advantages as tf.Tensor1D,
      bounds,
    );
    terms.policy = weigh(perToken, samplerWeights);
    terms.is_clipped = isClipped;
  }
  if (hasTeacher(objective)) {
    const drift = isOnPolicy || clip === null ? null : truncatedImportance(logProbs, old, clip);
    terms.distill = weigh(weigh(distillTerm(all, logProbs, inputs, objective), drift), samplerWeights);
  }
  if (objective.kl_coefficient > 0)
    terms.kl = klPenalty(logProbs, inputs.ref_log_probs as tf.Tensor1D, objective.kl_estimator);
  return terms;
}

function distillTerm(
  all: tf.Tensor2D,
  logProbs: tf.Tensor1D,
  inputs: TensorMap,
  objective: SelfDistillationConfig,
): tf.Tensor1D {
  const teacher = inputs.teacher_log_probs!;
  const view = teacherView(objective, all.shape[1]);
  if (view.kind === "sampled") return sampledTokenDistillation(logProbs, teacher as tf.Tensor1D);
  if (view.kind === "vocabulary") return divergence(all, teacher as tf.Tensor2D, objective.alpha);
  const student = pick(all, inputs.topk_indices as tf.Tensor2D);
  const bins = (of: tf.Tensor2D): tf.Tensor2D => topkBins(of, objective.tail);
  return divergence(bins(student), bins(teacher as tf.Tensor2D), objective.alpha);
}

/** The terms that add up to the loss, each with the input that weighs its tokens. */
export const LOSS_TERMS = ["policy", "distill", "imitate", "kl"] as const;

/** Sum over terms and tokens of weight x term; the weights hold the denominators of the whole batch. */
export function weightedLoss(terms: TokenTerms, inputs: TensorMap): tf.Scalar {
  const sums = LOSS_TERMS.flatMap((name) => {
    const term = terms[name];
    return term ? [tf.sum(tf.mul(term, inputs[`${name}_weights`]!))] : [];
  });
  return sums.reduce((total, sum) => tf.add(total, sum)) as tf.Scalar;
}
