import "@tensorflow/tfjs-backend-cpu";
import "@tensorflow/tfjs-core/dist/register_all_gradients.js";
import * as tf from "@tensorflow/tfjs-core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { divergence, sampledTokenDistillation, topkBins, withTail } from "../../trainer/distillation.js";
import { distillationLoss } from "../../trainer/index.js";
import { logProbsAt, logSoftmax, tokenLogProbs } from "../../trainer/log-probs.js";
import { expectClose, FLOAT32, vector } from "./vectors.js";

interface Expected {
  per_token: number[];
  token_mean_mask110: number;
  token_mean_mask111: number;
  grad_student_logits_mask110: number[][];
}
const given = vector<{ student_logits: number[][]; teacher_logits: number[][]; sampled_tokens: number[] }>(
  "distillation",
);
const logits = { studentLogits: given.student_logits, teacherLogits: given.teacher_logits };
const sampledIds = given.sampled_tokens;

/** Gradient of the mean over the first two tokens, with respect to the student's logits. */
function gradient(perToken: (student: tf.Tensor2D) => tf.Tensor1D): number[][] {
  const loss = (student: tf.Tensor): tf.Tensor =>
    tf.sum(tf.mul(perToken(student as tf.Tensor2D), tf.tensor1d([0.5, 0.5, 0])));
  return tf.grad(loss)(tf.tensor2d(given.student_logits)).arraySync() as number[][];
}

const teacher = tf.tensor2d(given.teacher_logits);
const modes = [
  { name: "the whole vocabulary", path: ["full"], topk: null, tail: true },
  { name: "top 2 with a tail", path: ["topk2", "with_tail"], topk: 2, tail: true },
  { name: "top 2 rescaled", path: ["topk2", "renorm_no_tail"], topk: 2, tail: false },
];
const alphas = ["0.0", "0.25", "0.5", "1.0"];

