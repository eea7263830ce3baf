import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ConfigError, comparatorName, packageRoot } from "../../core/index.js";
import { readTasks, tasksOf } from "../../tasks/index.js";
import { createLocalPool, loadLanguages } from "../../verifiers/index.js";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "retort-tasks-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const GOOD = '{"id":"add/1","prompt":"Add.","tests":[{"input":"1 2\\n","output":"3\\n"}]}';
const file = (text: string): string => {
  const path = join(folder, "tasks.jsonl");
  writeFileSync(path, text);
  return path;
};
const messageOf = (text: string): string => {
  try {
    readTasks(file(text));
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message.replace(folder, "");
  }
  return "no error";
};

test("a line becomes a task with its defaults filled in", () => {
  expect(readTasks(file(`${GOOD}\n`))).toEqual([
    {
      id: "add/1",
      prompt: "Add.",
      tests: [{ input: "1 2\n", output: "3\n", visible: true }],
      comparator: "tokens",
      limits: {},
    },
  ]);
});

test("a comparator is a name or a checker program", () => {
  const checker = { language: "python", program: "exit(0)", accepts_answer: false };
  const lines = ["sandboxfusion", { checker }].map((comparator, i) =>
    JSON.stringify({ ...JSON.parse(GOOD), id: `t${i}`, comparator }),
  );
  const tasks = readTasks(file(lines.join("\n")));
  expect(tasks.map(({ comparator }) => comparator)).toEqual(["sandboxfusion", { checker }]);
  expect(tasks.map(({ comparator }) => comparatorName(comparator))).toEqual(["sandboxfusion", "checker"]);
});

test("blank lines, Windows line ends, a byte order mark and a missing last newline are no mistakes", () => {
  const second = GOOD.replace("add/1", "add/2");
  expect(readTasks(file(`\ufeff${GOOD}\r\n\r\n${second}`)).map(({ id }) => id)).toEqual(["add/1", "add/2"]);
});

test.each([
  {
    name: "broken JSON",
    text: `${GOOD}\n\n{"id": "x",\n`,
    want: /^\/tasks\.jsonl:3: need one line of JSON a task/,
  },
  {
    name: "no tests",
    text: '{"id":"a","prompt":"p","tests":[]}',
    want: /^\/tasks\.jsonl:1: need a task; tests: a task without tests would pass every program/,
  },
  { name: "an unknown key", text: GOOD.replace('"prompt"', '"promt":"","prompt"'), want: /:1: .*"promt"/ },
  {
    name: "a wrong type deep inside",
    text: GOOD.replace('"3\\n"', "3"),
    want: /:1: need a task; tests\.0\.output: .*expected string/,
  },
  {
    name: "half a character in an output",
    text: GOOD.replace("3\\n", "\\ud83d"),
    want: /:1: need a task; tests\.0\.output: text with a lone surrogate, which has no UTF-8 bytes/,
  },
  {
    name: "an id used twice",
    text: `${GOOD}\n${GOOD}\n`,
    want: /^\/tasks\.jsonl:2: need an id of its own: line 1 has this one, got "add\/1"/,
  },
  {
    name: "a comparator that there is not",
    text: GOOD.replace('"prompt"', '"comparator":"token","prompt"'),
    want: /:1: need a task; comparator: one of tokens, exact, .*, or \{"checker": .*; did you mean tokens\?/,
  },
  {
    name: "a checker without a language",
    text: GOOD.replace('"prompt"', '"comparator":{"checker":{"program":"x"}},"prompt"'),
    want: /:1: need a task; comparator: a checker is \{"checker": .*; checker: language: .*expected string/,
  },
  {
    name: "a mistyped key of a checker",
    text: GOOD.replace('"prompt"', '"comparator":{"checker":{"language":"lua","programm":"x"}},"prompt"'),
    want: /comparator: a checker is .*"programm"/,
  },
  { name: "an empty file", text: "\n\n", want: /^\/tasks\.jsonl: need at least one task/ },
])("a file with $name is refused with its place and reason", ({ text, want }) => {
  expect(messageOf(text)).toMatch(want);
});

test("a missing file and a folder are refused by name", () => {
  expect(() => readTasks(join(folder, "absent.jsonl"))).toThrow(
    /absent\.jsonl: need a task file that can be read/,
  );
  expect(() => readTasks(folder)).toThrow(/need a task file, not a folder/);
});

test("a file larger than one piece is read line by line, characters of several bytes intact", () => {
  const prompt = "é→😀".repeat(40);
  const lines = Array.from({ length: 6000 }, (_, i) =>
    JSON.stringify({ id: `t/${i}`, prompt: prompt + i, tests: [{ input: "", output: "" }] }),
  );
  const path = file(lines.join("\n"));
  const seen = [...tasksOf(path)].map(({ prompt: text }) => text);
  expect(seen).toEqual(lines.map((_, i) => prompt + i));
  const first = tasksOf(path).next();
  expect(first.done ? null : first.value.id).toBe("t/0");
});

test("the shipped MBPP sample holds 40 tasks whose references all pass", async () => {
  const tasks = readTasks(join(packageRoot, "configs/tasks/mbpp-sample.jsonl"));
  expect(tasks).toHaveLength(40);
  const pool = await createLocalPool({ languages: loadLanguages() });
  try {
    const verdicts = await Promise.all(
      tasks.map((task) =>
        pool.verify({ id: task.id, task, language: "python", program: task.reference?.python ?? null }),
      ),
    );
    expect(verdicts.map(({ status }) => status)).toEqual(Array(40).fill("accepted"));
  } finally {
    await pool.close();
  }
});
