import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-core/dist/register_all_gradients.js";
import * as tf from "@tensorflow/tfjs-core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { AGGREGATIONS, aggregate, parseAggregation, sequenceWeights } from "../../trainer/aggregation.js";
import { truncatedImportance } from "../../trainer/importance.js";
import { policyGradientLoss } from "../../trainer/index.js";
import { klPenalty } from "../../trainer/kl-penalty.js";
import { clippedPolicyLoss } from "../../trainer/policy-gradient.js";
import { averageTeacher } from "../../trainer/teacher-average.js";
import { expectClose, vector } from "./vectors.js";

type Matrix = number[][];
const given =
  vector<Record<"log_prob" | "old_log_prob" | "advantages" | "response_mask", Matrix>>("policy_losses");
const clip = { clipLow: 0.2, clipHigh: 0.28, dualClip: 3 };
const batch = {
  logProbs: given.log_prob,
  oldLogProbs: given.old_log_prob,
  advantages: given.advantages,
  mask: given.response_mask,
  ...clip,
  aggregation: "token-mean",
} as const;

describe("SDPO's reference numbers", () => {
  test("clipped policy loss: per token, mean, clip fraction and KL", () => {
    const got = policyGradientLoss(batch);
    expectClose(got.perToken, vector("policy_losses", "vanilla_per_token"));
    expectClose(got.loss, vector("policy_losses", "vanilla_token_mean"));
    expectClose(got.clipFraction, vector("policy_losses", "vanilla_pg_clipfrac"));
    expectClose(got.kl, vector("policy_losses", "ppo_kl"));
  });

  test("clipped policy loss with the sampler's importance weights", () => {
    const weights = vector<Matrix>("policy_losses", "vanilla_with_rollout_is_weights", "weights");
    const want = vector<number>("policy_losses", "vanilla_with_rollout_is_weights", "token_mean");
    expectClose(policyGradientLoss({ ...batch, weights }).loss, want);
  });

  test("gradient of the clipped policy loss", () => {
    const tensors = [given.old_log_prob, given.advantages, given.response_mask].map((rows) =>
      tf.tensor2d(rows),
    );
    const got = tf.grad((logProbs) => {
      const { perToken } = clippedPolicyLoss(logProbs, tensors[0]!, tensors[1]!, clip);
      return tf.div(tf.sum(tf.mul(perToken, tensors[2]!)), 5);
    })(tf.tensor2d(given.log_prob));
    expectClose(got.arraySync() as Matrix, vector("policy_losses", "vanilla_dloss_dlogp_token_mean"));
  });

  test.each(
    vector<{ ratio: number; advantage: number; loss: number }[]>("policy_losses", "vanilla_scalar_table"),
  )("ratio $ratio with advantage $advantage costs $loss", ({ ratio, advantage, loss }) => {
    const one = { logProbs: [[Math.log(ratio)]], oldLogProbs: [[0]], advantages: [[advantage]], mask: [[1]] };
    expectClose(policyGradientLoss({ ...one, ...clip, aggregation: "token-mean" }).loss, loss);
  });

  test.each(["token-mean", "seq-mean-token-sum", "seq-mean-token-mean", "seq-mean-token-sum-norm"] as const)(
    "aggregation %s",
    (mode) => {
      const { loss_mat, loss_mask } = vector<{ loss_mat: Matrix; loss_mask: Matrix }>("agg_loss");
      // The reference adds 1e-8 to each sequence's length.
      expectClose(aggregate(loss_mat, loss_mask, mode), vector("agg_loss", mode), 1e-8);
    },
  );

  test.each([
    { trained: [1, 0], key: "self_distillation_mask_1_0" },
    { trained: [1, 1], key: "self_distillation_mask_1_1" },
    { trained: [0, 0], key: "self_distillation_mask_0_0" },
  ])("samples without a teacher are masked out: $trained", ({ trained, key }) => {
    const { per_token_loss, response_mask } = vector<{ per_token_loss: Matrix; response_mask: Matrix }>(
      "distillation",
      "batch_masking",
    );
    const mask = response_mask.map((row, b) => row.map((m) => m * trained[b]!));
    expectClose(
      aggregate(per_token_loss, mask, "token-mean"),
      vector("distillation", "batch_masking", key),
      1e-12,
    );
  });

  test("per-sequence aggregation is the reference's microbatches of one", () => {
    const { per_token_loss, response_mask } = vector<{ per_token_loss: Matrix; response_mask: Matrix }>(
      "distillation",
      "microbatch_effect",
    );
    const want = (key: string): number => vector("distillation", "microbatch_effect", key);
    const untrained = response_mask.map((row, b) => (b === 1 ? row.map(() => 0) : row));
    expectClose(
      aggregate(per_token_loss, response_mask, "token-mean"),
      want("one_microbatch_token_mean"),
      1e-12,
    );
    expectClose(
      aggregate(per_token_loss, response_mask, "per-sequence"),
      want("microbatch_size_1_accumulated"),
      1e-12,
    );
    expectClose(
      aggregate(per_token_loss, untrained, "per-sequence"),
      want("microbatch_size_1_with_sd_mask_1_0_1"),
      1e-12,
    );
  });

  test.each([
    { estimator: "k1", key: "k1" },
    { estimator: "k2", key: "k2" },
    { estimator: "k3", key: "k3_low_var_kl" },
  ] as const)("KL estimator $estimator", ({ estimator, key }) => {
    const logProbs = tf.tensor1d(vector<number[]>("kl_penalty", "log_prob"));
    const refLogProbs = tf.tensor1d(vector<number[]>("kl_penalty", "ref_log_prob"));
    expectClose(klPenalty(logProbs, refLogProbs, estimator).arraySync(), vector("kl_penalty", key));
  });

  test("truncated importance weights of the sampler's tokens", () => {
    const part = vector<Record<string, number[]> & { threshold: number }>("rollout_correction_token_tis");
    const weights = truncatedImportance(
      tf.tensor1d(part.old_log_probs!),
      tf.tensor1d(part.rollout_log_probs!),
      part.threshold,
    );
    expectClose(tf.mul(weights, part.response_mask!).arraySync() as number[], part.weights!);
  });

  test("the teacher's running average over three steps", () => {
    const ema = vector<Record<string, number[]> & { update_rate: number }>("teacher", "ema");
    const student = tf.tensor1d(ema.student_constant!);
    let teacher: tf.Tensor = tf.tensor1d(ema.teacher0!);
    for (const step of ["after_1", "after_2", "after_3"]) {
      teacher = averageTeacher(teacher, student, tf.scalar(ema.update_rate));
      expectClose(teacher.arraySync() as number[], ema[step]!);
    }
    const slow = averageTeacher(tf.tensor1d(ema.teacher0!), student, tf.scalar(0.01));
    expectClose(slow.arraySync() as number[], ema["after_1_rate_0.01"]!);
  });
});

