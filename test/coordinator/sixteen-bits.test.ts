/** Runs of all weights from a policy that is stored in 16 bits. */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CheckpointStore, readSafetensors } from "../../checkpoints/index.js";
import { readPolicy, writePolicy } from "../../policy/index.js";
import { retort } from "../cli/retort.js";
import { prepareRun } from "./small-policy.js";
import { metrics, numbersOf, startTraining, train } from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "sixteen-bits-"));
let file = "";
afterAll(() => rmSync(root, { recursive: true }));
beforeAll(async () => {
  file = await prepareRun(root);
  const from = join(root, "policy");
  const { config, weights } = readPolicy(from);
  for (const type of ["bfloat16", "float16"] as const)
    await writePolicy(join(root, type), config, weights, from, type);
});

const settings = (type: string, run: string, ...values: string[]): string[] => [
  file,
  ...[
    `policy.path=${join(root, type)}`,
    `run.dir=${run}`,
    "evaluation.every=0",
    "evaluation.samples=0",
    "checkpoint.every=1",
    ...values,
  ].flatMap((value) => ["--set", value]),
];

test("all weights of a bfloat16 policy: resumed after its first step, a run has the whole run's bits, below bfloat16's too", async () => {
  const [whole, stopped] = [join(root, "whole"), join(root, "stopped")];
  await train(settings("bfloat16", whole, "run.steps=2", "evaluation.self_teacher_tasks=1"));
  expect(metrics(whole).find(({ kind }) => kind === "self_teacher")).toMatchObject({ tried: 1 });
  cpSync(whole, stopped, { recursive: true });
  rmSync(join(stopped, "checkpoints", "step-000002"), { recursive: true });
  const again = settings("bfloat16", stopped, "run.steps=2", "evaluation.self_teacher_tasks=1");
  const { stderr } = await train([...again, "--resume"]);
  expect(stderr).toContain("going on after step 1");
  expect(numbersOf(stopped)).toEqual(numbersOf(whole));

  const checkpoint = join(whole, "checkpoints", "step-000002");
  const saved = readSafetensors(join(checkpoint, "policy", "model.safetensors")).tensors;
  const learned = readSafetensors(join(checkpoint, "learner.safetensors")).tensors;
  for (const [name, { dtype }] of saved) {
    expect([name, dtype]).toEqual([name, "BF16"]);
    expect([name, learned.get(`weights/${name}`)?.dtype]).toEqual([name, "F32"]);
  }
  const isBeyond = [...saved.keys()].some((name) =>
    new Uint32Array((learned.get(`weights/${name}`)!.data as Float32Array).buffer).some(
      (bits) => (bits & 0xffff) !== 0,
    ),
  );
  expect(isBeyond).toBe(true);
});

test("a weight that outgrows float16 ends the run with 2, its name and what to set; with that it goes on from the checkpoint before", async () => {
  const run = join(root, "outgrown");
  // Adam's first step moves each weight that has a gradient by the learning rate.
  const settings_ = settings("float16", run, "run.steps=1", "optimizer.lr=1e5", "optimizer.weight_decay=0");
  const { code, stderr, stdout } = await startTraining(settings_).outcome;
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr.trimEnd().split("\n").at(-1)).toMatch(
    /^retort: (lm_head|model\.[a-z0-9_.]+)\.weight: need numbers of at most 65504 to be saved in float16, got -?\d+(\.\d+)?\. Nothing of it was saved\. Set checkpoint\.dtype: float32 and go on with --resume /,
  );
  const store = new CheckpointStore(join(run, "checkpoints"));
  expect(readdirSync(store.folder)).toEqual(["step-000000"]);
  expect((await store.load(0)).step).toBe(0); // each file against its checksum
  await train([...settings_, "--set", "checkpoint.dtype=float32", "--resume"]);
  const { weights } = readPolicy(join(run, "checkpoints", "step-000001"));
  expect(Math.max(...Object.values(weights).flatMap((values) => [...values]))).toBeGreaterThan(65504);
});

test("such a weight in an export: exit code 2, and no folder is left", async () => {
  const { config, weights } = readPolicy(join(root, "policy"));
  weights["model.norm.weight"]![3] = 1e5;
  const large = join(root, "large");
  await writePolicy(large, config, weights, join(root, "policy"));
  const out = join(root, "exported");
  const { code, stderr } = await retort(["export", "--policy", large, "--out", out, "--dtype", "float16"]);
  expect(code).toBe(2);
  expect(stderr).toContain(
    "retort: model.norm.weight: need numbers of at most 65504 to be saved in float16, got 100000.",
  );
  expect(existsSync(out)).toBe(false);
  expect(readdirSync(root).filter((name) => name.includes("partial"))).toEqual([]);
  expect(readFileSync(join(large, "config.json"), "utf8")).toContain("float32");
});