describe("SDPO's reference numbers", () => {
  for (const { name, path, topk, tail } of modes) {
    test.each(alphas)(`divergence over ${name}, alpha %s`, (key) => {
      const want = vector<Expected>("distillation", ...path, `alpha_${key}`);
      const alpha = Number(key);
      const masked = distillationLoss({ ...logits, mask: [1, 1, 0], alpha, topk, tail });
      expectClose(masked.perToken, want.per_token);
      expectClose(masked.loss, want.token_mean_mask110);
      const whole = distillationLoss({ ...logits, mask: [1, 1, 1], alpha, topk, tail });
      expectClose(whole.loss, want.token_mean_mask111);
    });

    test.each(alphas)(`gradient over ${name}, alpha %s`, (key) => {
      const want = vector<Expected>("distillation", ...path, `alpha_${key}`);
      const indices = tf.tensor2d(
        vector<number[][]>("distillation", "topk2", "indices_from_student"),
        undefined,
        "int32",
      );
      const bins = (of: tf.Tensor2D): tf.Tensor2D =>
        topk === null ? logSoftmax(of) : topkBins(logProbsAt(of, indices), tail);
      const got = gradient((student) => divergence(bins(student), bins(teacher), Number(key)));
      expectClose(got, want.grad_student_logits_mask110);
    });
  }

  test("distillation from the sampled token alone, and its gradient", () => {
    const want = vector<Expected>("distillation", "token_level_no_full_logits_alpha_1");
    const inputs = { ...logits, sampledIds, sampledTokenOnly: true, alpha: 1 };
    const masked = distillationLoss({ ...inputs, mask: [1, 1, 0] });
    expectClose(masked.perToken, want.per_token);
    expectClose(masked.loss, want.token_mean_mask110);
    expectClose(distillationLoss({ ...inputs, mask: [1, 1, 1] }).loss, want.token_mean_mask111);
    const ids = tf.tensor1d(sampledIds, "int32");
    const got = gradient((student) =>
      sampledTokenDistillation(tokenLogProbs(student, ids), tokenLogProbs(teacher, ids)),
    );
    expectClose(got, want.grad_student_logits_mask110);
  });

  test("importance weights: truncated at 2, then the sampler's", () => {
    const want = vector<{
      old_log_probs: number[];
      rollout_is_weights: number[];
      "full_jsd0.5": {
        per_token_is_only: number[];
        per_token_is_and_rollout: number[];
        loss_is_only_mask110: number;
        loss_is_and_rollout_mask110: number;
      };
      topk2_tail_revkl: Record<string, number>;
    }>("distillation", "importance_sampling");
    const inputs = { ...logits, mask: [1, 1, 0], sampledIds };
    const [oldLogProbs, weights] = [want.old_log_probs, want.rollout_is_weights];
    const ratio = distillationLoss({ ...inputs, oldLogProbs });
    expectClose(ratio.perToken, want["full_jsd0.5"].per_token_is_only);
    expectClose(ratio.loss, want["full_jsd0.5"].loss_is_only_mask110);
    const both = distillationLoss({ ...inputs, oldLogProbs, weights });
    expectClose(both.perToken, want["full_jsd0.5"].per_token_is_and_rollout);
    expectClose(both.loss, want["full_jsd0.5"].loss_is_and_rollout_mask110);
    const reverse = { ...inputs, weights, topk: 2, alpha: 1 };
    expectClose(
      distillationLoss({ ...reverse, oldLogProbs }).loss,
      want.topk2_tail_revkl.loss_is_and_rollout_mask110!,
    );
    expectClose(
      distillationLoss(reverse).loss,
      want.topk2_tail_revkl.loss_rollout_only_is_clip_null_mask110!,
    );
  });

  test("top-k log-probabilities, the tail bin and the rescaled ones", () => {
    const indices = tf.tensor2d(
      vector<number[][]>("distillation", "topk2", "indices_from_student"),
      undefined,
      "int32",
    );
    for (const [name, of] of Object.entries({
      student: given.student_logits,
      teacher: given.teacher_logits,
    })) {
      const chosen = logProbsAt(tf.tensor2d(of), indices);
      expectClose(chosen.arraySync(), vector("distillation", "topk2", `${name}_topk_logp`));
      expectClose(
        topkBins(chosen, true).arraySync(),
        vector("distillation", "topk2", `${name}_with_tail_logp`),
      );
      expectClose(
        topkBins(chosen, false).arraySync(),
        vector("distillation", "topk2", `${name}_renorm_logp`),
      );
    }
  });

  test("a tail without any mass counts as 1e-7", () => {
    const { logits: peaked, with_tail_logp } = vector<{ logits: number[]; with_tail_logp: number[] }>(
      "distillation",
      "tail_clamp_case",
    );
    const top = logProbsAt(tf.tensor2d([peaked]), tf.tensor2d([[0, 1]], undefined, "int32"));
    expectClose(withTail(top).arraySync()[0]!, with_tail_logp);
  });
});

/** A backend of the caller's that can do nothing: any op that landed on it would throw. */
class Inert extends tf.KernelBackend {
  override dispose(): void {}
}

