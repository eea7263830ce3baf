import { execFileSync } from "node:child_process";
import { deflateSync } from "node:zlib";
import { expect, test } from "vitest";
import { convert, jsonl, refusals, taskOf } from "./rows.js";

const pair = (input: string, output: string) => ({ input, output });

test("a training row of Agnostics: tests that the prompt shows are visible, the last one is hidden", async () => {
  const row = {
    idx: 7,
    test_cases: [pair("2 3", "5"), pair("10\n20", "30"), pair("1 1", "2")],
    lang: "jl",
    prompt: "Add.\n\n# Examples\nInput\n2 3\nOutput\n5\n\nInput\n10\n20\nOutput\n30\n\nUse Julia.",
  };
  expect(await taskOf(row)).toEqual({
    id: "agnostics/julia/7",
    prompt: row.prompt,
    tests: [
      { ...pair("2 3", "5"), visible: true },
      { ...pair("10\n20", "30"), visible: true },
      { ...pair("1 1", "2"), visible: false },
    ],
    language: "julia",
    comparator: "trailing",
    limits: {},
  });
});

test("one problem in two languages of a mixture is two tasks", async () => {
  const row = (lang: string) => ({ idx: "a", test_cases: [pair("1", "2")], lang, prompt: "p" });
  const rows = await convert(jsonl(row("lua"), row("r"), row("lua")));
  expect(rows.map((r) => ("task" in r ? r.task.id : r.reason))).toEqual([
    "agnostics/lua/a",
    "agnostics/r/a",
    "duplicate_id",
  ]);
});

const mbppX = {
  original_task_id: 12,
  description: "Double a number.",
  input_format: "One integer.",
  output_format: "Its double.",
  tests: [pair("4\n", "8\n"), pair("5\n", "10\n")],
};

test("a row of Ag-MBPP-X: the first test is the prompt's example, the others stay hidden", async () => {
  const task = await taskOf(mbppX, { language: "lua" });
  expect(task.prompt).toBe(
    "Double a number.\n\nInput: One integer.\n\nOutput: Its double.\n\nExample\nInput:\n4\nOutput:\n8",
  );
  expect([task.id, task.language, task.comparator]).toEqual(["mbpp-x/12", "lua", "trailing"]);
  expect(task.tests.map(({ visible }) => visible)).toEqual([true, false]);
  expect((await taskOf(mbppX, { visible: "all" })).tests.map(({ visible }) => visible)).toEqual([true, true]);
  expect((await taskOf(mbppX, { visible: "none" })).tests.map(({ visible }) => visible)).toEqual([
    false,
    false,
  ]);
});

test.each([
  {
    name: "two outputs for one input",
    tests: [pair("4", "8"), pair("4\n", "9")],
    reason: "contradictory_tests",
  },
  { name: "an output that is white space", tests: [pair("4", "8"), pair("5", " \n")], reason: "blank_test" },
  { name: "an empty input", tests: [pair("", "8"), pair("5", "10")], reason: "blank_test" },
  { name: "a NUL in an input", tests: [pair("4\u0000", "8")], reason: "control_characters" },
  { name: "half a character in an output", tests: [pair("4", "\ud83d")], reason: "control_characters" },
  { name: "no tests", tests: [], reason: "no_tests" },
  { name: "a number for a text", tests: [{ input: 4, output: "8" }], reason: "wrong_shape" },
])("Ag-MBPP-X with $name is refused: $reason", async ({ tests, reason }) => {
  expect(refusals(await convert(jsonl({ ...mbppX, tests })))).toEqual([`in:1 ${reason}`]);
});

test("a test that stands twice is left out once, and told; too few different ones refuse the task", async () => {
  const tests = [pair("4", "8"), pair("5", "10"), pair("4\n", "8 \n")];
  const [row] = await convert(jsonl({ ...mbppX, tests }));
  expect(row).toMatchObject({
    dropped: [{ test: 3, reason: "duplicate_test", message: "the same as test 1" }],
  });
  expect("task" in row! && row.task.tests).toHaveLength(2);
  expect(refusals(await convert(jsonl({ ...mbppX, tests }), { minTests: 3 }))).toEqual([
    "in:1 too_few_tests",
  ]);
});

const lcb = (fields: object = {}) => ({
  question_title: "T",
  question_content: "Print n + 1.",
  platform: "p",
  question_id: "abc_1",
  contest_id: "abc",
  contest_date: "2025-02-15T00:00:00",
  starter_code: "",
  difficulty: "easy",
  public_test_cases: JSON.stringify([{ ...pair("1\n", "2\n"), testtype: "stdin" }]),
  private_test_cases: JSON.stringify([{ ...pair("9\n", "10\n"), testtype: "stdin" }]),
  metadata: "{}",
  ...fields,
});

