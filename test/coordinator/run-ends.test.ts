/** How runs end that cannot go well, and how a run goes on where only our own machinery failed. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readSafetensors } from "../../checkpoints/index.js";
import { readDecoderConfig, readPolicy, readWeights, writePolicy } from "../../policy/index.js";
import { digitTask, prepareRun, writeRun, writeTasks } from "./small-policy.js";
import { descendants, metrics, rollouts, startTraining, stepRows, train } from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "ends-"));
let count = 0;
afterAll(() => rmSync(root, { recursive: true }));
beforeAll(async () => {
  await prepareRun(root);
  mkdirSync(join(root, "languages"));
  const language = (name: string, execute: string): void =>
    writeFileSync(
      join(root, "languages", `${name}.yaml`),
      `prompt: ''\nfilename: main.lua\nexecute: ${execute}\n`,
    );
  language("absent", "no-such-interpreter main.lua");
  language("slow", "sleep 0.1; lua5.4 main.lua");
});

/** A run file of its own, and the folder that its run will have. */
function prepared(sections: Parameters<typeof writeRun>[1] = {}): {
  file: string;
  run: string;
  dir: string[];
} {
  const run = join(root, `run-${count++}`);
  return { file: writeRun(root, sections), run, dir: ["--set", `run.dir=${run}`] };
}
const isKilled = (pid: number): boolean => {
  try {
    return process.kill(pid, "SIGKILL");
  } catch {
    return false; // it was gone already
  }
};
const set = (...values: string[]): string[] => values.flatMap((value) => ["--set", value]);

test("a learning rate that breaks the policy ends the run with 1 and names the last good checkpoint, which loads", async () => {
  const { file, run, dir } = prepared();
  const { code, stderr, stdout } = await startTraining([file, ...dir, ...set("optimizer.lr=1e30")]).outcome;
  expect([code, stdout]).toEqual([1, ""]);
  const good = join(run, "checkpoints", "step-000000");
  expect(stderr).toContain("retort: step 1: update 1 is not finite: ");
  expect(stderr).toContain(
    `The last good checkpoint is ${good} (after step 0). Train on from it in a run of its own`,
  );
  const { weights } = readPolicy(good);
  expect(weights).toEqual(readPolicy(join(root, "policy")).weights);
  expect(stepRows(run)).toEqual([]);
  const again = join(root, "gentler");
  await train([file, ...set(`policy.path=${good}/policy`, `run.dir=${again}`, "run.steps=1")]);
  expect(stepRows(again).length).toBe(1);
});

test("weights that overflow only when they are used: the checkpoint before them is the good one", async () => {
  const { file, run, dir } = prepared();
  const broken = [
    "optimizer.lr=1e17",
    "checkpoint.every=1",
    "evaluation.every=0",
    "optimizer.weight_decay=0",
  ];
  const { code, stderr } = await startTraining([file, ...dir, ...set(...broken)]).outcome;
  expect(code).toBe(1);
  expect(stderr).toContain(
    "retort: step 2: the policy is not finite: it gives a token the log-probability NaN.",
  );
  expect(stderr).toContain(
    `The last good checkpoint is ${join(run, "checkpoints", "step-000000")} (after step 0)`,
  );
  expect(stepRows(run).length).toBe(1);
});

test("a policy whose weights hold NaN is found before its first step", async () => {
  const { file, dir } = prepared();
  const folder = join(root, "nan");
  const config = readDecoderConfig(join(root, "policy"));
  const weights = readWeights(join(root, "policy"), config);
  weights["model.norm.weight"]![3] = Number.NaN;
  await writePolicy(folder, config, weights, join(root, "policy"));
  const { code, stderr } = await startTraining([file, ...dir, ...set(`policy.path=${folder}`)]).outcome;
  expect(code).toBe(2);
  const tensor = `${join(folder, "model.safetensors")}: model.norm.weight`;
  expect(stderr).toContain(
    `retort: ${tensor}: need finite numbers, but element 3 is NaN. The weights are broken`,
  );
});

test("groups whose rewards all agree train nothing under GRPO, and are counted", async () => {
  // Whatever the policy writes is right: the tests want nothing of it.
  const tasks = [1, 2, 3, 4].map((digit) => digitTask(digit, { comparator: "exit" }));
  writeTasks(join(root, "agreeing.jsonl"), tasks);
  const { file, run, dir } = prepared({ objective: { type: "grpo", max_teacher_tokens: undefined } });
  await train([file, ...dir, ...set(`tasks.train=${join(root, "agreeing.jsonl")}`, "run.steps=3")]);
  expect(
    stepRows(run).map((row) => [row.reward, row.agreeing_groups, row.optimizer_steps, row.trained_sequences]),
  ).toEqual([1, 2, 3].map(() => [1, 2, 0, 0]));
  const weightsOf = (folder: string) => readSafetensors(join(folder, "model.safetensors")).tensors;
  expect(weightsOf(join(run, "checkpoints", "step-000003", "policy"))).toEqual(
    weightsOf(join(root, "policy")),
  );
});

