import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import {
  type Drawn,
  evaluateSolutions as evaluate,
  type SolutionsEvaluation,
} from "../../coordinator/evaluate-solutions.js";
import type { EvaluationSummary } from "../../coordinator/evaluation-summary.js";
import { readSolutions, referenceSolutions, type Solution } from "../../coordinator/solutions.js";
import { InfrastructureError, STATUSES, type Status, Task, type Verdict } from "../../core/index.js";

const root = mkdtempSync(join(tmpdir(), "evaluate-"));
afterAll(() => rmSync(root, { recursive: true }));
let out = "";
let count = 0;
beforeEach(() => {
  out = join(root, `out${count++}.jsonl`);
});

const evaluateSolutions = async (evaluation: SolutionsEvaluation): Promise<EvaluationSummary> =>
  (await evaluate(evaluation)).summary;

const tasks = ["a", "b", "c"].map((id) =>
  Task.parse({
    id,
    prompt: id,
    tests: [{ input: "", output: id }],
    language: "bash",
    reference: { bash: `echo ${id}`, lua: `print("${id}")` },
  }),
);

/** A judge for the file's sake: a program's text is its verdict. What a real one does is tested with the pool. */
function judge(
  judged: string[],
  infrastructure = new Set<string>(),
): {
  verify: (submission: { id: string; task: Task; program: string | null }) => Promise<Verdict>;
  isolation: never;
} {
  return {
    isolation: { sandbox: "none" } as never,
    verify: async ({ id, task, program }) => {
      judged.push(id);
      const isOurs = infrastructure.delete(task.id);
      const status: Status = isOurs ? "infrastructure" : program === task.id ? "accepted" : "wrong_answer";
      return {
        status,
        reward: isOurs ? null : Number(status === "accepted"),
        passed: 0,
        total: 1,
        tests: [],
        feedback: "",
        comparator: "tokens",
        cached: false,
      };
    },
  };
}

const solution = (task: Task, sample: number, program: string): Solution => ({
  task,
  language: "bash",
  sample,
  program,
});
const all = tasks.flatMap((task) => [solution(task, 0, task.id), solution(task, 1, "wrong")]);
const rows = (): { task_id: string; sample: number; status: Status }[] =>
  readFileSync(out, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as never);

test("rows stand in the order of the solutions, and the summary counts them", async () => {
  const summary = await evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
  expect(rows().map(({ task_id, sample, status }) => [task_id, sample, status])).toEqual([
    ["a", 0, "accepted"],
    ["a", 1, "wrong_answer"],
    ["b", 0, "accepted"],
    ["b", 1, "wrong_answer"],
    ["c", 0, "accepted"],
    ["c", 1, "wrong_answer"],
  ]);
  const { seconds, programs_per_s, statuses } = summary;
  expect(summary).toMatchObject({ tasks: 3, samples: 6, "pass@1": 0.5, "pass@2": 1, infrastructure: 0 });
  expect(summary).toMatchObject({ "pass^2": 0, judged_now: 6, isolation: { sandbox: "none" } });
  expect([statuses.accepted, statuses.wrong_answer, Object.keys(statuses)]).toEqual([3, 3, [...STATUSES]]);
  expect(programs_per_s! * seconds).toBeCloseTo(6);
  expect(existsSync(`${out}.lock`)).toBe(false);
});

test("a second evaluation judges nothing again", async () => {
  await evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
  const before = readFileSync(out, "utf8");
  const judged: string[] = [];
  const summary = await evaluateSolutions({ solutions: all, out, pool: judge(judged), judging: "1" });
  expect([judged, readFileSync(out, "utf8"), summary.samples, summary.programs_per_s]).toEqual([
    [],
    before,
    6,
    null,
  ]);
});

test("what our own fault left without a verdict is judged again, and nothing else", async () => {
  const first = await evaluateSolutions({
    solutions: all,
    out,
    pool: judge([], new Set(["b"])),
    judging: "1",
  });
  expect([first.infrastructure, first["pass@1"]]).toEqual([1, 1 / 3]); // b: one judged attempt, which is wrong
  const judged: string[] = [];
  const second = await evaluateSolutions({ solutions: all, out, pool: judge(judged), judging: "1" });
  expect(judged).toEqual(['["b","bash",0]']);
  expect([second.infrastructure, second["pass@1"], rows().length]).toEqual([0, 0.5, 6]);
});