/** base64 of zlib of what Python's pickle makes of a text. */
const packed = (text: string, protocol: number): string =>
  execFileSync(
    "python3",
    [
      "-c",
      "import sys,pickle,zlib,base64; sys.stdout.write(base64.b64encode(zlib.compress(pickle.dumps(sys.stdin.buffer.read().decode(), protocol=int(sys.argv[1])))).decode())",
      String(protocol),
    ],
    { input: text },
  ).toString();

test("a row of LiveCodeBench: public tests visible, private ones hidden, its runner's limit", async () => {
  expect(await taskOf(lcb())).toEqual({
    id: "livecodebench/abc_1",
    prompt: "Print n + 1.",
    tests: [
      { ...pair("1\n", "2\n"), visible: true },
      { ...pair("9\n", "10\n"), visible: false },
    ],
    comparator: "tokens",
    limits: { time_s: 6 },
  });
});

test.each([1, 2, 3, 4, 5])(
  "private tests as Python's pickle writes them, protocol %i, short and long",
  async (protocol) => {
    for (const count of [1, 30, 6000]) {
      const cases = Array.from({ length: count }, (_, i) => ({
        ...pair(`${i} é\n`, `${i}\n`),
        testtype: "stdin",
      }));
      const private_test_cases = packed(JSON.stringify(cases), protocol);
      const { tests } = await taskOf(lcb({ private_test_cases, public_test_cases: "[]" }));
      expect(tests).toHaveLength(count);
      expect(tests.at(-1)).toEqual({ ...pair(`${count - 1} é\n`, `${count - 1}\n`), visible: false });
    }
  },
);

test("base64 of zlib without a pickle is read too", async () => {
  const private_test_cases = deflateSync(JSON.stringify([pair("3\n", "4\n")])).toString("base64");
  expect((await taskOf(lcb({ private_test_cases }))).tests[1]).toEqual({
    ...pair("3\n", "4\n"),
    visible: false,
  });
});

const zipped = (bytes: Uint8Array): string => deflateSync(bytes).toString("base64");

test.each([
  {
    name: "a pickle that calls os.system",
    cases: zipped(Buffer.from("cos\nsystem\n(S'touch /tmp/retort-pwned'\ntR.")),
    reason: "unsupported",
  },
  {
    name: "a pickle of protocol 4 that builds an object",
    cases: zipped(Buffer.from("\x80\x04\x8c\x02os\x8c\x06system\x93.", "latin1")),
    reason: "unsupported",
  },
  {
    name: "a text with more behind it",
    cases: zipped(Buffer.from("\x80\x04\x8c\x02[]\x940.", "latin1")),
    reason: "unsupported",
  },
  {
    name: "a text that is cut short",
    cases: zipped(Buffer.from("\x80\x04\x8c\x09[]\x94.", "latin1")),
    reason: "unsupported",
  },
  {
    name: "a length beyond all memory",
    cases: zipped(Buffer.from("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f[]", "latin1")),
    reason: "unsupported",
  },
  { name: "bytes that are not zlib", cases: Buffer.from("hello").toString("base64"), reason: "wrong_shape" },
  { name: "no base64", cases: "¿?", reason: "wrong_shape" },
  { name: "a zlib bomb", cases: zipped(Buffer.alloc(520_000_000, 0x20)), reason: "too_large" },
  { name: "JSON that is broken", cases: "[{", reason: "wrong_shape" },
])("private tests that are $name are refused: $reason", async ({ cases, reason }) => {
  expect(refusals(await convert(jsonl(lcb({ private_test_cases: cases }))))).toEqual([`in:1 ${reason}`]);
});

test("problems for a function are refused, by starter code or by the type of a test", async () => {
  const functional = JSON.stringify([{ ...pair("[1]", "2"), testtype: "functional" }]);
  const rows = jsonl(lcb({ starter_code: "class Solution:" }), lcb({ public_test_cases: functional }));
  expect(refusals(await convert(rows))).toEqual(["in:1 not_stdin", "in:2 not_stdin"]);
});

test("a window of contest dates holds both of its ends", async () => {
  const dates = ["2025-01-31", "2025-02-01T09:00:00", "2025-04-30T23:59:59", "2025-05-01", undefined];
  const rows = dates.map((contest_date, i) =>
    lcb({ contest_date, question_id: `q${i}`, question_content: `n + ${i}` }),
  );
  const window = { fromDate: "2025-02-01", toDate: "2025-04-30" };
  expect(refusals(await convert(jsonl(...rows), window))).toEqual([
    "in:1 outside_dates",
    "in:4 outside_dates",
    "in:5 outside_dates",
  ]);
});

