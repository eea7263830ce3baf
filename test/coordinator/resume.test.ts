import { execFile } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { kill } from "node:process";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { main } from "../cli/retort.js";
import { digitTask, prepareRun, writeRun, writeTasks } from "./small-policy.js";
import {
  descendants,
  killHard,
  lastStep,
  metrics,
  numbersOf,
  rollouts,
  startTraining,
  stepRows,
  type TrainingProcess,
  train,
} from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "resume-"));
const whole = join(root, "whole");
let file = "";
afterAll(() => rmSync(root, { recursive: true }));

beforeAll(async () => {
  await prepareRun(root);
  // Slow enough to be caught at; tests of their own, so that the evaluation does not judge the training's programs.
  mkdirSync(join(root, "languages"));
  writeFileSync(
    join(root, "languages", "slow.yaml"),
    "prompt: ''\nfilename: main.lua\nexecute: sleep 0.12; lua5.4 main.lua\n",
  );
  const tests = (digit: number) => [{ input: "held out\n", output: `${digit}\n` }];
  writeTasks(
    join(root, "heldout.jsonl"),
    [1, 2, 3, 5].map((digit) => digitTask(digit, { tests: tests(digit) })),
  );
  file = writeRun(root, {
    languages: { default: "slow", instruct: false, folders: [join(root, "languages")] },
    rollout: {
      prompts_per_step: 2,
      samples_per_prompt: 24,
      max_new_tokens: 12,
      max_prompt_tokens: 64,
      slots: 2,
    },
    evaluation: { every: 3, samples: 2, greedy: false },
    checkpoint: { every: 1 }, // six chances to be caught while saving
  });
  await train([file, "--set", `run.dir=${whole}`]);
});

const start = (run: string, ...args: string[]): TrainingProcess =>
  startTraining([file, "--set", `run.dir=${run}`, ...args]);
const isJudging = ({ pid }: TrainingProcess): boolean =>
  descendants(pid).some(({ name }) => name === "sleep");
const isSaving = (run: string): boolean => {
  try {
    return readdirSync(join(run, "checkpoints")).some((name) => name.startsWith(".saving"));
  } catch {
    return false;
  }
};

/** Waits for programs of the evaluation, and stops the run there: it is still evaluating when it is killed. */
const stopEvaluating = (process: TrainingProcess): Promise<void> =>
  process.until("the evaluation", () => {
    if (!process.stderr().includes("evaluation") || !isJudging(process)) return false;
    process.signal("SIGSTOP");
    return true;
  });

/** Stops the process the moment that it saves; lets it go on to the next checkpoint where it was faster than we. */
async function whileSaving(process: TrainingProcess, run: string): Promise<void> {
  for (;;) {
    await process.until("a checkpoint was being written", () => isSaving(run));
    process.signal("SIGSTOP");
    await new Promise((resolve) => setTimeout(resolve, 20));
    if (isSaving(run)) return;
    process.signal("SIGCONT");
  }
}

test("a run killed in its evaluation, while judging, saving and sampling goes on with the numbers of the whole run", async () => {
  const run = join(root, "killed");
  const survivors: string[] = [];

  let process = start(run);
  await stopEvaluating(process);
  survivors.push(...(await killHard(process)));
  expect(metrics(run).map(({ kind }) => kind)).toEqual(["self_teacher"]);

  process = start(run, "--resume");
  await process.until("training", () => process.stderr().includes("training"));
  await process.until("judging", () => isJudging(process));
  survivors.push(...(await killHard(process)));
  expect(lastStep(run)).toBeLessThan(6);

  process = start(run, "--resume");
  await process.until("it had started", () => process.stderr().includes("training"));
  await whileSaving(process, run);
  survivors.push(...(await killHard(process)));
  const saved = lastStep(run);
  expect(saved).toBeLessThan(6);

  process = start(run, "--resume");
  // Sampling begins as soon as a step's row stands.
  await process.until("another step", () => lastStep(run) > saved);
  survivors.push(...(await killHard(process)));
  expect(lastStep(run)).toBeLessThan(6);

  await train([file, "--set", `run.dir=${run}`, "--resume"]);
  expect(survivors).toEqual([]);
  expect(stepRows(run).map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6]);
  expect(rollouts(run).length).toBe(6 * 2 * 24);
  expect(numbersOf(run)).toEqual(numbersOf(whole));
});

