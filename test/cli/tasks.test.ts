import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { readTasks } from "../../tasks/index.js";
import { languageModel } from "../coordinator/language-model.js";
import { main, retort } from "./retort.js";

const folder = mkdtempSync(join(tmpdir(), "cli-tasks-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, ...rows: readonly unknown[]): string => {
  const path = join(folder, name);
  writeFileSync(path, rows.map((row) => `${typeof row === "string" ? row : JSON.stringify(row)}\n`).join(""));
  return path;
};
const pair = (input: string, output: string) => ({ input, output });
const row = (idx: number, tests: readonly unknown[], lang = "lua") => ({
  idx,
  lang,
  prompt: `Do ${idx}.`,
  test_cases: tests,
});

test("convert writes the tasks, tells what it refused and why, and reports every row", async () => {
  const input = file(
    "mixed.jsonl",
    row(1, [pair("1", "2"), pair("1", "2")]),
    row(2, []),
    row(3, [pair("1", "2"), pair("1", "3")]),
    "{",
    row(4, [pair("5", "6")], "klingon"),
  );
  const [out, report] = [join(folder, "new", "out.jsonl"), join(folder, "report.json")];
  const { code, stdout, stderr } = await retort([
    "tasks",
    "convert",
    input,
    "--out",
    out,
    "--report",
    report,
  ]);
  expect(code).toBe(0);
  expect(stdout).toBe(
    `2 of 5 rows kept (agnostics-train), with 2 tests
1 tests left out
  duplicate_test 1: an earlier test of the task is the same
    ${input}:1: test 2: the same as test 1
3 rows refused
  no_tests 1: there are no tests, so every program would pass
    ${input}:2: the row has no tests
  contradictory_tests 1: two tests have the same input and different outputs
    ${input}:3: tests 1 and 2 have the input "1"; one expects "2", the other "3"
  not_json 1: the line is not JSON
    ${input}:4: Expected property name or '}' in JSON at position 1 (line 1 column 2)
`.replace(/ \(line 1 column 2\)/, process.version.startsWith("v20") ? "" : " (line 1 column 2)"),
  );
  expect(stderr).toContain("No language file defines klingon");
  expect(readTasks(out).map(({ id }) => id)).toEqual(["agnostics/lua/1", "agnostics/klingon/4"]);
  const { rows, summary } = JSON.parse(readFileSync(report, "utf8")) as {
    rows: { at: string; reason: string }[];
    summary: { kept: number };
  };
  expect(rows.map(({ at, reason }) => `${at.replace(input, "")} ${reason}`)).toEqual([
    ":1 duplicate_test",
    ":2 no_tests",
    ":3 contradictory_tests",
    ":4 not_json",
  ]);
  expect(summary.kept).toBe(2);
});

test("convert --json prints one object and nothing else", async () => {
  const input = file("one.jsonl", row(1, [pair("1", "2")]));
  const { stdout } = await retort(["tasks", "convert", input, "--out", join(folder, "one.out"), "--json"]);
  expect(JSON.parse(stdout)).toEqual({
    files: [input],
    formats: ["agnostics-train"],
    rows: 1,
    kept: 1,
    tests: 1,
    languages: { lua: 1 },
    refused: {},
    dropped_tests: {},
  });
});

test("where nothing can be kept, or a file is cut short, it is exit 2 and the old output stays whole", async () => {
  const out = file("kept.jsonl", "what was there");
  const none = file("none.jsonl", row(2, []));
  const cut = file("cut.json", `[${JSON.stringify(row(1, [pair("1", "2")]))}`);
  const before = readdirSync(folder).sort();
  for (const [input, says] of [
    [none, "no_tests 1"],
    [cut, "the file ends within its array"],
    ["/none", "need a file that can be read (ENOENT)"],
  ] as const) {
    const { code, stdout, stderr } = await retort(["tasks", "convert", input, "--out", out]);
    expect([code, stdout, readFileSync(out, "utf8")]).toEqual([2, "", "what was there\n"]);
    expect(stderr).toContain(says);
  }
  expect(readdirSync(folder).sort()).toEqual(before); // nothing half written lies about
});

test.each([
  { args: ["--from", "mbp"], says: "Allowed choices are auto, livecodebench" },
  { args: ["--language", "lau"], says: "Did you mean lua?" },
  { args: ["--date-from", "2025-13-01"], says: "Need a day as 2024-12-31." },
  { args: ["--visible", "some"], says: "Allowed choices are all, none, shown, public" },
  { args: ["--comparator", "fuzzy"], says: "Allowed choices are tokens" },
])("wrong usage of convert is exit 2: $args", async ({ args, says }) => {
  const input = file("usage.jsonl", row(1, [pair("1", "2")]));
  const { code, stderr } = await retort(["tasks", "convert", input, "--out", join(folder, "never"), ...args]);
  expect([code, existsSync(join(folder, "never"))]).toEqual([2, false]);
  expect(stderr).toContain(says);
});

test("an output that is a folder or a device, or stands where none can be, is exit 2 and is left alone", async () => {
  const input = file("folder.jsonl", row(1, [pair("1", "2")]));
  for (const out of [folder, join(input, "below"), "/dev/null"]) {
    const { code, stderr } = await retort(["tasks", "convert", input, "--out", out]);
    expect(code).toBe(2);
    expect(stderr).toMatch(/--out: need a file that can be written \((.* is no plain file|EEXIST|ENOTDIR)\)/);
  }
});

test.each(["SIGKILL", "SIGINT"] as const)(
  "ended by %s in the middle, convert leaves the old output",
  async (signal) => {
    const input = join(folder, "long.jsonl");
    const line = (i: number): string =>
      `${JSON.stringify(row(i, [pair(`${i} ${"9".repeat(1000)}`, "2")]))}\n`;
    writeFileSync(input, Array.from({ length: 100_000 }, (_, i) => line(i)).join(""));
    const out = join(folder, signal, "out.jsonl");
    mkdirSync(join(folder, signal));
    writeFileSync(out, "old\n");
    const child = spawn(process.execPath, [main, "tasks", "convert", input, "--out", out], {
      stdio: "ignore",
      cwd: packageRoot,
    });
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
    const isWriting = (): boolean =>
      readdirSync(join(folder, signal)).some(
        (name) =>
          name.endsWith(".tmp") &&
          (statSync(join(folder, signal, name), { throwIfNoEntry: false })?.size ?? 0) > 0,
      );
    while (!isWriting() && child.exitCode === null) await new Promise((go) => setTimeout(go, 2));
    child.kill(signal);
    await ended;
    expect([child.signalCode ?? child.exitCode, readFileSync(out, "utf8")]).toEqual([
      signal === "SIGINT" ? 130 : "SIGKILL",
      "old\n",
    ]);
    if (signal === "SIGINT") expect(readdirSync(join(folder, signal))).toEqual(["out.jsonl"]); // nothing half written
  },
);

const task = (id: string, tests: readonly unknown[], reference?: Record<string, string>) => ({
  id,
  prompt: `Do ${id}.`,
  tests,
  ...(reference && { reference }),
});
const sum = { lua: 'print(io.read("n") + io.read("n"))' };

test("check --run tells references that fail and tasks that ask nothing, and writes the others", async () => {
  const input = file(
    "check.jsonl",
    task("right", [pair("1 2", "3")], { ...sum, python: "print(sum(map(int, input().split())))" }),
    task("wrong", [pair("1 2", "4")], sum),
    task("broken", [pair("1 2", "3")], { lua: "print(" }),
    task("bare", [pair("2 2", "4")]),
    task("empty", [pair("1", ""), pair("2", "x")], { lua: "" }),
    { ...task("vacuous", [pair("", "")], { lua: "print(1)" }), comparator: "exit" },
    task("strange", [pair("1 1", "2")], { klingon: "Qapla'" }),
  );
  const out = join(folder, "trusted.jsonl");
  const { code, stdout } = await retort(["tasks", "check", input, "--run", "--out", out, "--json"]);
  const report = JSON.parse(stdout) as {
    is_right: boolean;
    references: Record<string, { at: string; id: string; message: string }[]>;
  };
  expect([code, report.is_right]).toEqual([1, false]);
  expect(report.references).toMatchObject({ accepted: 3, without: 2, infrastructure: [] });
  expect(report.references.failed).toMatchObject([
    { at: `${input}:2`, id: "wrong", message: expect.stringMatching(/^lua: wrong_answer, 0 of 1 tests: /) },
    { id: "broken", message: expect.stringMatching(/^lua: (runtime|compile)_error, 0 of 1 tests: /) },
    { id: "empty", message: expect.stringMatching(/^lua: wrong_answer, 1 of 2 tests/) },
  ]);
  expect(report.references.vacuous).toMatchObject([{ id: "vacuous" }]);
  expect(readTasks(out).map(({ id }) => id)).toEqual(["right", "bare", "strange"]);
  const words = await retort(["tasks", "check", input, "--run"]);
  expect([words.code, words.stdout]).toEqual([1, expect.stringContaining("3 references fail\n")]);
  expect(words.stdout).toContain("1 tasks ask nothing\n");
});

test("check without --run runs nothing; a file without fault is exit 0, a wrong one 1, a missing one 2", async () => {
  const good = file("good.jsonl", task("a", [pair("1", "2")], { lua: "error()" }));
  const bad = file("bad.jsonl", task("a", [pair("1", "2"), pair("1", "3")]), task("b", [pair("1", "2")]));
  expect(await retort(["tasks", "check", good])).toMatchObject({
    code: 0,
    stdout: "1 of 1 rows kept (retort), with 1 tests\n",
  });
  expect(await retort(["tasks", "check", bad])).toMatchObject({
    code: 1,
    stdout: expect.stringContaining(`${bad}:1: tests 1 and 2`),
  });
  expect((await retort(["tasks", "check", "/none"])).code).toBe(2);
});

test("the shipped MBPP sample passes its own check", async () => {
  const { code, stdout } = await retort(["tasks", "check", "configs/tasks/mbpp-sample.jsonl", "--run"]);
  expect([code, stdout]).toEqual([0, "40 of 40 rows kept (retort), with 120 tests\n40 references pass\n"]);
});

const exercise = {
  task_id: 1,
  text: "Write a function to double a number.",
  code: "def double(n):\n  return 2 * n",
  test_list: ["assert double(2) == 4"],
};
const reply = JSON.stringify({
  description: "Double a number.",
  input_format: "One integer.",
  output_format: "Its double.",
  tests: [pair("2", "4"), pair("3", "6"), pair("-1", "-2")],
  program:
    'def double(n):\n    return 2 * n\n\nif __name__ == "__main__":\n    print(double(int(input())))\n',
});

test("check refuses an --out that is a folder, and keeps it", async () => {
  const { code, stderr } = await retort(["tasks", "check", "configs/tasks/echo.jsonl", "--out", folder]);
  expect([code, stderr]).toEqual([
    2,
    expect.stringContaining(`retort: --out: need a file that can be written (${folder} is no plain file)`),
  ]);
});

test("rewrite asks the endpoint with the key of the environment, and the second time asks nothing", async () => {
  const model = await languageModel(() => reply);
  const input = file("mbpp.jsonl", exercise);
  const out = join(folder, "rewritten.jsonl");
  const args = [
    "tasks",
    "rewrite",
    input,
    "--endpoint",
    model.url,
    "--model",
    "m",
    "--out",
    out,
    "--temperature",
    "0",
    "--max-new-tokens",
    "500",
    "--price-prompt",
    "1",
  ];
  const env = process.env.RETORT_API_KEY;
  process.env.RETORT_API_KEY = "sk-of-the-test";
  try {
    const first = await retort(args);
    expect(first).toMatchObject({
      code: 0,
      stdout:
        "1 of 1 exercises are tasks (1 at attempt 1)\n1 requests, 100 tokens in, 20 tokens out, cost 0.0001\n",
    });
    expect(first.stderr).not.toContain("sk-of");
    expect(model.seen[0]).toMatchObject({
      authorization: "Bearer sk-of-the-test",
      body: { model: "m", temperature: 0, max_tokens: 500 },
    });
    const second = await retort([...args, "--json"]);
    expect(JSON.parse(second.stdout)).toMatchObject({ known: 1, rewritten: 0, requests: 0 });
    expect((await retort(["tasks", "check", out, "--run"])).code).toBe(0);
  } finally {
    if (env === undefined) delete process.env.RETORT_API_KEY;
    else process.env.RETORT_API_KEY = env;
    await model.close();
  }
});

test("rewrite is exit 1 while answers are missing, and what came is kept", async () => {
  const model = await languageModel(({ messages }) =>
    messages[1]!.content.includes("double") ? reply : { status: 500 },
  );
  const input = file("half.jsonl", exercise, {
    ...exercise,
    task_id: 2,
    text: "Write another function.",
    code: "def halve(n):\n  return n",
    test_list: ["assert halve(1) == 1"],
  });
  const out = join(folder, "half.out");
  const args = [
    "tasks",
    "rewrite",
    input,
    "--endpoint",
    model.url,
    "--model",
    "m",
    "--out",
    out,
    "--retries",
    "0",
  ];
  const { code, stdout } = await retort(args);
  await model.close();
  expect([code, readTasks(out).length]).toEqual([1, 1]);
  expect(stdout).toContain("1 got no answer; run again to ask for them\n");
});

test("rewrite with no endpoint there is exit 1, with an address that is none exit 2", async () => {
  const input = file("mbpp2.jsonl", exercise);
  const gone = await languageModel(() => undefined);
  await gone.close();
  const rest = ["--model", "m", "--out", join(folder, "none.out"), "--retries", "0"];
  const down = await retort(["tasks", "rewrite", input, "--endpoint", gone.url, ...rest]);
  expect([down.code, down.stdout]).toEqual([1, ""]);
  expect(down.stderr).toContain("1 got no answer; run again to ask for them");
  expect(down.stderr).toContain("ECONNREFUSED");
  const wrong = await retort(["tasks", "rewrite", input, "--endpoint", "localhost:8000", ...rest]);
  expect(wrong.code).toBe(2);
  expect(wrong.stderr).toContain(
    '--endpoint: need an address as http://localhost:8000/v1, got "localhost:8000"',
  );
});
