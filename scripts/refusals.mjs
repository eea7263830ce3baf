#!/usr/bin/env node
/**
 * Whether the judge refuses what it should: the reference programs of a task file, against their own tests, against the
 * same tests with one output token changed, and against another task's tests. Prints the three counts of accepted.
 *   node scripts/refusals.mjs configs/tasks/mbpp-sample.jsonl
 */
import { availableParallelism } from "node:os";
import { createProgress } from "../dist/coordinator/progress.js";
import { readTasks } from "../dist/tasks/index.js";
import { createLocalPool, loadLanguages } from "../dist/verifiers/index.js";

const file = process.argv[2];
if (file === undefined) {
  process.stderr.write("usage: node scripts/refusals.mjs TASKS.jsonl\n");
  process.exit(2);
}
const tasks = readTasks(file).filter((task) => task.reference?.python !== undefined);

/**
 * The output with its last token replaced by one that nothing prints.
 * @param {string} output
 */
const withOtherToken = (output) =>
  output.trim() === "" ? "changed\n" : output.replace(/\S+(?=\s*$)/, "changed");

/** @typedef {(typeof tasks)[number]} Task */
/** @type {[string, (task: Task, index: number) => Task][]} */
const cases = [
  ["own tests", (task) => task],
  [
    "one output token changed",
    (task) => ({
      ...task,
      tests: task.tests.map((test, i) =>
        i === task.tests.length - 1 ? { ...test, output: withOtherToken(test.output) } : test,
      ),
    }),
  ],
  [
    "another task's tests",
    (task, index) => ({
      ...task,
      tests: tasks[(index + Math.floor(tasks.length / 2)) % tasks.length]?.tests ?? [],
    }),
  ],
];

const pool = await createLocalPool({ languages: loadLanguages(), workers: 2 * availableParallelism() });
const progress = createProgress({ stream: process.stderr });
for (const [name, change] of cases) {
  const started = performance.now();
  let done = 0;
  progress.stage(name, tasks.length);
  const verdicts = await Promise.all(
    tasks.map(async (task, index) => {
      const submission = {
        id: task.id,
        task: change(task, index),
        language: "python",
        program: task.reference?.python ?? null,
      };
      const verdict = await pool.verify(submission);
      progress.update({ done: ++done });
      return verdict;
    }),
  );
  /** @type {Record<string, number>} */
  const statuses = {};
  for (const { status } of verdicts) statuses[status] = (statuses[status] ?? 0) + 1;
  const seconds = Number(((performance.now() - started) / 1000).toFixed(1));
  process.stdout.write(`${JSON.stringify({ case: name, programs: tasks.length, statuses, seconds })}\n`);
}
progress.end();
await pool.close();
