import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { prepareRun } from "./small-policy.js";
import { numbersOf, stepRows, train } from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "repeat-"));
let file = "";
afterAll(() => rmSync(root, { recursive: true }));
beforeAll(async () => {
  file = await prepareRun(root);
});

const runs = async (name: string, ...args: string[]): Promise<string[]> => {
  const folders = [1, 2].map((number) => join(root, `${name}-${number}`));
  await Promise.all(
    folders.map((folder) => train([file, "--set", `run.dir=${folder}`, "--set", "run.steps=4", ...args])),
  );
  return folders;
};

test.each([1, 2])("the same run twice at %i threads gives the same bits", async (threads) => {
  const [first, second] = await runs(`threads-${threads}`, "--set", `policy.threads=${threads}`);
  expect(numbersOf(second!)).toEqual(numbersOf(first!));
  const gaps = stepRows(first!).map(({ max_log_prob_gap }) => max_log_prob_gap);
  expect(gaps.length).toBe(4);
  for (const gap of gaps) expect(gap).toBeLessThan(1e-4);
});

test("another seed draws other tasks and other tokens", async () => {
  const other = join(root, "other");
  await train([file, "--set", `run.dir=${other}`, "--set", "run.seed=6", "--set", "run.steps=3"]);
  const { rollouts } = numbersOf(other) as { rollouts: { task_id: string; completion: string }[] };
  const { rollouts: before } = numbersOf(join(root, "threads-1-1")) as { rollouts: typeof rollouts };
  const drawn = (rows: typeof rollouts): string[] =>
    rows.slice(0, 24).map((row) => `${row.task_id} ${row.completion}`);
  expect(drawn(rollouts)).not.toEqual(drawn(before));
});
