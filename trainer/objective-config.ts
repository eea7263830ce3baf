import { z } from "zod";
import { ADVANTAGE_ESTIMATORS } from "./advantages.js";

export const KL_ESTIMATORS = ["k1", "k2", "k3"] as const;
export type KlEstimator = (typeof KL_ESTIMATORS)[number];

const shared = {
  aggregation: z
    .enum(["token_mean", "per_sequence"])
    .default("token_mean")
    .describe(
      "token_mean: mean over all trained tokens; per_sequence: mean over all sequences of each one's token mean.",
    ),
};

const policyUpdate = {
  ...shared,
  importance_clip: z
    .number()
    .positive()
    .nullable()
    .default(2)
    .describe("Where a token's importance weight (trainer over sampler) is truncated; null: no weights."),
  kl_coefficient: z
    .number()
    .nonnegative()
    .default(0)
    .describe("Weight of the KL term to the frozen initial policy; 0 keeps no copy of it."),
  kl_estimator: z.enum(KL_ESTIMATORS).default("k3").describe("Estimator of that term."),
  minibatches: z
    .int()
    .positive()
    .default(1)
    .describe("Optimizer steps a batch is divided into; 1 is strictly on-policy."),
};

const policyGradient = {
  advantage: z
    .enum(ADVANTAGE_ESTIMATORS)
    .default("dr_grpo")
    .describe(
      "dr_grpo: reward - group mean; grpo: also divided by the spread; rloo: against the others' mean.",
    ),
  clip_low: z.number().min(0).max(1).default(0.2).describe("A token's ratio stops counting below 1 - this."),
  clip_high: z.number().positive().default(0.28).describe("And above 1 + this (clip-higher)."),
  dual_clip: z
    .number()
    .min(1)
    .nullable()
    .default(3)
    .describe("Bound on the ratio where the advantage is negative; null: none."),
};

const successThreshold = z
  .number()
  .default(0.5)
  .describe("A rollout with at least this reward is a success.");

const selfDistillation = {
  alpha: z
    .number()
    .min(0)
    .max(1)
    .default(0.5)
    .describe("Divergence: 0 KL(teacher||policy), 1 KL(policy||teacher), between them Jensen-Shannon."),
  topk: z
    .int()
    .positive()
    .nullable()
    .default(null)
    .describe("Compare at the policy's k likeliest tokens; null: the whole vocabulary."),
  tail: z.boolean().default(true).describe("With topk: one bin for all other tokens, else rescale the k."),
  sampled_token_only: z
    .boolean()
    .default(false)
    .describe("Distil from the sampled token's probability alone; needs alpha 1."),
  teacher_rate: z
    .number()
    .min(0)
    .max(1)
    .default(0.01)
    .describe("Step of the teacher's running average; 0: frozen, 1: the policy itself."),
  demonstration: z
    .enum(["random", "first"])
    .default("random")
    .describe("Which successful sibling the teacher is shown."),
  self_demonstration: z
    .boolean()
    .default(false)
    .describe("May a success be shown its own program? If not, a lone success trains nothing."),
  feedback: z
    .enum(["without_demonstration", "always", "never"])
    .default("without_demonstration")
    .describe("When the teacher is shown what execution said of the attempt."),
  success_threshold: successThreshold,
  remove_thinking: z.boolean().default(true).describe("Cut <think> spans out of demonstrations."),
  max_teacher_tokens: z
    .int()
    .positive()
    .default(10_240)
    .describe("Longest teacher prompt; a longer one loses the middle of its feedback."),
  templates: z
    .strictObject({
      reprompt: z.string().optional().describe("Takes {prompt}, {solution}, {feedback}."),
      solution: z.string().optional().describe("Takes {successful_previous_attempt}."),
      feedback: z.string().optional().describe("Takes {feedback_raw}."),
    })
    .default({})
    .describe("Other texts of the teacher's prompt than SDPO's."),
};

export const GrpoConfig = z
  .strictObject({ type: z.literal("grpo"), ...policyGradient, ...policyUpdate })
  .describe("Group-relative policy gradient, arXiv 2402.03300 and 2503.20783.");

export const SdpoConfig = z
  .strictObject({ type: z.literal("sdpo"), ...selfDistillation, ...policyUpdate })
  .describe("Self-distillation from feedback and siblings, arXiv 2601.20802.");

export const MixConfig = z
  .strictObject({
    type: z.literal("mix"),
    lambda: z.number().min(0).max(1).default(0.5).describe("lambda x GRPO loss + (1 - lambda) x SDPO loss."),
    ...policyGradient,
    ...selfDistillation,
    ...policyUpdate,
  })
  .describe("A weighted sum of the two losses.");

export const RaftConfig = z
  .strictObject({ type: z.literal("raft"), success_threshold: successThreshold, ...shared })
  .describe("Imitation of the policy's own successes, arXiv 2304.06767.");

export const SftConfig = z
  .strictObject({ type: z.literal("sft"), ...shared })
  .describe("Imitation of demonstrations: the warm start.");

/** What the update optimises: `objective:` of a run. */
export const ObjectiveConfig = z
  .discriminatedUnion("type", [GrpoConfig, SdpoConfig, MixConfig, RaftConfig, SftConfig])
  .refine(
    (objective) =>
      !("sampled_token_only" in objective) || !objective.sampled_token_only || objective.alpha === 1,
    { path: ["alpha"], message: "sampled_token_only estimates KL(policy||teacher): set alpha: 1" },
  );
export type ObjectiveConfig = z.infer<typeof ObjectiveConfig>;
export type SelfDistillationConfig = z.infer<typeof SdpoConfig> | z.infer<typeof MixConfig>;
export type PolicyGradientConfig = z.infer<typeof GrpoConfig> | z.infer<typeof MixConfig>;

/** Whether the objective has a self-teacher. */
export function hasTeacher(objective: ObjectiveConfig): objective is SelfDistillationConfig {
  return objective.type === "sdpo" || objective.type === "mix";
}

/** Whether the objective has a policy-gradient part. */
export function hasPolicyGradient(objective: ObjectiveConfig): objective is PolicyGradientConfig {
  return objective.type === "grpo" || objective.type === "mix";
}