describe("policyGradientLoss", () => {
  const logProb = fc.float({ min: -8, max: 0, noNaN: true });
  const pair = fc.tuple(logProb, logProb, fc.float({ min: -2, max: 2, noNaN: true }));

  test("on-policy, the loss is minus the mean advantage and nothing is clipped", () =>
    fc.assert(
      fc.property(fc.array(pair, { minLength: 1, maxLength: 8 }), (tokens) => {
        const logProbs = [tokens.map(([logProbability]) => logProbability)];
        const advantages = [tokens.map(([, , advantage]) => advantage)];
        const got = policyGradientLoss({ logProbs, oldLogProbs: logProbs, advantages });
        const mean = advantages[0]!.reduce((a, b) => a + b, 0) / tokens.length;
        expectClose(got.loss, -mean);
        expect([got.clipFraction, got.kl]).toEqual([0, 0]);
      }),
    ));

  test("on-policy, the gradient of each token is minus its advantage", () => {
    const advantages = tf.tensor1d([1, -0.5, 0]);
    const old = tf.tensor1d([-1, -2, -3]);
    const slope = tf.grad((x) => tf.sum(clippedPolicyLoss(x, old, advantages, clip).perToken))(tf.clone(old));
    expectClose(slope.arraySync() as number[], [-1, 0.5, 0]);
  });

  test("never better than the unclipped loss, save where the dual clip bounds it", () =>
    fc.assert(
      fc.property(pair, ([logProbability, old, advantage]) => {
        const one = { logProbs: [[logProbability]], oldLogProbs: [[old]], advantages: [[advantage]] };
        const free = -advantage * Math.exp(logProbability - old);
        const { loss } = policyGradientLoss({ ...one, dualClip: null });
        expect(loss).toBeGreaterThanOrEqual(free - 1e-5 * Math.max(1, Math.abs(free)));
        const bounded = policyGradientLoss(one).loss;
        expect(bounded).toBeLessThanOrEqual(3 * Math.abs(advantage) + 1e-5);
      }),
    ));

  test("a log-ratio of 800 stays finite", () => {
    const wild = { logProbs: [[0]], oldLogProbs: [[-800]], advantages: [[-1]] };
    expectClose(policyGradientLoss({ ...wild, dualClip: null }).loss, Math.exp(20), 1e-5);
    expectClose(policyGradientLoss(wild).loss, 3);
  });

  test("per_sequence weighs every sequence the same, however long", () => {
    const rows = {
      logProbs: [
        [0, 0, 0],
        [0, 0, 0],
      ],
      oldLogProbs: [
        [0, 0, 0],
        [0, 0, 0],
      ],
      advantages: [
        [-1, -1, -1],
        [-4, 0, 0],
      ],
      mask: [
        [1, 1, 1],
        [1, 0, 0],
      ],
    };
    expectClose(policyGradientLoss({ ...rows, aggregation: "per_sequence" }).loss, 2.5);
    expectClose(policyGradientLoss({ ...rows, aggregation: "token_mean" }).loss, 7 / 4);
  });

  test("shapes that do not match: a RangeError that says so", () => {
    expect(() => policyGradientLoss({ ...batch, advantages: [[1, 1, 1]] })).toThrow(
      new RangeError("advantages has 1 entries, need 2"),
    );
  });
});

describe("sequenceWeights", () => {
  const tokenCounts = fc.array(fc.integer({ min: 0, max: 30 }), { minLength: 1, maxLength: 9 });

  test("a batch where every token costs 1 costs 1, whatever the mean", () =>
    fc.assert(
      fc.property(tokenCounts, fc.constantFrom("token-mean", "seq-mean-token-mean"), (tokens, mode) => {
        const weights = sequenceWeights(tokens, parseAggregation(mode));
        const total = tokens.reduce((sum, count, b) => sum + count * weights[b]!, 0);
        expectClose(total, tokens.some((count) => count > 0) ? 1 : 0, 1e-12);
      }),
    ));

  test("an unknown aggregation is refused by name", () => {
    expect(() => parseAggregation("mean")).toThrow(
      new RangeError(`aggregation "mean" is not one of ${AGGREGATIONS.join(", ")}`),
    );
  });
});
