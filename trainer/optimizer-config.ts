import { z } from "zod";

const shared = {
  weight_decay: z
    .number()
    .nonnegative()
    .default(0.01)
    .describe("Decoupled decay of matrices; norms and biases are never decayed."),
  clip_norm: z
    .number()
    .positive()
    .nullable()
    .default(1)
    .describe("Gradients longer than this in all are scaled down to it; null: never."),
  warmup_steps: z.int().nonnegative().default(0).describe("Steps over which the learning rate rises from 0."),
  schedule: z
    .enum(["constant", "linear", "cosine"])
    .default("constant")
    .describe("How the learning rate falls at the end of the run."),
  decay_fraction: z
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe("Last part of the run in which it falls; the rest is constant."),
  final_fraction: z.number().min(0).max(1).default(0).describe("Where it ends, as a fraction of its peak."),
  microbatch_tokens: z
    .int()
    .positive()
    .default(4096)
    .describe("Padded tokens computed at once. Memory depends on it, the update does not."),
  recompute: z
    .enum(["auto", "layers", "none"])
    .default("auto")
    .describe(
      "layers: keeps one layer's activations at a time and computes them again going back, logits in chunks; none: " +
        "keeps all, faster for a small policy; auto: from 64M parameters on layer by layer too, keeping what kept_mb has " +
        "room for. The update is the same.",
    ),
  kept_mb: z
    .int()
    .nonnegative()
    .default(1024)
    .describe(
      "Layer by layer under recompute: auto, megabytes of matrix products kept on the way forward, so that going back need " +
        "not compute them again; none under an adapter on cpu. Memory depends on it, the update does not.",
    ),
};

const betas = z
  .tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)])
  .default([0.9, 0.98])
  .describe("Decay of AdamW's running mean and running square.");

export const AdamwConfig = z
  .strictObject({
    type: z.literal("adamw"),
    lr: z.number().positive().default(5e-4).describe("Peak learning rate."),
    betas,
    offload: z
      .boolean()
      .default(false)
      .describe(
        "On webgpu: moments, self-teacher and KL reference stay in host memory, and AdamW is taken there. For a policy that " +
          "would not fit otherwise: it costs time. Implies recompute: layers or auto. Elsewhere they are in host memory anyway.",
      ),
    ...shared,
  })
  .describe("AdamW, arXiv 1711.05101.");

export const MuonConfig = z
  .strictObject({
    type: z.literal("muon"),
    lr: z.number().positive().default(0.02).describe("Peak learning rate of the hidden matrices."),
    momentum: z.number().min(0).lt(1).default(0.95).describe("Nesterov momentum of the hidden matrices."),
    adamw_lr: z
      .number()
      .positive()
      .default(4e-3)
      .describe("Peak learning rate of embedding, head, norms and biases, which AdamW trains."),
    betas,
    ...shared,
  })
  .describe("Muon (kellerjordan.github.io/posts/muon) on hidden matrices, AdamW on the rest.");

/** How gradients change the weights: `optimizer:` of a run. */
export const OptimizerConfig = z.discriminatedUnion("type", [AdamwConfig, MuonConfig]);
export type OptimizerConfig = z.infer<typeof OptimizerConfig>;
