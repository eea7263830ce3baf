/** What the loss of some response tokens is fed: which inputs an objective has, their shapes, their values. */

import type { TensorMap, TensorSpec } from "../tensor/index.js";
import type * as tf from "../tensor/tfjs.js";
import { logProbsAt, logSoftmax, tokenLogProbs } from "./log-probs.js";
import { hasPolicyGradient, hasTeacher, type ObjectiveConfig } from "./objective-config.js";
import type { Microbatch } from "./pack-batch.js";
import { LOSS_TERMS, type TeacherView, teacherView } from "./training-loss.js";

const float = (...shape: number[]): TensorSpec => ({ shape, dtype: "float32" });
const int = (...shape: number[]): TensorSpec => ({ shape, dtype: "int32" });

/** Inputs of `tokenTerms` and `weightedLoss` that hold one number for each of R tokens. */
export function lossSpecs(
  positions: number,
  objective: ObjectiveConfig,
  isOnPolicy: boolean,
): Record<string, TensorSpec> {
  const perToken = (...names: string[]): Record<string, TensorSpec> =>
    Object.fromEntries(names.map((name) => [name, float(positions)]));
  const targets = { targets: int(positions) };
  if (objective.type === "raft" || objective.type === "sft")
    return { ...targets, ...perToken("imitate_weights") };
  const specs = { ...targets, ...(isOnPolicy ? {} : perToken("old_log_probs")) };
  if (objective.importance_clip !== null) Object.assign(specs, perToken("rollout_log_probs"));
  if (hasPolicyGradient(objective)) Object.assign(specs, perToken("policy_weights", "advantages"));
  if (objective.kl_coefficient > 0) Object.assign(specs, perToken("kl_weights", "ref_log_probs"));
  return hasTeacher(objective) ? { ...specs, ...perToken("distill_weights") } : specs;
}

/** Inputs of `tokenTerms` that hold the teacher's log-probabilities, and where they are taken. */
export function teacherSpecs(
  positions: number,
  objective: ObjectiveConfig,
  vocabulary: number,
): Record<string, TensorSpec> {
  if (!hasTeacher(objective)) return {};
  const view = teacherView(objective, vocabulary);
  if (view.kind === "sampled") return { teacher_log_probs: float(positions) };
  const width = view.kind === "topk" ? view.k : vocabulary;
  return {
    ...(view.kind === "topk" ? viewSpecs(positions, view) : {}),
    teacher_log_probs: float(positions, width),
  };
}

/** Inputs of `viewed` beside the logits. */
export function viewSpecs(positions: number, view: TeacherView): Record<string, TensorSpec> {
  if (view.kind === "topk") return { topk_indices: int(positions, view.k) };
  return view.kind === "sampled" ? { targets: int(positions) } : {};
}

/** The teacher's log-probabilities from its logits [R, V], where the objective looks. */
export function viewed(logits: tf.Tensor2D, inputs: TensorMap, view: TeacherView): tf.Tensor {
  if (view.kind === "topk") return logProbsAt(logits, inputs.topk_indices as tf.Tensor2D);
  return view.kind === "sampled" ? tokenLogProbs(logits, inputs.targets as tf.Tensor1D) : logSoftmax(logits);
}

/** A microbatch's arrays [R] under the names of `lossSpecs`. */
export function tokenArrays(microbatch: Microbatch): Record<string, Float32Array | Int32Array> {
  const arrays: Record<string, Float32Array | Int32Array> = {
    targets: microbatch.targets,
    advantages: microbatch.advantages,
    rollout_log_probs: microbatch.rolloutLogProbs,
  };
  for (const term of LOSS_TERMS) arrays[`${term}_weights`] = microbatch.weights[term];
  return arrays;
}