test.each([
  {
    what: "a changed program",
    solutions: [solution(tasks[0]!, 0, "other"), ...all.slice(1)],
    judging: "1",
    again: 1,
  },
  {
    what: "a changed test",
    solutions: [solution({ ...tasks[0]!, comparator: "exact" }, 0, "a"), ...all.slice(1)],
    judging: "1",
    again: 1,
  },
  { what: "a changed language", solutions: all, judging: "2", again: 6 },
  { what: "fewer solutions", solutions: all.slice(2), judging: "1", again: 0 },
])("$what is judged again; rows that do not belong are dropped", async ({ solutions, judging, again }) => {
  await evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
  const judged: string[] = [];
  await evaluateSolutions({ solutions, out, pool: judge(judged), judging });
  expect([judged.length, rows().length]).toEqual([again, solutions.length]);
});

test("cut anywhere by a kill, the file is completed to the same rows", async () => {
  await evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
  const whole = readFileSync(out);
  for (let size = 0; size <= whole.length; size += 37) {
    writeFileSync(out, whole.subarray(0, size));
    await evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
    expect(readFileSync(out, "utf8")).toBe(whole.toString());
  }
});

test("a state file cut anywhere by a kill costs a second judging, never a wrong row", async () => {
  await evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
  const [rowsWhole, state] = [readFileSync(out), readFileSync(`${out}.state.jsonl`)];
  for (let size = 0; size <= state.length; size += 29) {
    writeFileSync(out, rowsWhole);
    writeFileSync(`${out}.state.jsonl`, state.subarray(0, size));
    const judged: string[] = [];
    await evaluateSolutions({ solutions: all, out, pool: judge(judged), judging: "1" });
    const known = state.subarray(0, size).toString().split("\n").length - 1;
    expect([judged.length, readFileSync(out, "utf8")]).toEqual([6 - known, rowsWhole.toString()]);
  }
});

test("rows without a state file are refused, not judged over", async () => {
  await evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
  const before = readFileSync(out, "utf8");
  rmSync(`${out}.state.jsonl`);
  await expect(evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" })).rejects.toThrow(
    `${out}: need its ${out}.state.jsonl, which says what its rows were made from.`,
  );
  expect(readFileSync(out, "utf8")).toBe(before);
});

test("rows have the keys of the contract and no other", async () => {
  await evaluateSolutions({ solutions: all, out, pool: judge([], new Set(["a"])), judging: "1" });
  const keys =
    "task_id,sample,language,status,reward,passed,total,feedback,tests,comparator,isolation,cached".split(
      ",",
    );
  expect(rows().map((row) => Object.keys(row))).toEqual(rows().map(() => keys));
});

test("programs that are drawn are judged while others are still drawn, and one that cannot be drawn is infrastructure", async () => {
  const judged: string[] = [];
  const drawing = {
    planned: all,
    draw: async (onDrawn: (drawn: Drawn) => void) => {
      onDrawn(all[4]!);
      while (judged.length === 0) await new Promise((go) => setTimeout(go, 1)); // would wait for ever otherwise
      onDrawn({ ...all[0]!, failure: "endpoint: 500" });
      for (const index of [5, 3, 2, 1]) onDrawn(all[index]!);
    },
  };
  const { summary, solutions } = await evaluate({
    solutions: [],
    planned: all,
    drawing,
    out,
    pool: judge(judged),
    judging: "1",
  });
  expect([summary.infrastructure, summary.samples, summary.judged_now, solutions.size]).toEqual([1, 6, 5, 5]);
  expect(rows().map(({ task_id, sample, status }) => `${task_id}${sample} ${status}`)).toEqual([
    "a0 infrastructure",
    "a1 wrong_answer",
    "b0 accepted",
    "b1 wrong_answer",
    "c0 accepted",
    "c1 wrong_answer",
  ]);
});

