import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { isWebgpuHere } from "../tensor/webgpu.js";
import { prepareRun } from "./small-policy.js";
import { rollouts, stepRows, train } from "./training-process.js";

describe.skipIf(!(await isWebgpuHere()))("a run on policy.device: webgpu", () => {
  const root = mkdtempSync(join(tmpdir(), "webgpu-run-"));
  let file = "";
  afterAll(() => rmSync(root, { recursive: true }));
  beforeAll(async () => {
    file = await prepareRun(root);
  });

  test("samples the cpu's programs and updates by the cpu's numbers, its log-probs within 1e-4 of its own trainer's", async () => {
    const runOn = async (device: string): Promise<string> => {
      const run = join(root, device);
      const settings = [`run.dir=${run}`, "run.steps=1", `policy.device=${device}`];
      const quick = ["evaluation.samples=0", "evaluation.greedy=false"];
      await train([file, ...[...settings, ...quick].flatMap((each) => ["--set", each])]);
      return run;
    };
    const [cpu, gpu] = await Promise.all([runOn("cpu"), runOn("webgpu")]);
    const written = (run: string) =>
      rollouts(run).map(({ completion, status, advantage }) => [completion, status, advantage]);
    expect(written(gpu)).toEqual(written(cpu));
    const [want, got] = [stepRows(cpu)[0]!, stepRows(gpu)[0]!];
    expect(got.max_log_prob_gap).toBeLessThan(1e-4);
    for (const key of ["loss", "entropy", "grad_norm", "weight_norm"]) {
      expect(Math.abs(Number(got[key]) / Number(want[key]) - 1), key).toBeLessThan(1e-3);
    }
  });
});
