import { afterAll, describe, expect, test } from "vitest";
import type { Learner } from "../../trainer/index.js";
import { isWebgpuHere } from "../tensor/webgpu.js";
import { tinyLearner, tinySamples } from "./tiny.js";
import { expectClose } from "./vectors.js";

describe.skipIf(!(await isWebgpuHere()))("the update on provider webgpu", () => {
  const opened: Learner[] = [];
  afterAll(async () => {
    for (const learner of opened) await learner.dispose();
  });
  const open = (choices: Parameters<typeof tinyLearner>[0]): Learner => {
    const learner = tinyLearner(choices);
    opened.push(learner);
    return learner;
  };

  test.each([
    { objective: { type: "mix", kl_coefficient: 0.1 }, optimizer: { microbatch_tokens: 256 } },
    { objective: { type: "sdpo", topk: 4, minibatches: 2 }, optimizer: {} },
    { objective: { type: "sft" }, optimizer: { type: "muon" } },
  ])(
    "three steps with the weights kept in GPU buffers give the CPU's metrics: $objective",
    async (choices) => {
      const cpu = open(choices);
      const gpu = open({ ...choices, options: { compile: { provider: "webgpu" } } });
      const samples = tinySamples(6);
      for (let step = 0; step < 3; step++) {
        const [want, got] = [await cpu.update({ samples }), await gpu.update({ samples })];
        expectClose(Object.values(got), Object.values(want), 1e-3);
      }
      for (const value of Object.values(gpu.weights())) expect(value).not.toBeInstanceOf(Float32Array);
    },
  );

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
