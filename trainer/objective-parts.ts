import type { Sample } from "../core/index.js";
import { parseAggregation, sequenceWeights } from "./aggregation.js";
import { hasPolicyGradient, hasTeacher, type ObjectiveConfig } from "./objective-config.js";

/** Weight of every token of one sample in each term of the loss; 0: the term does not touch it. */
export interface SampleWeights {
  readonly policy: number;
  readonly distill: number;
  readonly imitate: number;
  readonly kl: number;
}

/**
 * Weights of the samples of one optimizer step. Each term has its own denominator, over the samples that it counts:
 * - policy gradient and KL: every sample with a reward, also those whose advantage is 0;
 * - distillation: samples with a teacher (`per_sequence`: the others count as 0 in the mean);
 * - imitation: successes (RAFT), everything (SFT).
 * An infrastructure failure (reward null) counts nowhere.
 * @returns [B] in order; a sample whose weights are all 0, or 0 but for a policy term with advantage 0, need not be run
 */
export function sampleWeights(samples: readonly Sample[], objective: ObjectiveConfig): SampleWeights[] {
  const counted = samples.filter(({ reward }) => reward !== null);
  const weigh = (isIn: (sample: Sample) => boolean, factor: number): Map<Sample, number> => {
    if (factor === 0) return new Map();
    const tokens = counted.map((sample) => (isIn(sample) ? sample.completionIds.length : 0));
    const weights = sequenceWeights(tokens, parseAggregation(objective.aggregation));
    return new Map(counted.map((sample, i) => [sample, factor * weights[i]!]));
  };
  const lambda = objective.type === "mix" ? objective.lambda : 1;
  const policy = weigh(() => true, hasPolicyGradient(objective) ? lambda : 0);
  const distill = weigh(
    ({ teacherPromptIds }) => teacherPromptIds !== null,
    hasTeacher(objective) ? (objective.type === "mix" ? 1 - lambda : 1) : 0,
  );
  const isImitated = ({ reward }: Sample): boolean =>
    objective.type !== "raft" || reward! >= objective.success_threshold;
  const imitate = weigh(isImitated, objective.type === "raft" || objective.type === "sft" ? 1 : 0);
  const kl = weigh(() => true, "kl_coefficient" in objective ? objective.kl_coefficient : 0);
  return samples.map((sample) => ({
    policy: policy.get(sample) ?? 0,
    distill: distill.get(sample) ?? 0,
    imitate: imitate.get(sample) ?? 0,
    kl: kl.get(sample) ?? 0,
  }));
}

/** Whether a sample changes the gradient, so that it must go through the model. */
export function hasSignal(sample: Sample, weights: SampleWeights): boolean {
  if (sample.completionIds.length === 0) return false;
  const isPushed = weights.policy !== 0 && sample.advantage !== 0;
  return isPushed || weights.distill !== 0 || weights.imitate !== 0 || weights.kl !== 0;
}
