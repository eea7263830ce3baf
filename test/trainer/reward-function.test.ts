import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { type Rollout, Task, type Verdict } from "../../core/index.js";
import { loadRewardFunction } from "../../trainer/index.js";

const folder = mkdtempSync(join(tmpdir(), "retort-reward-"));
afterAll(() => rmSync(folder, { recursive: true }));

function moduleFile(name: string, source: string): string {
  const file = join(folder, name);
  writeFileSync(file, source);
  return file;
}

const task = Task.parse({ id: "t", prompt: "P", tests: [{ input: "", output: "1" }] });
const rollout: Rollout = {
  id: "0.0",
  taskId: "t",
  group: 0,
  sample: 0,
  promptIds: [1],
  completionIds: [2, 3, 4],
  completion: "abc",
  rolloutLogProbs: [-1, -1, -1],
  finishReason: "stop",
  policyVersion: 0,
};
const verdict: Verdict = {
  status: "wrong_answer",
  reward: 0,
  passed: 1,
  total: 4,
  tests: [],
  feedback: "",
  comparator: "tokens",
  cached: false,
};
const input = { task, rollout, verdict };

describe("loadRewardFunction", () => {
  test("a TypeScript module, with types and an import of its own, scores rollouts", async () => {
    moduleFile("weights.ts", "export const weight: number = 0.5;\n");
    const file = moduleFile(
      "partial.ts",
      `import type { RewardInput } from "retort/trainer";
import { weight } from "./weights.ts";
export const reward = ({ rollout, verdict }: RewardInput): number =>
  verdict.passed / verdict.total + weight * rollout.completionIds.length;
`,
    );
    const rewards = await loadRewardFunction(file);
    expect(await rewards.score(input)).toEqual({ reward: 1.75 });
    await rewards.close();
  });

  test("what goes wrong in it is an infrastructure failure with its reason, and the next call works", async () => {
    const file = moduleFile(
      "moody.mjs",
      `export async function reward({ rollout }) {
  if (rollout.completion === "throw") throw new Error("no idea");
  if (rollout.completion === "hang") for (;;);
  if (rollout.completion === "exit") process.exit(3);
  if (rollout.completion === "words") return "very good";
  return rollout.completion === "skip" ? null : 1;
}
`,
    );
    const rewards = await loadRewardFunction(file, { timeoutMs: 300 });
    const score = (completion: string) => rewards.score({ ...input, rollout: { ...rollout, completion } });
    expect(await Promise.all(["fine", "throw", "hang", "words", "exit", "skip", "fine"].map(score))).toEqual([
      { reward: 1 },
      { reward: null, reason: "reward function: no idea" },
      { reward: null, reason: "reward function: took over 300 ms" },
      { reward: null, reason: "reward function: returned very good, need a finite number or null" },
      { reward: null, reason: "reward function: its thread ended with code 3" },
      { reward: null },
      { reward: 1 },
    ]);
    await rewards.close();
  });

  test.each([
    { name: "absent.ts", source: null, need: "a file that exists" },
    { name: "reward.py", source: "reward = 1", need: "a file ending in .ts, .mts, .js, .mjs" },
    { name: "other.js", source: "export const score = 1;", need: "exports reward (it has no such function)" },
    { name: "broken.ts", source: "export const reward = (", need: "a module that exports reward (" },
  ])("$name is refused before the run starts", async ({ name, source, need }) => {
    const file = source === null ? join(folder, name) : moduleFile(name, source);
    await expect(loadRewardFunction(file)).rejects.toThrow(need);
  });
});