test("a program that our sandbox could not run is masked and counted, never scored, and the run goes on", async () => {
  const tasks = [digitTask(1), digitTask(2, { language: "absent" })];
  writeTasks(join(root, "partly.jsonl"), tasks);
  const { file, run, dir } = prepared({ languages: { folders: [join(root, "languages")] } });
  await train([file, ...dir, ...set(`tasks.train=${join(root, "partly.jsonl")}`, "run.steps=4")]);
  const rows = stepRows(run);
  expect(
    rows.map(({ infrastructure, statuses }) => [
      infrastructure,
      (statuses as { infrastructure: number }).infrastructure,
    ]),
  ).toEqual(rows.map(() => [4, 4]));
  const failed = rollouts(run).filter(({ status }) => status === "infrastructure");
  expect(failed.length).toBe(4 * 4);
  for (const row of failed) {
    expect(row).toMatchObject({
      task_id: "digit/2",
      reward: null,
      advantage: 0,
      teacher_prompt: null,
      feedback: "",
    });
    expect(row.reason).toContain("no-such-interpreter");
  }
  const judged = rollouts(run).filter(({ status }) => status !== "infrastructure");
  rows.forEach((row, i) => {
    const rewards = judged.slice(4 * i, 4 * i + 4).map(({ reward }) => Number(reward));
    expect(row.reward).toBeCloseTo(rewards.reduce((a, b) => a + b) / 4, 12);
  });
});

test("where our machinery fails throughout there is no reward at all, and nothing is learned of it", async () => {
  const sections = { languages: { default: "absent", folders: [join(root, "languages")] } };
  const { file, run, dir } = prepared(sections);
  await train([file, ...dir, ...set("run.steps=2", "evaluation.samples=1")]);
  expect(
    stepRows(run).map((row) => [row.reward, row.pass_rate, row.infrastructure, row.optimizer_steps]),
  ).toEqual([
    [null, null, 8, 0],
    [null, null, 8, 0],
  ]);
  const evaluations = metrics(run).filter(({ kind }) => kind === "evaluation");
  expect(evaluations.map(({ sets }) => sets)).toEqual(
    [1, 2].map(() => ({ heldout: { sampled: null, greedy: null } })),
  );
  const report = JSON.parse(readFileSync(join(run, "report.json"), "utf8")) as Record<string, unknown>;
  expect([report.infrastructure, report.statuses]).toEqual([16, { infrastructure: 16 }]);
});

test("a language that no file defines is refused before the run starts", async () => {
  writeTasks(join(root, "intercal.jsonl"), [digitTask(1, { language: "intercal" })]);
  const { file, run, dir } = prepared();
  const args = [file, ...dir, ...set(`tasks.train=${join(root, "intercal.jsonl")}`)];
  const { code, stderr } = await startTraining(args).outcome;
  expect(code).toBe(2);
  expect(stderr).toContain("retort: task digit/1: language: need one of");
  expect(stderr).toContain('got "intercal"');
  expect(metrics(run)).toEqual([]);
});

test("completions that would run past the policy's positions are refused before the run starts", async () => {
  const { file, dir } = prepared();
  const { code, stderr } = await startTraining([file, ...dir, ...set("rollout.max_new_tokens=256")]).outcome;
  expect(code).toBe(2);
  expect(stderr).toContain(
    "retort: rollout.max_new_tokens: need at most 253: the policy has 256 positions (max_position_embeddings), and the longest prompt takes 3, got 256.",
  );
});

