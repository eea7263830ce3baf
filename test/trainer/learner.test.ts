import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import { afterAll, describe, expect, test } from "vitest";
import type { Sample } from "../../core/index.js";
import { decoderLogits } from "../../policy/index.js";
import { type Learner, type LearnerState, NonFiniteUpdateError } from "../../trainer/index.js";
import { learned, tinyConfig, tinyLearner, tinyModel, tinySamples, tinyWeights } from "./tiny.js";
import { expectClose, FLOAT32 } from "./vectors.js";

const opened: Learner[] = [];
afterAll(async () => {
  for (const learner of opened) await learner.dispose();
});
const open = (...args: Parameters<typeof tinyLearner>): Learner => {
  const learner = tinyLearner(...args);
  opened.push(learner);
  return learner;
};

async function weightsOf(learner: Learner): Promise<Record<string, number[]>> {
  const { tensors } = await learner.exportState();
  return Object.fromEntries(
    Object.keys(tinyModel.shapes).map((name) => [name, [...tensors[`weights/${name}`]!.data]]),
  );
}

const objectives = [
  { type: "sft" },
  { type: "sft", aggregation: "per_sequence" },
  { type: "raft" },
  { type: "grpo" },
  { type: "grpo", aggregation: "per_sequence", kl_coefficient: 0.1 },
  { type: "sdpo" },
  { type: "sdpo", topk: 4, alpha: 1, kl_coefficient: 0.1 },
  { type: "sdpo", topk: 4, tail: false, alpha: 0, aggregation: "per_sequence" },
  { type: "sdpo", sampled_token_only: true, alpha: 1 },
  { type: "mix", lambda: 0.3, minibatches: 2 },
];

describe("one supervised step", () => {
  test("is the gradient of the mean cross-entropy over response tokens, and AdamW's first step", async () => {
    const samples = tinySamples(3, 4);
    const learner = open({ optimizer: { lr: 0.01, weight_decay: 0, clip_norm: null } });
    const { loss, trained_tokens } = await learner.update({ samples });

    const names = Object.keys(tinyModel.shapes);
    const start = names.map((name) => tf.tensor(tinyWeights()[name]!, [...tinyModel.shapes[name]!]));
    const meanCrossEntropy = (...parameters: tf.Tensor[]): tf.Scalar => {
      const weights = Object.fromEntries(names.map((name, i) => [name, parameters[i]!]));
      const sums = samples.map(({ promptIds, completionIds }) => {
        const ids = [...promptIds, ...completionIds];
        const logits = tf.squeeze(
          decoderLogits(weights, tf.tensor2d([ids], undefined, "int32"), tinyConfig),
          [0],
        );
        const predictions = tf.slice(logits, [promptIds.length - 1, 0], [completionIds.length, 11]);
        return tf.sum(
          tf.mul(tf.logSoftmax(predictions), tf.oneHot(tf.tensor1d([...completionIds], "int32"), 11)),
        );
      });
      return tf.div(tf.addN(sums), -trained_tokens);
    };
    const { value, grads } = tf.valueAndGrads(meanCrossEntropy)(start);
    expectClose(loss, value.arraySync() as number);
    expect(trained_tokens).toBe(samples.reduce((sum, { completionIds }) => sum + completionIds.length, 0));
    // AdamW's first step is lr x sign(gradient), save where the gradient drowns in epsilon.
    const moved = await weightsOf(learner);
    names.forEach((name, i) => {
      const [gradient, before] = [grads[i]!.dataSync(), start[i]!.dataSync()];
      const want = [...before].map(
        (weight, j) => weight - (0.01 * gradient[j]!) / (Math.abs(gradient[j]!) + 1e-8),
      );
      expectClose(
        moved[name]!.filter((_, j) => Math.abs(gradient[j]!) > 1e-4),
        want.filter((_, j) => Math.abs(gradient[j]!) > 1e-4),
        1e-5,
        name,
      );
    });
  });
});

