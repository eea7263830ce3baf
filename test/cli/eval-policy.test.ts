import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { replaceFile } from "../../checkpoints/index.js";
import { packageRoot } from "../../core/index.js";
import { adapterFiles, initialAdapter, readDecoderConfig } from "../../policy/index.js";
import { LORA_TARGETS } from "../../policy/lora-config.js";
import { prepareRun } from "../coordinator/small-policy.js";
import { train } from "../coordinator/training-process.js";
import { main, retort } from "./retort.js";

const root = mkdtempSync(join(tmpdir(), "cli-eval-policy-"));
const run = join(root, "run");
let file = "";
beforeAll(async () => {
  file = await prepareRun(root);
  await train([file, "--set", `run.dir=${run}`, "--set", "run.steps=3"]);
});
afterAll(() => rmSync(root, { recursive: true }));

const sampled = (out: string, ...more: readonly string[]): string[] => [
  "eval",
  ...["--tasks", join(root, "heldout.jsonl"), "--policy", join(root, "policy"), "--language", "lua"],
  ...[
    "--no-instruct",
    "--program-in",
    "whole",
    "--max-new-tokens",
    "12",
    "--samples",
    "4",
    "--device",
    "cpu",
  ],
  ...["--out", join(root, out), "--json", ...more],
];
const lines = (name: string): string[] => readFileSync(join(root, name), "utf8").trimEnd().split("\n");

test("a policy folder is sampled by seed, and its programs are judged", async () => {
  const first = await retort(sampled("one.jsonl"));
  expect(first.code).toBe(0);
  const summary = JSON.parse(first.stdout) as Record<string, number>;
  expect(summary).toMatchObject({ tasks: 6, samples: 24, judged_now: 24, infrastructure: 0 });
  expect(summary["pass@1"]).toBeGreaterThan(0.1); // it answers each digit rightly about every other time
  expect(summary["pass@1"]).toBeLessThan(0.9);
  await retort(sampled("two.jsonl"));
  expect(lines("two.completions.jsonl").sort()).toEqual(lines("one.completions.jsonl").sort());
  await retort(sampled("three.jsonl", "--seed", "1"));
  expect(lines("three.completions.jsonl").sort()).not.toEqual(lines("one.completions.jsonl").sort());
});

test("killed in the middle, it goes on to the completions that it would have had", async () => {
  const args = sampled("killed.jsonl", "--samples", "20");
  const child = spawn(process.execPath, [main, ...args], { stdio: "ignore", cwd: packageRoot });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const results = join(root, "killed.jsonl");
  while (!(existsSync(results) && lines("killed.jsonl").length > 8) && child.exitCode === null)
    await new Promise((go) => setTimeout(go, 5));
  child.kill("SIGKILL");
  await ended;
  const rows = lines("killed.jsonl").slice(0, -1);
  const { stdout, stderr } = await retort(args);
  expect(stderr).toMatch(/\d+ of 120 completions are in .* already/);
  expect(JSON.parse(stdout)).toMatchObject({ samples: 120 });
  expect(new Set(lines("killed.jsonl")).size).toBe(120);
  for (const row of rows) expect(lines("killed.jsonl")).toContain(row);
  await retort(sampled("whole.jsonl", "--samples", "20"));
  expect(lines("killed.completions.jsonl").sort()).toEqual(lines("whole.completions.jsonl").sort());
});

test("stopped by Ctrl-C, it keeps what is judged, says so, and exits with 130", async () => {
  const args = sampled("stopped.jsonl", "--samples", "1000");
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    cwd: packageRoot,
  });
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const results = join(root, "stopped.jsonl");
  while (!(existsSync(results) && lines("stopped.jsonl").length > 5) && child.exitCode === null)
    await new Promise((go) => setTimeout(go, 5));
  child.kill("SIGINT");
  expect(await ended).toBe(130);
  const rows = lines("stopped.jsonl").map((line) => JSON.parse(line) as { status: string });
  expect(stderr).toContain(`Stopped: ${rows.length} of 6000 programs are judged and kept in ${results}.`);
  expect(rows.every(({ status }) => status !== "infrastructure")).toBe(true);
  expect(existsSync(`${results}.lock`)).toBe(false);
});