test("stopped, it keeps the rows so far; what a closing pool says of programs under way is no row", async () => {
  const stop = new AbortController();
  const pool = judge([]);
  let finish = (): void => {};
  const closing = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const slow = {
    ...pool,
    verify: async (submission: Parameters<typeof pool.verify>[0]) => {
      const verdict = await pool.verify(submission);
      if (submission.task.id === "a") return verdict;
      while (!existsSync(out) || rows().length < 2) await new Promise((go) => setTimeout(go, 1));
      stop.abort();
      await closing;
      return { ...verdict, status: "infrastructure" as const, reward: null };
    },
  };
  const stopped = evaluateSolutions({ solutions: all, out, pool: slow, judging: "1", signal: stop.signal });
  await expect(stopped).rejects.toThrow(`Stopped: 2 of 6 programs are judged and kept in ${out}.`);
  finish();
  await new Promise((go) => setTimeout(go, 20));
  expect(rows().map(({ task_id }) => task_id)).toEqual(["a", "a"]);
});

test("a file that holds something else is never overwritten", async () => {
  writeFileSync(out, "precious notes\n");
  const attempt = evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
  await expect(attempt).rejects.toThrow(`${out}: need a result file or a new name`);
  expect(readFileSync(out, "utf8")).toBe("precious notes\n");
});

test("two evaluations into one file: the second is refused", async () => {
  const first = evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
  await expect(evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" })).rejects.toThrow(
    "need a result file that no other process writes",
  );
  await first;
});

test("an error of the judge ends the evaluation, keeps the rows so far and lets the file go", async () => {
  const judged: string[] = [];
  const pool = judge(judged);
  const failing = {
    ...pool,
    verify: (submission: Parameters<typeof pool.verify>[0]) =>
      submission.task.id === "b" ? Promise.reject(new InfrastructureError("gone")) : pool.verify(submission),
  };
  await expect(evaluateSolutions({ solutions: all, out, pool: failing, judging: "1" })).rejects.toThrow(
    "gone",
  );
  expect(rows().length).toBeGreaterThan(0);
  const again = await evaluateSolutions({ solutions: all, out, pool: judge([]), judging: "1" });
  expect(again.samples).toBe(6);
});

function solutionFile(...lines: readonly unknown[]): string {
  const file = join(root, "solutions.jsonl");
  writeFileSync(
    file,
    lines.map((line) => (typeof line === "string" ? line : JSON.stringify(line))).join("\n"),
  );
  return file;
}

test("solutions are read as programs or completions, and numbered where they have no sample", () => {
  const file = solutionFile(
    { task_id: "a", language: "lua", program: "1" },
    { task_id: "a", language: "lua", completion: "so:\n```lua\n2\n```\n" },
    "",
    { task_id: "a", completion: "no program" },
    { task_id: "b", language: "lua", program: "3", sample: 7 },
  );
  expect(
    readSolutions(file, tasks).map(({ task, language, sample, program }) => [
      task.id,
      language,
      sample,
      program?.trim() ?? null,
    ]),
  ).toEqual([
    ["a", "lua", 0, "1"],
    ["a", "lua", 1, "2"],
    ["a", "bash", 0, null],
    ["b", "lua", 7, "3"],
  ]);
});

test.each([
  { line: "{", says: "a line of JSON" },
  { line: { task_id: "a", language: "lua" }, says: "need either program or completion" },
  { line: { task_id: "a", program: "1", completion: "2" }, says: "need either program or completion" },
  { line: { task_id: "z", language: "lua", program: "1" }, says: 'need a task_id of the task file, got "z"' },
  { line: { task_id: "a", language: "lua", program: "1", sampel: 1 }, says: 'Unrecognized key: "sampel"' },
  { line: { task_id: "a", language: "bash", program: "1", sample: 0 }, says: "need another sample number" },
])("a wrong solution line is told with its place: $says", ({ line, says }) => {
  const file = solutionFile({ task_id: "a", language: "bash", program: "1" }, line);
  expect(() => readSolutions(file, tasks)).toThrow(says);
  expect(() => readSolutions(file, tasks)).toThrow(`${file}:2`);
});

test("references are every language's, and a task file without any is refused", () => {
  expect(
    referenceSolutions("t", tasks.slice(0, 1)).map(({ language, program }) => [language, program]),
  ).toEqual([
    ["bash", "echo a"],
    ["lua", 'print("a")'],
  ]);
  const bare = tasks.map(({ reference: _dropped, ...task }) => task);
  expect(() => referenceSolutions("t.jsonl", bare)).toThrow('t.jsonl: need tasks with a "reference".');
});