describe("the update", () => {
  test.each(objectives)("does not depend on how the batch is split: %j", async (objective) => {
    const samples = tinySamples(12);
    const [whole, split] = [512 * 12, 64].map((microbatch_tokens) =>
      open({ objective, optimizer: { microbatch_tokens, lr: 1e-3 } }),
    ) as [Learner, Learner];
    for (let step = 0; step < 2; step++) {
      const [a, b] = [await whole.update({ samples }), await split.update({ samples })];
      expectClose(learned(a), learned(b), 1e-5);
    }
    const moments = async (learner: Learner): Promise<LearnerState["tensors"]> =>
      (await learner.exportState()).tensors;
    const [a, b] = [await moments(whole), await moments(split)];
    for (const key of Object.keys(a).filter((name) => name.startsWith("moment1")))
      expectClose([...b[key]!.data], [...a[key]!.data], 1e-5, key);
  });

  test.each([{ type: "grpo" }, { type: "sdpo" }, { type: "mix" }, { type: "raft" }, { type: "sft" }])(
    "an infrastructure failure changes no bit: %j",
    async (objective) => {
      const samples = tinySamples(6);
      const lost: Sample = { ...tinySamples(1, 9)[0]!, reward: null, advantage: 0 };
      const [without, withLost] = [open({ objective }), open({ objective })];
      await without.update({ samples });
      await withLost.update({ samples: [lost, ...samples] });
      expect(await weightsOf(withLost)).toEqual(await weightsOf(without));
    },
  );

  test("samples with advantage 0 are not run, but count in GRPO's mean", async () => {
    const samples = tinySamples(6);
    const flat = tinySamples(4, 5).map((sample) => ({ ...sample, advantage: 0 }));
    const [alone, beside] = [open({ objective: { type: "grpo" } }), open({ objective: { type: "grpo" } })];
    const a = await alone.update({ samples });
    const b = await beside.update({ samples: [...samples, ...flat] });
    const tokens = (of: Sample[]): number =>
      of.reduce((sum, { completionIds }) => sum + completionIds.length, 0);
    expectClose(b.loss, (a.loss * tokens(samples)) / tokens([...samples, ...flat]));
    expect([b.trained_sequences, b.skipped_sequences, b.trained_tokens]).toEqual([6, 4, a.trained_tokens]);
  });

  test("a batch where nothing differs leaves the weights as they are and is counted", async () => {
    const learner = open({ objective: { type: "grpo" } });
    const samples = tinySamples(4).map((sample) => ({ ...sample, advantage: 0 }));
    const metrics = await learner.update({ samples });
    expect(metrics).toMatchObject({ optimizer_steps: 0, trained_tokens: 0, skipped_sequences: 4, loss: 0 });
    expect((await learner.exportState()).step).toBe(1);
    expect(await weightsOf(learner)).toEqual(
      Object.fromEntries(Object.entries(tinyWeights()).map(([name, data]) => [name, [...data]])),
    );
  });

  test("RAFT imitates the successes only", async () => {
    const samples = tinySamples(8);
    const successes = samples.filter(({ reward }) => reward === 1);
    const [raft, sft] = [open({ objective: { type: "raft" } }), open({ objective: { type: "sft" } })];
    const metrics = await raft.update({ samples });
    await sft.update({ samples: successes });
    expect(metrics.trained_sequences).toBe(successes.length);
    expect(await weightsOf(raft)).toEqual(await weightsOf(sft));
  });

  test("the mix at its ends is GRPO and SDPO", async () => {
    const samples = tinySamples(6);
    for (const [lambda, type] of [
      [1, "grpo"],
      [0, "sdpo"],
    ] as const) {
      const [mix, end] = [open({ objective: { type: "mix", lambda } }), open({ objective: { type } })];
      await mix.update({ samples });
      await end.update({ samples });
      const want = await weightsOf(end);
      for (const [name, values] of Object.entries(await weightsOf(mix)))
        expectClose(values, want[name]!, FLOAT32, name);
    }
  });

  test("the student's top k over the whole vocabulary is the full divergence", async () => {
    const samples = tinySamples(6);
    const full = open({ objective: { type: "sdpo" } });
    const topk = open({ objective: { type: "sdpo", topk: 99, tail: false } });
    const [a, b] = [await full.update({ samples }), await topk.update({ samples })];
    expectClose(b.distill_loss, a.distill_loss);
    expectClose(b.grad_norm, a.grad_norm, 1e-5);
  });

  test("a teacher that reads the same prompt with the same weights teaches nothing", async () => {
    const samples = tinySamples(4).map((sample) => ({ ...sample, teacherPromptIds: sample.promptIds }));
    const { distill_loss, grad_norm } = await open({ objective: { type: "sdpo" } }).update({ samples });
    expectClose([distill_loss, grad_norm], [0, 0], FLOAT32);
  });

  test("log-probabilities at the sampling temperature agree with the sampler's to 1e-4", async () => {
    const learner = open({ objective: { type: "grpo" }, options: { temperature: 0.7 } });
    const samples = tinySamples(5);
    const scores = await learner.score(samples);
    const exact = samples.map((sample, i) => ({ ...sample, rolloutLogProbs: scores[i]! }));
    const { max_log_prob_gap, rollout_kl, policy_loss } = await learner.update({ samples: exact });
    expect(max_log_prob_gap).toBeLessThan(1e-5);
    expectClose(rollout_kl, 0, 1e-5);
    // Ratio 1 everywhere: the loss is minus the mean advantage over tokens.
    const tokens = samples.flatMap(({ advantage, completionIds }) => completionIds.map(() => -advantage));
    expectClose(policy_loss, tokens.reduce((a, b) => a + b, 0) / tokens.length, 1e-5);
  });

  test("the KL term starts at 0 and grows as the policy leaves its start", async () => {
    const learner = open({ objective: { type: "grpo", kl_coefficient: 0.5 }, optimizer: { lr: 0.05 } });
    const samples = tinySamples(6);
    const first = await learner.update({ samples });
    const second = await learner.update({ samples });
    expectClose(first.kl_loss, 0, 1e-6);
    expect(second.kl_loss).toBeGreaterThan(1e-4);
  });

  test("later minibatches are measured against the policy before the first", async () => {
    const learner = open({
      objective: { type: "grpo", minibatches: 2 },
      optimizer: { lr: 0.2, clip_norm: null },
    });
    const samples = tinySamples(8);
    const scores = await learner.score(samples);
    const exact = samples.map((sample, i) => ({ ...sample, rolloutLogProbs: scores[i]! }));
    const metrics = await learner.update({ samples: exact });
    expect(metrics.optimizer_steps).toBe(2);
    expect(metrics.clip_fraction).toBeGreaterThan(0);
    expect(metrics.max_log_prob_gap).toBeLessThan(1e-5);
  });

  test("the same function run eagerly by tfjs gives the same metrics", async () => {
    const samples = tinySamples(4);
    const compiled = open({ objective: { type: "mix" } });
    const eager = open({ objective: { type: "mix" }, options: { compile: { provider: "tensorflow" } } });
    for (let step = 0; step < 2; step++) {
      const [a, b] = [await compiled.update({ samples }), await eager.update({ samples })];
      expectClose(learned(b), learned(a), 2e-5);
    }
  });
});