test("Ctrl-C finishes the step, saves, exits with 130 and names the command that goes on", async () => {
  const run = join(root, "interrupted run"); // a blank: the command must be quoted
  const process = start(run);
  await process.until("a step", () => lastStep(run) >= 1);
  process.signal("SIGINT");
  const { code, stdout, stderr } = await process.outcome;
  expect([code, stdout]).toEqual([130, ""]);
  expect(stderr).toContain("Finishing the step and saving; once more stops at once.");
  const said = lastStep(run);
  expect(said).toBeLessThan(6);
  expect(readdirSync(join(run, "checkpoints")).sort().at(-1)).toBe(`step-00000${said}`);
  const command = /Go on with:\n {2}npx retort (.*)\n/.exec(stderr)![1]!;
  expect(command).toBe(`train ${file} --set 'run.dir=${run}' --resume`);
  await promisify(execFile)("sh", ["-c", `node ${main} ${command}`], { cwd: packageRoot });
  expect(numbersOf(run)).toEqual(numbersOf(whole));
});

test("a second Ctrl-C stops at once, and the directory can be gone on with or begun anew", async () => {
  const run = join(root, "stopped");
  const process = start(run);
  let broker = 0;
  // Without its broker the evaluation cannot end before the second signal.
  await process.until("the evaluation", () => {
    if (!process.stderr().includes("evaluation")) return false;
    broker = descendants(process.pid).find(({ parent }) => parent === process.pid)!.pid;
    return kill(broker, "SIGSTOP");
  });
  process.signal("SIGINT");
  await process.until("the first was noticed", () => process.stderr().includes("once more stops at once"));
  process.signal("SIGINT");
  kill(broker, "SIGCONT"); // its stderr is the run's, whose end we wait for
  expect((await process.outcome).code).toBe(130);
  expect(metrics(run).map(({ kind }) => kind)).toEqual(["self_teacher"]);
  await train([file, "--set", `run.dir=${run}`, "--set", "run.steps=0"]); // without --resume: the old one is set aside
  expect(metrics(`${run}.1`).length).toBe(1);
  expect(metrics(run).map(({ kind }) => kind)).toEqual(["self_teacher", "evaluation"]);
});

test("a directory that a run is using is refused to another, whoever asks", async () => {
  const run = join(root, "used");
  const process = start(run);
  await process.until("it had begun", () => process.stderr().includes("evaluation"));
  process.signal("SIGSTOP"); // it lives, and cannot end while we ask
  for (const resume of [[], ["--resume"]]) {
    const { code, stderr } = await start(run, ...resume).outcome;
    expect(code).toBe(2);
    expect(stderr).toContain(
      `retort: ${run}: need a run directory that no other process uses; process ${process.pid} on`,
    );
  }
  expect(await killHard(process)).toEqual([]);
});

test("a damaged checkpoint is passed over for the one before it; where all are, nothing is cut away", async () => {
  const run = join(root, "damaged");
  cpSync(whole, run, { recursive: true });
  const checkpoints = readdirSync(join(run, "checkpoints")).sort();
  const damage = (step: string): void => {
    const weights = join(run, "checkpoints", step, "policy", "model.safetensors");
    const bytes = readFileSync(weights);
    bytes[bytes.length - 5]! ^= 1;
    writeFileSync(weights, bytes);
  };
  damage(checkpoints.at(-1)!);
  const { stderr } = await train([file, "--set", `run.dir=${run}`, "--resume"]);
  expect(stderr).toContain(`${checkpoints.at(-1)}: need an undamaged checkpoint`);
  expect(stderr).toContain("Going back to the one before it.");
  expect(numbersOf(run)).toEqual(numbersOf(whole));

  readdirSync(join(run, "checkpoints")).forEach(damage);
  const refused = await start(run, "--resume").outcome;
  expect(refused.code).toBe(2);
  expect(refused.stderr).toContain(
    `${join(run, "checkpoints")}: need an undamaged checkpoint to go on from.`,
  );
  expect(stepRows(run).length).toBe(6);
});

test("--resume with another configuration is refused, naming the key", async () => {
  const before = numbersOf(whole);
  const changed = ["--set", "optimizer.lr=0.5", "--set", "policy.threads=2"];
  const { code, stderr } = await start(whole, ...changed, "--resume").outcome;
  expect(code).toBe(2);
  expect(stderr).toContain("optimizer.lr");
  expect(stderr).toContain("policy.threads");
  expect(numbersOf(whole)).toEqual(before);
});