describe("distillation", () => {
  const rows = fc.array(fc.float({ min: -6, max: 6, noNaN: true }), { minLength: 6, maxLength: 6 });
  const alpha = fc.constantFrom(0, 0.1, 0.25, 0.5, 0.9, 1);

  test("a teacher that agrees with the student gives no loss and no gradient", () =>
    fc.assert(
      fc.property(rows, alpha, fc.constantFrom(null, 2, 6), (row, a, topk) => {
        const { loss } = distillationLoss({ studentLogits: [row], teacherLogits: [row], alpha: a, topk });
        expectClose(loss, 0);
        const slope = tf.grad((s) =>
          tf.sum(divergence(logSoftmax(s as tf.Tensor2D), logSoftmax(tf.tensor2d([row])), a)),
        );
        expectClose(slope(tf.tensor2d([row])).arraySync() as number[][], [[0, 0, 0, 0, 0, 0]]);
      }),
      { numRuns: 40 },
    ));

  test("no divergence is negative, and adding a constant to the logits changes none", () =>
    fc.assert(
      fc.property(rows, rows, alpha, fc.integer({ min: -50, max: 50 }), (s, q, a, lift) => {
        const { loss } = distillationLoss({ studentLogits: [s], teacherLogits: [q], alpha: a });
        expect(loss).toBeGreaterThanOrEqual(-FLOAT32);
        const lifted = { studentLogits: [s.map((z) => z + lift)], teacherLogits: [q.map((z) => z - lift)] };
        // Logits of 50 have 4e-6 between neighbours.
        expectClose(distillationLoss({ ...lifted, alpha: a }).loss, loss, 2e-5);
      }),
    ));

  test("top-k over the whole vocabulary without a tail is the full divergence", () =>
    fc.assert(
      fc.property(rows, rows, alpha, (s, q, a) => {
        const inputs = { studentLogits: [s], teacherLogits: [q], alpha: a };
        expectClose(
          distillationLoss({ ...inputs, topk: 6, tail: false }).loss,
          distillationLoss(inputs).loss,
          5e-6,
        );
      }),
    ));

  test("Jensen-Shannon at 0.5 is symmetric and at most ln 2, even for distributions that never meet", () => {
    const far = { studentLogits: [[500, 0, 0]], teacherLogits: [[0, 500, 0]], alpha: 0.5 };
    const { loss } = distillationLoss(far);
    expectClose(loss, Math.LN2);
    const swapped = { studentLogits: far.teacherLogits, teacherLogits: far.studentLogits, alpha: 0.5 };
    expectClose(distillationLoss(swapped).loss, loss);
  });

  test("the gradient of every divergence meets finite differences", () => {
    const step = 1e-2; // float32: smaller steps drown in rounding, and the error left is step^2
    for (const a of [0, 0.3, 0.5, 1]) {
      for (const topk of [null, 2]) {
        const lossAt = (row: number[]): number =>
          distillationLoss({
            studentLogits: [row],
            teacherLogits: [given.teacher_logits[0]!],
            alpha: a,
            topk,
          }).loss;
        const row = given.student_logits[0]!;
        const indices = tf.tensor2d([[0, 1]], undefined, "int32");
        const bins = (of: tf.Tensor2D): tf.Tensor2D =>
          topk === null ? logSoftmax(of) : topkBins(logProbsAt(of, indices), true);
        const exact = tf
          .grad((s) =>
            tf.sum(divergence(bins(s as tf.Tensor2D), bins(tf.tensor2d([given.teacher_logits[0]!])), a)),
          )(tf.tensor2d([row]))
          .arraySync() as number[][];
        const measured = row.map((_, j) => {
          const moved = (by: number): number[] => row.map((z, i) => (i === j ? z + by : z));
          return (lossAt(moved(step)) - lossAt(moved(-step))) / (2 * step);
        });
        expectClose(measured, exact[0]!, 1e-4);
      }
    }
  });

  test("nothing masked in: loss 0", () => {
    expect(distillationLoss({ ...logits, mask: [0, 0, 0] }).loss).toBe(0);
  });

  test.each([
    { name: "a short mask", change: { mask: [1] }, message: "mask has 1 entries, need 3" },
    { name: "alpha 2", change: { alpha: 2 }, message: "alpha is 2, need a number from 0 to 1" },
    { name: "topk 0", change: { topk: 0 }, message: "topk is 0, need 1 or more, or null" },
    {
      name: "the sampled-token estimate of another divergence",
      change: { sampledTokenOnly: true, sampledIds },
      message: "sampledTokenOnly estimates KL(student || teacher): it needs alpha 1",
    },
  ])("$name: a RangeError that says so", ({ change, message }) => {
    expect(() => distillationLoss({ ...logits, ...change })).toThrow(new RangeError(message));
  });

  test("leaves no tensor behind and tfjs's backend as it was", () => {
    tf.registerBackend("another", () => new Inert());
    void tf.setBackend("another");
    const before = tf.engine().state.numTensors;
    distillationLoss(logits);
    expect([tf.getBackend(), tf.engine().state.numTensors]).toEqual(["another", before]);
    void tf.setBackend("cpu");
    tf.removeBackend("another");
  });
});
