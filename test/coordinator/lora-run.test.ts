import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readPolicy } from "../../policy/index.js";
import { retort } from "../cli/retort.js";
import { prepareRun } from "./small-policy.js";
import { lastStep, numbersOf, startTraining, stepRows, train } from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "lora-run-"));
const whole = join(root, "whole");
const LORA = ["--set", "policy.lora.rank=4", "--set", "optimizer.lr=0.01"];
let file = "";
afterAll(() => rmSync(root, { recursive: true }));
beforeAll(async () => {
  file = await prepareRun(root);
  await train([file, "--set", `run.dir=${whole}`, ...LORA]);
});

test("an adapter is learned: sampler and trainer agree, and the base on disk stays what it was", () => {
  const gaps = stepRows(whole).map(({ max_log_prob_gap }) => max_log_prob_gap);
  expect(gaps.length).toBe(6);
  for (const gap of gaps) expect(gap).toBeLessThan(1e-4);
  const checkpoint = join(whole, "checkpoints", "step-000006");
  expect(readdirSync(join(checkpoint, "policy")).sort()).toEqual([
    "adapter_config.json",
    "adapter_model.safetensors",
  ]);
  const [base, adapted] = [readPolicy(join(root, "policy")).weights, readPolicy(checkpoint).weights];
  const changed = Object.keys(base).filter((name) =>
    base[name]!.some((value, i) => value !== adapted[name]![i]),
  );
  expect(changed.length).toBeGreaterThan(0);
  expect(changed.filter((name) => !/(proj)\.weight$/.test(name))).toEqual([]);
});

test("a run that is interrupted goes on with the numbers of the whole run", async () => {
  const run = join(root, "interrupted");
  const process = startTraining([file, "--set", `run.dir=${run}`, ...LORA]);
  await process.until("a step", () => lastStep(run) >= 2);
  process.signal("SIGINT");
  await process.outcome;
  await train([file, "--set", `run.dir=${run}`, ...LORA, "--resume"]);
  expect(numbersOf(run)).toEqual(numbersOf(whole));
});

test("a checkpoint is exported as one folder of whole weights that says what the checkpoint says", async () => {
  const checkpoint = join(whole, "checkpoints", "step-000006");
  const merged = join(root, "merged");
  expect(await retort(["export", "--policy", checkpoint, "--out", merged])).toMatchObject({ code: 0 });
  const ask = (policy: string) => retort(["generate", "--policy", policy, "--prompt", "3"]);
  expect((await ask(merged)).stdout).toBe((await ask(checkpoint)).stdout);
  expect((await retort(["export", "--policy", checkpoint, "--out", merged])).code).toBe(2);
});

test("a checkpoint is a policy to start from, with its tokenizer, but not one to put another adapter on", async () => {
  const from = ["--set", `policy.path=${join(whole, "checkpoints", "step-000006")}`];
  const next = join(root, "next");
  await train([file, ...from, "--set", "run.steps=2", "--set", `run.dir=${next}`]);
  const { tokenizer } = readPolicy(join(next, "checkpoints", "step-000002"));
  expect(tokenizer.vocabulary).toBe(readPolicy(join(root, "policy")).tokenizer.vocabulary);

  const again = ["train", file, ...from, "--set", "policy.lora.rank=4"];
  const { code, stderr } = await retort([...again, "--set", `run.dir=${join(root, "twice")}`]);
  expect(code).toBe(2);
  expect(stderr).toContain("policy.path: need whole weights under policy.lora, not another adapter");
});

test("Muon is refused before anything starts, with what to set instead", async () => {
  const args = ["train", file, "--set", "policy.lora.rank=4", "--set", "optimizer.type=muon"];
  const { code, stderr } = await retort([...args, "--set", `run.dir=${join(root, "muon")}`]);
  expect(code).toBe(2);
  expect(stderr).toContain("optimizer.type: need adamw: Muon is made for whole matrices");
});