test("a row of Ag-LiveCodeBench-X has private tests alone", async () => {
  const { question_id, question_content } = lcb();
  const private_test_cases = packed(JSON.stringify([pair("1\n", "2\n")]), 4);
  const task = await taskOf({ question_id, question_content, private_test_cases });
  expect(task.tests).toEqual([{ ...pair("1\n", "2\n"), visible: false }]);
});

const sdpoTests = {
  inputs: ["1\n", "2\n"],
  outputs: ["2\n", "3\n"],
  testtype: "stdin",
  fn_name: null,
  time_limit: 6,
};
const sdpo = {
  idx: 3,
  kind: "code",
  dataset: "livecodebench",
  answer: "-",
  elo: "-",
  prompt: "Add one.",
  description: "d",
  tests: JSON.stringify(sdpoTests),
  embedding: [],
  system: null,
};

test("a row of SDPO becomes a Python task with every test visible", async () => {
  expect(await taskOf(sdpo)).toEqual({
    id: "livecodebench/3",
    prompt: "Add one.",
    tests: [
      { ...pair("1\n", "2\n"), visible: true },
      { ...pair("2\n", "3\n"), visible: true },
    ],
    language: "python",
    comparator: "tokens",
    limits: { time_s: 6 },
  });
});

test("a row of SDPO's trainer is the same problem: system and user turns, tests in the ground truth", async () => {
  const task = await taskOf({
    data_source: "livecodebench",
    prompt: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "Add one." },
    ],
    ability: "code",
    reward_model: { style: "code", ground_truth: JSON.stringify(sdpoTests) },
    extra_info: { split: "train", index: "3", description: "d", problem: "p", elo: "-" },
  });
  expect([task.id, task.prompt, task.tests.length]).toEqual(["livecodebench/3", "Be brief.\n\nAdd one.", 2]);
});

test.each([
  { name: "a multiple choice question", fields: { kind: "mcq", tests: "-" }, reason: "unsupported" },
  {
    name: "a function to call",
    fields: { tests: JSON.stringify({ ...sdpoTests, testtype: "functional" }) },
    reason: "not_stdin",
  },
  {
    name: "an output missing",
    fields: { tests: JSON.stringify({ ...sdpoTests, outputs: ["2\n"] }) },
    reason: "wrong_shape",
  },
  { name: "tests that are a dash", fields: { tests: "-" }, reason: "wrong_shape" },
])("SDPO's row with $name is refused: $reason", async ({ fields, reason }) => {
  expect(refusals(await convert(jsonl({ ...sdpo, ...fields })))).toEqual([`in:1 ${reason}`]);
});

test("our own rows keep what they say; unknown keys and useless tests are told", async () => {
  const own = { id: "a", prompt: "p", tests: [pair("1", "2")], comparator: "float", limits: { time_s: 1 } };
  expect(await taskOf(own)).toMatchObject({ ...own, tests: [{ ...pair("1", "2"), visible: true }] });
  const rows = await convert(
    jsonl(
      own,
      { ...own, id: "b" },
      { ...own, id: "c", promt: 1 },
      { ...own, id: "d", tests: [pair("1", ""), pair("2", "\n")] },
      { ...own, id: "e", prompt: " " },
      { ...own, id: "f", prompt: "q", tests: [pair("1", "2"), pair("1", "2.0000001")] },
      { ...own, id: "g", tests: [pair("1", "2"), pair("1", "2.1")] },
      { ...own, id: "h", tests: [pair("", "\u0000")] },
    ),
  );
  expect(refusals(rows)).toEqual([
    "in:2 duplicate_task",
    "in:3 wrong_shape",
    "in:4 no_answer",
    "in:5 empty_prompt",
    "in:7 contradictory_tests",
  ]);
  expect(rows[2]).toMatchObject({ id: "c", message: expect.stringContaining("promt") });
});

test("by the keys of its first row the format of a file is known; without any, the formats are listed", async () => {
  const rows = await convert(jsonl(mbppX, lcb()));
  expect(rows[0]).toMatchObject({ format: "agnostics-mbpp" });
  expect(refusals(rows)).toEqual(["in:2 wrong_shape"]);
  await expect(convert(jsonl({ question: "?", answer: "!" }))).rejects.toThrow(
    /^in:1: need a row of one of these formats:\n {2}livecodebench [\s\S]* Its keys: question, answer\.$/,
  );
});
