import { describe, expect, test } from "vitest";
import { ObjectiveConfig, OptimizerConfig } from "../../trainer/index.js";

const issuesOf = (schema: typeof ObjectiveConfig | typeof OptimizerConfig, value: unknown): string[] => {
  const parsed = schema.safeParse(value);
  return parsed.success
    ? []
    : parsed.error.issues.map(({ path, message }) => `${path.join(".")}: ${message}`);
};

describe("ObjectiveConfig", () => {
  test("defaults are those of docs/objectives.md", () => {
    expect(ObjectiveConfig.parse({ type: "mix" })).toEqual({
      type: "mix",
      lambda: 0.5,
      advantage: "dr_grpo",
      clip_low: 0.2,
      clip_high: 0.28,
      dual_clip: 3,
      alpha: 0.5,
      topk: null,
      tail: true,
      sampled_token_only: false,
      teacher_rate: 0.01,
      demonstration: "random",
      self_demonstration: false,
      feedback: "without_demonstration",
      success_threshold: 0.5,
      remove_thinking: true,
      max_teacher_tokens: 10_240,
      templates: {},
      aggregation: "token_mean",
      importance_clip: 2,
      kl_coefficient: 0,
      kl_estimator: "k3",
      minibatches: 1,
    });
    expect(ObjectiveConfig.parse({ type: "sft" })).toEqual({ type: "sft", aggregation: "token_mean" });
  });

  test("the sampled-token estimate is of one divergence only", () => {
    const sampled = { type: "sdpo", sampled_token_only: true };
    expect(issuesOf(ObjectiveConfig, sampled)).toEqual([
      "alpha: sampled_token_only estimates KL(policy||teacher): set alpha: 1",
    ]);
    expect(issuesOf(ObjectiveConfig, { ...sampled, alpha: 1 })).toEqual([]);
  });

  test("a knob of another objective is unknown", () => {
    expect(issuesOf(ObjectiveConfig, { type: "grpo", alpha: 1 })).toEqual([': Unrecognized key: "alpha"']);
    expect(issuesOf(ObjectiveConfig, { type: "ppo" })).toHaveLength(1);
  });
});

describe("OptimizerConfig", () => {
  test("AdamW and Muon have the rates of the quick start's recipe", () => {
    expect(OptimizerConfig.parse({ type: "adamw" })).toMatchObject({
      lr: 5e-4,
      betas: [0.9, 0.98],
      clip_norm: 1,
    });
    expect(OptimizerConfig.parse({ type: "muon" })).toMatchObject({
      lr: 0.02,
      momentum: 0.95,
      adamw_lr: 4e-3,
    });
  });

  test.each([
    [{ type: "adamw", lr: 0 }, "lr: "],
    [{ type: "adamw", betas: [0.9, 1] }, "betas.1: "],
    [{ type: "adamw", momentum: 0.9 }, ": Unrecognized"],
  ])("%j is refused", (value, want) => {
    expect(issuesOf(OptimizerConfig, value).join()).toContain(want);
  });
});
