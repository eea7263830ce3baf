import { afterAll, describe, expect, test } from "vitest";
import { type Transfer, watchTransfers } from "../../tensor/index.js";
import { type Learner, NonFiniteUpdateError } from "../../trainer/index.js";
import { isWebgpuHere } from "../tensor/webgpu.js";
import { learned, tinyLearner, tinySamples } from "./tiny.js";
import { expectClose } from "./vectors.js";

describe.skipIf(!(await isWebgpuHere()))("the update on provider webgpu (skipped without it)", () => {
  const opened: Learner[] = [];
  afterAll(async () => {
    for (const learner of opened) await learner.dispose();
  });
  const open = (choices: Parameters<typeof tinyLearner>[0]): Learner => {
    const learner = tinyLearner(choices);
    opened.push(learner);
    return learner;
  };

  const layered = { recompute: "layers", microbatch_tokens: 128 };
  test.each([
    { objective: { type: "mix", kl_coefficient: 0.1 }, optimizer: { microbatch_tokens: 256 } },
    { objective: { type: "sdpo", topk: 4, minibatches: 2 }, optimizer: {} },
    { objective: { type: "sft" }, optimizer: { type: "muon" } },
    { objective: { type: "sdpo", topk: 4, kl_coefficient: 0.1 }, optimizer: layered, options: { chunk: 40 } },
    { objective: { type: "mix", minibatches: 2 }, optimizer: { ...layered, offload: true } },
  ])(
    "three steps with the weights kept in GPU buffers give the CPU's metrics: $objective",
    async (choices) => {
      const cpu = open(choices);
      const gpu = open({ ...choices, options: { ...choices.options, compile: { provider: "webgpu" } } });
      const samples = tinySamples(6);
      for (let step = 0; step < 3; step++) {
        const [want, got] = [await cpu.update({ samples }), await gpu.update({ samples })];
        expectClose(learned(got), learned(want), 1e-3);
      }
      for (const value of Object.values(gpu.weights())) expect(value).not.toBeInstanceOf(Float32Array);
    },
  );

  test.each([
    { name: "in one graph", optimizer: { recompute: "none" } },
    { name: "layer by layer", optimizer: { recompute: "layers" } },
  ])(
    "a step moves ids, scalars and one number a token; the state crosses once: $name",
    async ({ optimizer }) => {
      const learner = open({
        objective: { type: "sdpo", topk: 4, kl_coefficient: 0.1 },
        optimizer,
        options: { compile: { provider: "webgpu" }, chunk: 64 },
      });
      const samples = tinySamples(4);
      const crossed: Transfer[] = [];
      const stop = watchTransfers((transfer) => crossed.push(transfer));
      const uploads = (): string[] => crossed.filter(({ by }) => by === "upload").map(({ name }) => name);
      await learner.update({ samples });
      const state = Object.keys((await learner.exportState()).tensors);
      expect(uploads().filter((name) => name.includes("/"))).toEqual(state);
      crossed.length = 0;
      await learner.update({ samples });
      stop();
      expect(uploads()).toEqual([]);
      expect(crossed.filter(({ name }) => name.includes("/"))).toEqual([]); // weights, gradients, moments, teacher
      const tokens = [
        "ids",
        "token_at",
        "place_of",
        "positions",
        "inverse",
        "targets",
        "advantages",
        "rollout_log_probs",
        "old_log_probs",
      ];
      const perToken = [
        "ref_log_probs",
        "distill_weights",
        "kl_weights",
        "log_probs",
        "entropy",
        "distill",
        "kl",
      ];
      const scalars = [
        "loss",
        "zero",
        "squares",
        "grad_norm",
        "weight_norm",
        "adamw_lr",
        "correction1",
        "correction2",
      ];
      const allowed = new Set([...tokens, ...perToken, ...scalars, "teacher_rate"]);
      expect(crossed.map(({ name }) => name).filter((name) => !allowed.has(name))).toEqual([]);
      const most = Math.max(
        ...samples.map(({ promptIds, completionIds }) => promptIds.length + completionIds.length),
      );
      expect(most).toBeLessThanOrEqual(48);
      // 8 rows of 48 ids are the largest: nothing has a vocabulary or a width beside the tokens
      for (const { name, bytes } of crossed) expect(bytes, name).toBeLessThanOrEqual(4 * 8 * 48);
    },
  );

  test("offloaded, gradients and weights cross once a step, moments never, and the state goes on to the same bits", async () => {
    const choices = {
      objective: { type: "sdpo", topk: 4, teacher_rate: 0.3 },
      optimizer: { ...layered, offload: true },
      options: { compile: { provider: "webgpu" as const } },
    };
    const one = open(choices);
    const samples = tinySamples(4);
    await one.update({ samples });
    const saved = structuredClone(await one.exportState());
    const crossed: Transfer[] = [];
    const stop = watchTransfers((transfer) => crossed.push(transfer));
    const want = await one.update({ samples: tinySamples(4, 1) });
    const state = (await one.exportState()).tensors;
    stop();
    const weights = Object.keys(state).filter((key) => key.startsWith("weights/"));
    expect(crossed.filter(({ by }) => by === "upload").map(({ name }) => name)).toEqual(weights);
    expect(crossed.filter(({ name }) => name.startsWith("moment"))).toEqual([]);
    const bytes = weights.reduce((sum, key) => sum + state[key]!.data.byteLength, 0);
    const read = crossed.filter(({ by }) => by === "read").reduce((sum, each) => sum + each.bytes, 0);
    expect(read).toBe(4 * bytes); // gradients for their norm, gradients and weights for the step, weights for the export
    expect(Object.keys(state).filter((key) => key.startsWith("moment")).length).toBe(2 * weights.length);

    const other = open(choices);
    other.importState(saved);
    expect(learned(await other.update({ samples: tinySamples(4, 1) }))).toEqual(learned(want));
    expect((await other.exportState()).tensors).toEqual(state);

    const wild = open({ ...choices, optimizer: { ...choices.optimizer, lr: 1e38 } });
    wild.importState({ step: 2, optimizerSteps: 2, tensors: structuredClone(state) });
    await expect(wild.update({ samples })).rejects.toThrow(NonFiniteUpdateError);
    expect((await wild.exportState()).tensors).toEqual(state);
  });

  test("a state saved on one provider goes on on the other", async () => {
    const choices = { objective: { type: "sdpo" } };
    const cpu = open(choices);
    const gpu = open({ ...choices, options: { compile: { provider: "webgpu" } } });
    await gpu.update({ samples: tinySamples(5) });
    cpu.importState(await gpu.exportState());
    const samples = tinySamples(5, 1);
    expectClose((await cpu.update({ samples })).loss, (await gpu.update({ samples })).loss, 1e-4);
  });
});