const evaluations = (): { step: number; sets: { heldout: { sampled: number; greedy: number } } }[] =>
  readFileSync(join(run, "metrics.jsonl"), "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { kind: string })
    .filter(({ kind }) => kind === "evaluation") as never;
const passOf = async (...more: readonly string[]): Promise<unknown> => {
  const { stdout, stderr } = await retort(["eval", file, "--set", `run.dir=${run}`, "--json", ...more]);
  expect(stderr).not.toContain("retort:");
  return (JSON.parse(stdout) as Record<string, unknown>)["pass@1"];
};

test("a run's tasks and policy give what the run itself measured: before, after, and greedy", async () => {
  const [before, after] = [evaluations()[0]!, evaluations().at(-1)!];
  expect(after.step).toBe(3);
  expect(await passOf()).toBeCloseTo(before.sets.heldout.sampled, 10);
  expect(await passOf("--checkpoint", "latest")).toBeCloseTo(after.sets.heldout.sampled, 10);
  expect(await passOf("--checkpoint", "3", "--temperature", "0", "--samples", "1")).toBeCloseTo(
    after.sets.heldout.greedy,
    10,
  );
  const best = Math.max(before.sets.heldout.sampled, after.sets.heldout.sampled);
  expect(await passOf("--checkpoint", "best", "--out", join(root, "best.jsonl"))).toBeCloseTo(best, 10);
  expect(existsSync(join(run, "evaluations", "heldout-start.jsonl"))).toBe(true);
  expect(existsSync(join(run, "evaluations", "heldout-step-000003.jsonl"))).toBe(true);
});

test.each([
  { args: ["--checkpoint", "99"], says: "--checkpoint: need one of the steps 0, " },
  { args: ["--checkpoint", "lattest"], says: "--checkpoint: need latest, best, a step's number or a folder" },
  { args: ["--on", "probe"], says: "tasks.probe: need tasks" },
  { args: ["--policy", "x"], says: "--policy: need no run file: policy.path of the run says it" },
  { args: ["--backend", "podman"], says: "--backend: need no run file: verifier.backend of the run says it" },
  { args: ["--no-instruct"], says: "--no-instruct: need no run file: languages.instruct of the run says it" },
  { args: ["--top-p", "0.5"], says: "--top-p: need no run file: a run is evaluated without" },
])("what a run does not have, or says itself, is exit 2: $args", async ({ args, says }) => {
  const { code, stderr } = await retort(["eval", file, "--set", `run.dir=${run}`, ...args]);
  expect([code, stderr]).toEqual([2, expect.stringContaining(says)]);
});

test("without a run file --tasks and --out are needed", async () => {
  const { code, stderr } = await retort(["eval", "--references", "--out", join(root, "x.jsonl")]);
  expect([code, stderr]).toEqual([2, expect.stringContaining("need --tasks FILE, or a run file")]);
});

test("an adapter's completions are its own: another adapter on the same base draws anew", async () => {
  const config = {
    ...readDecoderConfig(join(root, "policy")),
    lora: { rank: 2, alpha: 4, targets: [...LORA_TARGETS] },
  };
  const adapters = ["adapter-1", "adapter-2"].map((name) => join(root, name));
  for (const [seed, folder] of adapters.entries()) {
    mkdirSync(folder);
    const files = adapterFiles(config, initialAdapter(config, seed), join(root, "policy"));
    for (const [name, content] of Object.entries(files)) await replaceFile(join(folder, name), content);
  }
  const drawnFrom = async (folder: string): Promise<boolean> => {
    const args = sampled("adapters.jsonl", "--policy", folder, "--samples", "1");
    const { code, stderr } = await retort(args);
    expect(code, stderr).toBe(0);
    return !/6 of 6 completions are in .* already/.test(stderr);
  };
  expect([
    await drawnFrom(adapters[0]!),
    await drawnFrom(adapters[0]!),
    await drawnFrom(adapters[1]!),
  ]).toEqual([true, false, true]);
});