describe("the state", () => {
  test.each(["cpu", "tensorflow"] as const)(
    "is exported as a copy whose buffers may be given away: on %s",
    async (provider) => {
      const learner = open({ objective: { type: "sdpo" }, options: { compile: { provider } } });
      await learner.update({ samples: tinySamples(4) });
      const state = await learner.exportState();
      const transfer = Object.values(state.tensors).map(({ data }) => data.buffer as ArrayBuffer);
      const given = structuredClone(state, { transfer });
      expect(Object.values(state.tensors).every(({ data }) => data.length === 0)).toBe(true);
      expect(await learner.exportState()).toEqual(given);
    },
  );

  test("the teacher takes one step of its average in an update, however many minibatches", async () => {
    const learner = open({ objective: { type: "sdpo", teacher_rate: 0.25, minibatches: 3 } });
    await learner.update({ samples: tinySamples(9) });
    const { tensors } = await learner.exportState();
    for (const [name, before] of Object.entries(tinyWeights())) {
      const want = [...before].map(
        (weight, i) => 0.75 * weight + 0.25 * tensors[`weights/${name}`]!.data[i]!,
      );
      expectClose([...tensors[`teacher/${name}`]!.data], want);
    }
  });

  test.each([{ type: "mix", kl_coefficient: 0.1 }, { type: "sft" }])(
    "a learner that goes on from a saved state gives the same bits: %j",
    async (objective) => {
      const optimizer = { type: "muon", schedule: "linear", warmup_steps: 2 };
      const [straight, before, after] = [0, 1, 2].map(() => open({ objective, optimizer })) as [
        Learner,
        Learner,
        Learner,
      ];
      for (let step = 0; step < 2; step++) {
        await straight.update({ samples: tinySamples(5, step) });
        await before.update({ samples: tinySamples(5, step) });
      }
      after.importState(structuredClone(await before.exportState()));
      for (let step = 2; step < 4; step++) {
        const want = await straight.update({ samples: tinySamples(5, step) });
        expect(await after.update({ samples: tinySamples(5, step) })).toEqual(want);
      }
      expect(await after.exportState()).toEqual(await straight.exportState());
    },
  );

  test("a state of another objective is refused by name", async () => {
    const state = await open({ objective: { type: "grpo" } }).exportState();
    expect(() => open({ objective: { type: "sdpo" } }).importState(state)).toThrow(
      "checkpoint: teacher/model.embed_tokens.weight: need a tensor of shape [11, 8], got null. " +
        "The checkpoint belongs to another policy, objective or optimizer.",
    );
  });

  test("an update that is not finite is refused and leaves the state untouched", async () => {
    const learner = open({ objective: { type: "mix", minibatches: 2 } });
    await learner.update({ samples: tinySamples(6) });
    const before = structuredClone(await learner.exportState());
    const poisoned = tinySamples(6).map((sample, i) =>
      i === 5 ? { ...sample, advantage: Number.POSITIVE_INFINITY } : sample,
    );
    await expect(learner.update({ samples: poisoned })).rejects.toThrow(NonFiniteUpdateError);
    expect(await learner.exportState()).toEqual(before);
    expect((await learner.update({ samples: tinySamples(6, 1) })).optimizer_steps).toBe(2);
  });

  test("a sample without its sampler's log-probabilities is refused", async () => {
    const [sample] = tinySamples(1);
    await expect(
      open({ objective: { type: "grpo" } }).update({ samples: [{ ...sample!, rolloutLogProbs: [] }] }),
    ).rejects.toThrow(
      `sample 0: rolloutLogProbs: need ${sample!.completionIds.length}, one for each completion token, got 0`,
    );
  });
});
