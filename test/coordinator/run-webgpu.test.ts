import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadRunConfig } from "../../coordinator/config.js";
import { checkPlan } from "../../coordinator/plan/check.js";
import { isSoftwareVulkan } from "../../tensor/index.js";
import { isWebgpuHere } from "../tensor/webgpu.js";
import { prepareRun } from "./small-policy.js";
import { rollouts, stepRows, train } from "./training-process.js";

describe.skipIf(!(await isWebgpuHere()))("a run on policy.device: webgpu (skipped without webgpu)", () => {
  const root = mkdtempSync(join(tmpdir(), "webgpu-run-"));
  let file = "";
  afterAll(() => rmSync(root, { recursive: true }));
  beforeAll(async () => {
    file = await prepareRun(root);
  });

  const runWith = async (name: string, ...sets: readonly string[]): Promise<string> => {
    const run = join(root, name);
    const settings = [`run.dir=${run}`, "evaluation.samples=0", "evaluation.greedy=false", ...sets];
    await train([file, ...settings.flatMap((each) => ["--set", each])]);
    return run;
  };
  const written = (run: string) =>
    rollouts(run).map(({ completion, status, advantage }) => [completion, status, advantage]);

  test("samples the cpu's programs and updates by the cpu's numbers, its log-probs within 1e-4 of its own trainer's", async () => {
    const [cpu, gpu] = await Promise.all([
      runWith("cpu", "run.steps=1", "policy.device=cpu"),
      runWith("webgpu", "run.steps=1", "policy.device=webgpu"),
    ]);
    expect(written(gpu)).toEqual(written(cpu));
    const [want, got] = [stepRows(cpu)[0]!, stepRows(gpu)[0]!];
    expect(got.max_log_prob_gap).toBeLessThan(1e-4);
    for (const key of ["loss", "entropy", "grad_norm", "weight_norm"]) {
      expect(Math.abs(Number(got[key]) / Number(want[key]) - 1), key).toBeLessThan(1e-3);
    }
  });

  // An update of the learning rate here moves log-probs by far more than 1e-4: each step samples from the weights before it.
  test.each([
    { learner: "cpu", sampler: "webgpu", more: ["policy.lora.rank=4"] },
    { learner: "webgpu", sampler: "cpu", more: [] },
  ])(
    "learns on $learner and samples on $sampler, from the weights of each update: the cpu's programs",
    async ({ learner, sampler, more }) => {
      const sets = ["run.steps=2", "optimizer.lr=0.01", ...more];
      const [alone, split] = await Promise.all([
        runWith(`${learner}-alone`, "policy.device=cpu", ...sets),
        runWith(`${learner}-split`, `policy.device=${learner}`, `rollout.device=${sampler}`, ...sets),
      ]);
      expect(written(split).length).toBe(16);
      expect(written(split)).toEqual(written(alone));
      const gaps = stepRows(split).map(({ max_log_prob_gap }) => Number(max_log_prob_gap));
      expect(gaps.length).toBe(2);
      for (const gap of gaps) expect(gap).toBeLessThan(1e-4);
      const environment = JSON.parse(readFileSync(join(split, "environment.json"), "utf8")) as unknown;
      expect(environment).toMatchObject({ provider: learner, sampler });
    },
  );

  test.skipIf(!isSoftwareVulkan())(
    "is refused before weights are read where the GPU has no buffer for the embedding (skipped on a real GPU: it may have)",
    async () => {
      const wide = join(root, "wide");
      mkdirSync(wide);
      const shape = { model_type: "llama", hidden_size: 2048, intermediate_size: 64, num_hidden_layers: 1 };
      const words = { num_attention_heads: 16, vocab_size: 151_936, tie_word_embeddings: true };
      writeFileSync(join(wide, "config.json"), JSON.stringify({ ...shape, ...words }));
      const sets = [`policy.path=${wide}`, "policy.device=webgpu", "policy.lora.rank=4"];
      // 151,936 x 2,048 numbers of four bytes; SwiftShader's buffers end at 2^30.
      await expect(checkPlan(loadRunConfig(file, sets))).rejects.toThrow(
        /^policy\.device: need a GPU with buffers of 1\.16 GB: this one cannot make one, got "webgpu"\. policy\.precision: float16/,
      );
    },
  );
});