describe("our own machinery killed within a run", () => {
  const whole = join(root, "unharmed");
  const short = set("evaluation.samples=0", "evaluation.greedy=false", "run.steps=3");
  const slow = {
    languages: { default: "slow", folders: [join(root, "languages")] },
    verifier: { cache: false },
  };
  const strip = (rows: Record<string, unknown>[]) => rows.map(({ timing: _t, memory: _m, ...rest }) => rest);
  beforeAll(async () => {
    await train([prepared(slow).file, ...set(`run.dir=${whole}`), ...short]);
  });

  test.each(["the broker", "its sandboxes"])(
    "%s: programs are judged again, and no reward comes of it",
    async (what) => {
      const { file, run, dir } = prepared(slow);
      const training = startTraining([file, ...dir, ...short]);
      await training.until("training", () => training.stderr().includes("training"));
      /** Kills what is to be killed while a program runs; false where none does, or it has just ended. */
      const strike = (): boolean => {
        const below = descendants(training.pid);
        if (!below.some(({ name }) => name === "sleep")) return false;
        const broker = below.find(({ parent }) => parent === training.pid)!;
        const sandboxes = below.filter(({ parent }) => parent === broker.pid);
        const killed = (what === "the broker" ? [broker] : sandboxes).filter(({ pid }) => isKilled(pid));
        return killed.length > 0;
      };
      await training.until("a program that could be killed", strike);
      const { code, stderr } = await training.outcome;
      expect(code, stderr).toBe(0);
      expect(strip(stepRows(run))).toEqual(strip(stepRows(whole)));
      expect(strip(rollouts(run))).toEqual(strip(rollouts(whole)));
    },
  );
});

test("the user's own reward function, in TypeScript, is what the run learns from", async () => {
  writeFileSync(
    join(root, "reward.ts"),
    `import type { RewardInput } from "retort/trainer";
     export const reward = ({ rollout, verdict }: RewardInput): number | null => {
       if (rollout.sample === 3) return null;
       if (rollout.sample === 2) throw new Error("cannot say");
       return verdict.reward! + rollout.completion.length / 100;
     };`,
  );
  const { file, run, dir } = prepared({ tasks: { reward: join(root, "reward.ts") } });
  await train([file, ...dir, ...set("run.steps=2")]);
  for (const row of rollouts(run)) {
    const { sample, status, reward, completion } = row as {
      sample: number;
      status: string;
      reward: number | null;
      completion: string;
    };
    if (sample >= 2) {
      expect([reward, row.advantage, row.teacher_prompt]).toEqual([null, 0, null]);
      expect(row.reward_failure).toBe(sample === 2 ? "reward function: cannot say" : undefined);
    } else expect(reward).toBeCloseTo((status === "accepted" ? 1 : 0) + completion.length / 100, 12);
  }
  expect(stepRows(run).map(({ reward_failures }) => reward_failures)).toEqual([2, 2]);
  expect(readFileSync(join(run, "config.yaml"), "utf8")).toContain("reward.ts");
  expect(readdirSync(run)).toContain("report.json");
});

test("policy.device: tensorflow without its package is refused with the way to get it", async () => {
  const { file, dir } = prepared();
  const { code, stderr } = await startTraining([file, ...dir, ...set("policy.device=tensorflow")]).outcome;
  expect(code).toBe(2);
  expect(stderr).toContain(
    "retort: policy.device: need one of the packages @tensorflow/tfjs-node-gpu and @tensorflow/tfjs-node",
  );
  expect(stderr).toContain("npm install @tensorflow/tfjs-node-gpu");
});

test("sft imitates the tasks' own reference programs, and nothing that the policy wrote", async () => {
  // Digits that the policy has never answered.
  writeTasks(
    join(root, "demonstrated.jsonl"),
    [8, 9].map((digit) => digitTask(digit)),
  );
  const { file, run, dir } = prepared({ objective: { type: "sft", max_teacher_tokens: undefined } });
  const tasks = set(
    `tasks.train=${join(root, "demonstrated.jsonl")}`,
    `tasks.heldout=${join(root, "demonstrated.jsonl")}`,
  );
  await train([file, ...dir, ...tasks, ...set("run.steps=30", "optimizer.lr=0.01", "evaluation.every=0")]);
  const { heldout } = JSON.parse(readFileSync(join(run, "report.json"), "utf8")) as {
    heldout: Record<"before" | "after", { greedy: number }>;
  };
  expect([heldout.before.greedy, heldout.after.greedy]).toEqual([0, 1]);
  expect(stepRows(run)[0]).toMatchObject({ trained_sequences: 2, skipped_sequences: 6, max_log_prob_gap: 0 });
});

test("sft without a reference program is refused", async () => {
  writeTasks(join(root, "bare.jsonl"), [digitTask(1, { reference: {} })]);
  const { file, dir } = prepared({ objective: { type: "sft", max_teacher_tokens: undefined } });
  const { code, stderr } = await startTraining([
    file,
    ...dir,
    ...set(`tasks.train=${join(root, "bare.jsonl")}`),
  ]).outcome;
  expect(code).toBe(2);
  expect(stderr).toContain(
    'objective.type: need tasks with a reference program in lua: it imitates them, got "sft".',
  );
});
