import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import { afterAll, afterEach, expect, test } from "vitest";
import { readReply } from "../../coordinator/rewrite/conversation.js";
import { rewriteTasks, type TaskRewriting } from "../../coordinator/rewrite/rewrite-tasks.js";
import type { RewriteResult, UnkeptRow } from "../../coordinator/rewrite/summary.js";
import { ConfigError, InfrastructureError } from "../../core/index.js";
import { readTasks } from "../../tasks/index.js";
import { createLocalPool, loadLanguages } from "../../verifiers/index.js";
import { type Act, type LanguageModel, languageModel, type SeenRequest } from "./language-model.js";

const folder = mkdtempSync(join(tmpdir(), "retort-rewrite-"));
afterAll(() => rmSync(folder, { recursive: true }));
let model: LanguageModel | null = null;
afterEach(async () => {
  await model?.close();
  model = null;
});

let names = 0;
const fresh = (): string => join(folder, `${names++}.jsonl`);

const exercise = (id: number | string, fields: object = {}) => ({
  task_id: id,
  text: `Write a function to add ${id} to a number.`,
  code: `def add(n):\r\n  return n + ${Number(id)}`,
  test_list: [`assert add(1) == ${Number(id) + 1}`, `assert add(-2) == ${Number(id) - 2}`],
  test_setup_code: "",
  challenge_test_list: [],
  ...fields,
});

const programOf = (id: number): string =>
  `def add(n):\n    return n + ${id}\n\nif __name__ == "__main__":\n    print(add(int(input())))\n`;
const testsOf = (id: number) => [1, -2, 40].map((n) => ({ input: `${n}\n`, output: `${n + id}\n` }));

/** A right reply for an exercise, some of it changed. */
const proposal = (id: number, fields: object = {}): string =>
  JSON.stringify({
    description: `Add ${id} to a number.`,
    input_format: "One integer.",
    output_format: "The sum.",
    tests: testsOf(id),
    program: programOf(id),
    ...fields,
  });

const idOf = ({ messages }: SeenRequest): number =>
  Number(/to add (-?\d+) to a number/.exec(messages[1]!.content)![1]);

const quiet = Object.assign(new Writable({ write: (_chunk, _encoding, done) => done() }), {
  isTTY: false,
}) as unknown as NodeJS.WriteStream;

interface Options extends Partial<Omit<TaskRewriting, "endpoint">> {
  readonly endpoint?: Partial<TaskRewriting["endpoint"]>;
}

/** Rewrites exercises with a model that plays as told. */
async function rewrite(
  exercises: readonly unknown[],
  play: (request: SeenRequest, turn: number) => Act,
  options: Options = {},
): Promise<RewriteResult & { out: string }> {
  model = await languageModel(play);
  const file = fresh();
  writeFileSync(
    file,
    exercises.map((row) => `${typeof row === "string" ? row : JSON.stringify(row)}\n`).join(""),
  );
  const { endpoint, ...rest } = options;
  const out = options.out ?? fresh();
  const result = await rewriteTasks({
    files: [file],
    out,
    concurrency: 4,
    attempts: 3,
    minTests: 3,
    comparator: "tokens",
    wrongOutputs: "refuse",
    languages: loadLanguages(),
    workers: 2,
    prices: {},
    stream: quiet,
    ...rest,
    endpoint: { url: model.url, model: "m", timeoutS: 60, retries: 2, ...endpoint },
  });
  return { ...result, out };
}

const refused = ({ rows }: RewriteResult): (string | undefined)[] =>
  rows.map(({ reason }: UnkeptRow) => reason);
const idsIn = (out: string): string[] => (existsSync(out) ? readTasks(out).map(({ id }) => id) : []);

test("a right proposal becomes a task: what was executed, one test shown, the others hidden", async () => {
  const { out, summary } = await rewrite([exercise(5)], () => proposal(5), {
    prices: { prompt: 2, completion: 10 },
  });
  expect(readTasks(out)).toEqual([
    {
      id: "mbpp/5",
      prompt:
        "Add 5 to a number.\n\nInput: One integer.\n\nOutput: The sum.\n\nExample\nInput:\n1\nOutput:\n6",
      tests: [
        { input: "1\n", output: "6\n", visible: true },
        { input: "-2\n", output: "3\n", visible: false },
        { input: "40\n", output: "45\n", visible: false },
      ],
      comparator: "tokens",
      limits: {},
      reference: { python: programOf(5) },
    },
  ]);
  expect(summary).toEqual({
    rows: 1,
    rewritten: 1,
    known: 0,
    refused: {},
    unanswered: 0,
    attempts: [1],
    requests: 1,
    prompt_tokens: 100,
    completion_tokens: 20,
    cost: (100 * 2 + 20 * 10) / 1e6,
  });
  const { messages, body } = model!.seen[0]!;
  expect(messages.map(({ role }) => role)).toEqual(["system", "user"]);
  expect(messages[1]!.content).toContain("assert add(1) == 6");
  expect(body).toEqual({ model: "m", messages });
});

test("the tasks of a rewriting pass their own check: the references are accepted, an empty program is not", async () => {
  const { out } = await rewrite([exercise(1), exercise(2)], (request) => proposal(idOf(request)));
  const pool = await createLocalPool({ languages: loadLanguages(), workers: 2 });
  try {
    for (const task of readTasks(out)) {
      const judge = (program: string) => pool.verify({ id: "x", task, language: "python", program });
      expect([(await judge(task.reference!.python!)).status, (await judge("")).status]).toEqual([
        "accepted",
        "wrong_answer",
      ]);
    }
  } finally {
    await pool.close();
  }
});

test.each([
  { name: "bare", wrap: (text: string) => text },
  { name: "in a fence", wrap: (text: string) => `\`\`\`json\n${text}\n\`\`\`` },
  {
    name: "after a thought that holds braces",
    wrap: (text: string) => `<think>{"a": 1} is no answer</think>\n${text}`,
  },
  { name: "in talk", wrap: (text: string) => `Here it is:\n\n\`\`\`\n${text}\n\`\`\`\nGood luck!` },
  { name: "in talk without a fence", wrap: (text: string) => `Sure: ${text}. Bye.` },
])("a reply is read $name", ({ wrap }) => {
  expect(readReply(wrap(proposal(3)))).toEqual(JSON.parse(proposal(3)));
});

test.each([
  { name: "no JSON", reply: "I cannot do that.", says: /^the reply is not one JSON object/ },
  { name: "JSON that is cut", reply: proposal(3).slice(0, -20), says: /^the reply is not one JSON object/ },
  { name: "a list", reply: "[]", says: /^the JSON object is not as asked for: the object: / },
  { name: "an empty reply", reply: "", says: /^the reply is not one JSON object/ },
  {
    name: "numbers for texts",
    reply: proposal(3, { tests: [{ input: 1, output: 2 }] }),
    says: /tests\.0\.input: /,
  },
  { name: "no program", reply: proposal(3, { program: undefined }), says: /: program: / },
])("a reply with $name is refused in words that its author can use", ({ reply, says }) => {
  expect(readReply(reply)).toMatch(says);
});

const main = (body: string): string =>
  `def add(n):\n    return n + 7\n\nif __name__ == "__main__":\n${body.replace(/^/gm, "    ")}\n`;

test.each([
  {
    name: "an output that the program does not print",
    fields: { tests: [{ input: "1", output: "9" }, ...testsOf(7).slice(1)] },
    reason: "wrong_outputs",
    says: '1 of 3 tests: test 1 (input "1") says "9", the program prints "8\\n"',
  },
  {
    name: "two tests",
    fields: { tests: testsOf(7).slice(0, 2) },
    reason: "bad_tests",
    says: "2 different tests",
  },
  {
    name: "the same test three times",
    fields: { tests: [1, 1, 1].map((n) => ({ input: `${n}`, output: "8" })) },
    reason: "bad_tests",
    says: "1 different tests",
  },
  {
    name: "tests that contradict each other",
    fields: { tests: [...testsOf(7), { input: "1", output: "9" }] },
    reason: "bad_tests",
    says: 'one expects "8\\n", the other "9"',
  },
  {
    name: "an empty input",
    fields: { tests: [...testsOf(7), { input: "", output: "9" }] },
    reason: "bad_tests",
    says: "test 4 has no input",
  },
  {
    name: "a program that fails",
    fields: { program: main("print(add(int(input())) // 0)") },
    reason: "program_fails",
    says: "ZeroDivisionError",
  },
  {
    name: "a program that reads a line too many",
    fields: { program: main("print(add(int(input()))); input()") },
    reason: "program_fails",
    says: "EOFError",
  },
  {
    name: "a program that is no Python",
    fields: { program: "function add(n) return n end" },
    reason: "program_fails",
    says: "SyntaxError",
  },
  {
    name: "random numbers",
    fields: { program: main("import random\nprint(add(int(input())), random.random())") },
    reason: "not_deterministic",
    says: "run twice on test 1",
  },
  {
    name: "the order of a set",
    fields: { program: main("add(int(input()))\nprint(*{'a', 'b', 'c', 'd', 'e', 'f'})") },
    reason: "not_deterministic",
    says: "run twice on test 1",
  },
  {
    name: "a function that is not the exercise's",
    fields: {
      program: programOf(7)
        .replace("n + 7", "abs(n) + 7")
        .replace("print(add(int(input())))", "print(int(input()) + 7)"),
    },
    reason: "assertions_fail",
    says: "AssertionError",
  },
  {
    name: "a function of another name",
    fields: { program: programOf(7).replaceAll("add(", "sum_up(") },
    reason: "assertions_fail",
    says: "name 'add' is not defined",
  },
  {
    name: "a program that reads stdin when it is imported",
    fields: { program: "def add(n):\n    return n + 7\nprint(add(int(input())))" },
    reason: "assertions_fail",
    says: "EOFError",
  },
  {
    name: "a program that leaves before the assertions",
    fields: {
      program: "n = int(__import__('sys').stdin.readline() or 0)\nif n: print(n + 7)\nraise SystemExit",
    },
    reason: "assertions_fail",
    says: "it ends before the assertions",
  },
])("a proposal with $name is refused: $reason, and its author is told", async ({ fields, reason, says }) => {
  const result = await rewrite([exercise(7)], () => proposal(7, fields), { attempts: 2 }).catch(
    (error: unknown) => error,
  );
  expect(result).toBeInstanceOf(ConfigError);
  expect((result as Error).message).toContain(`${reason} 1: `);
  expect(model!.seen).toHaveLength(2);
  const [first, second] = model!.seen.map(({ messages }) => messages);
  expect(second!.slice(0, 2)).toEqual(first);
  expect(second![2]).toEqual({ role: "assistant", content: proposal(7, fields) });
  expect(second![3]!.content).toContain(says);
});

test("outputs of the model may be replaced by those of its program, where that is asked for", async () => {
  const tests = [
    { input: "1", output: "9" },
    { input: "1 ", output: "10" },
    { input: "2", output: "" },
    { input: "3", output: "?" },
  ];
  const { out } = await rewrite([exercise(7)], () => proposal(7, { tests }), { wrongOutputs: "replace" });
  expect(readTasks(out)[0]!.tests.map(({ input, output }) => [input, output])).toEqual([
    ["1", "8\n"],
    ["2", "9\n"],
    ["3", "10\n"],
  ]);
});

test("programs that attack are refused, harm nothing and reach nothing", async () => {
  const mark = join(folder, "touched");
  const attacks: Record<number, string> = {
    11: "print(open('/etc/shadow').read())",
    12: "while True: pass",
    13: `open(${JSON.stringify(mark)}, 'w').write('x')`,
    14: "import socket\nsocket.create_connection(('127.0.0.1', 80), 2)",
    15: "x = [0] * (1 << 40)",
    16: "import os\nwhile True: os.fork()",
  };
  const rows = Object.keys(attacks).map((id) => exercise(id));
  const result = await rewrite(
    [...rows, exercise(17)],
    (request) => {
      const id = idOf(request);
      return id === 17
        ? proposal(17)
        : proposal(id, {
            program: `${programOf(id)}    ${(attacks[id] ?? "").replaceAll("\n", "\n    ")}\n`,
          });
    },
    { attempts: 1 },
  );
  expect(idsIn(result.out)).toEqual(["mbpp/17"]);
  expect(new Set(refused(result))).toEqual(new Set(["program_fails"]));
  expect(result.rows).toHaveLength(6);
  expect(existsSync(mark)).toBe(false);
});

test("an exercise whose own solution fails its assertions is refused before anything is asked, as are rows that are none", async () => {
  const result = await rewrite(
    [
      exercise(1, { code: "def add(n):\n  return n" }),
      exercise(2, { test_list: [] }),
      "{nonsense",
      exercise(3),
      exercise(3),
      exercise(4, { code: undefined }),
      exercise(5, {
        text: undefined,
        prompt: "Write a function to add 5 to a number.",
        test_imports: ["import math"],
        test_list: ["assert add(math.floor(1.5)) == 6"],
      }),
    ],
    (request) => proposal(idOf(request)),
  );
  expect(refused(result).sort()).toEqual(["duplicate_id", "no_tests", "not_json", "original_fails"]);
  expect(idsIn(result.out)).toEqual(["mbpp/3", "mbpp/4", "mbpp/5"]);
  expect(model!.seen.map(idOf).sort()).toEqual([3, 4, 5]);
});

test("what the model makes better after it was told is kept, and counted by attempts", async () => {
  const acts: Record<number, Act[]> = {
    1: [proposal(1)],
    2: ["Let me think.", proposal(2, { tests: testsOf(9) }), proposal(2)],
    3: [{ cut: proposal(3).slice(0, 50) }, proposal(3)],
  };
  const { summary, out } = await rewrite(
    [1, 2, 3].map((id) => exercise(id)),
    (request, turn) => acts[idOf(request)]![turn]!,
  );
  expect(idsIn(out)).toEqual(["mbpp/1", "mbpp/2", "mbpp/3"]);
  expect([summary.attempts, summary.requests, summary.prompt_tokens]).toEqual([[1, 1, 1], 6, 600]);
  const cut = model!.seen.find((request) => idOf(request) === 3 && request.messages.length > 2);
  expect(cut!.messages[3]!.content).toContain("cut at its longest length");
});

test("a busy, silent or broken server is asked again, and waits are kept", async () => {
  const acts: Record<number, Act[]> = {
    1: [{ status: 429, headers: { "retry-after": "2" } }],
    2: [{ status: 503 }, { status: 500 }],
    3: ["reset"],
    4: ["reset in the body"],
    5: ["hang"],
    6: ["hang in the body"],
    7: [{ status: 200, body: "<html>", headers: { "content-type": "text/html" } }],
  };
  const { out, summary, rows } = await rewrite(
    [1, 2, 3, 4, 5, 6, 7].map((id) => exercise(id)),
    (request, turn) => acts[idOf(request)]![turn] ?? proposal(idOf(request)),
    { endpoint: { timeoutS: 3 } },
  );
  // A page instead of an answer is no connection that broke: it is not asked for again.
  expect(rows).toMatchObject([{ id: "mbpp/7", reason: "no_answer_came" }]);
  expect(idsIn(out)).toEqual([1, 2, 3, 4, 5, 6].map((id) => `mbpp/${id}`));
  expect(summary).toMatchObject({ unanswered: 1, rewritten: 6, requests: 14 });
  const [asked, again] = model!.seen.filter((request) => idOf(request) === 1);
  expect(again!.atMs - asked!.atMs).toBeGreaterThan(1900);
});

test("run again, it asks only for what is missing: refused and unanswered exercises, and the order is that of the input", async () => {
  const out = fresh();
  const exercises = [1, 2, 3, 4].map((id) => exercise(id));
  const first = await rewrite(
    exercises,
    (request) => {
      const id = idOf(request);
      return id === 1 ? { status: 500 } : id === 3 ? "no" : proposal(id);
    },
    { out, attempts: 1, endpoint: { retries: 0 } },
  );
  expect(first.summary).toMatchObject({ rewritten: 2, unanswered: 1, refused: { malformed_reply: 1 } });
  expect(idsIn(out)).toEqual(["mbpp/2", "mbpp/4"]);
  const before = readFileSync(out, "utf8");
  await model!.close();
  writeFileSync(out, `${before}{"id":"mbpp/9","pro`); // as a kill leaves it
  const second = await rewrite(exercises, (request) => proposal(idOf(request)), { out });
  expect(second.summary).toMatchObject({ rewritten: 2, known: 2, rows: 4, requests: 2 });
  expect(model!.seen.map(idOf).sort()).toEqual([1, 3]);
  expect(idsIn(out)).toEqual(["mbpp/1", "mbpp/2", "mbpp/3", "mbpp/4"]);
});

test("an output that holds something else is refused and left as it is", async () => {
  const out = fresh();
  writeFileSync(out, "my notes\n");
  await expect(rewrite([exercise(1)], () => proposal(1), { out })).rejects.toThrow(
    /need a task that this command wrote/,
  );
  expect(readFileSync(out, "utf8")).toBe("my notes\n");
  expect(model!.seen).toEqual([]);
});

test.each([401, 403, 404])(
  "a refusal by status %i ends it at once, without the key in what is told",
  async (status) => {
    const body = '{"error":{"message":"key sk-secret is not welcome"}}';
    const error = await rewrite(
      Array.from({ length: 30 }, (_, i) => exercise(i)),
      () => ({ status, body }),
      { endpoint: { key: "sk-secret" } },
    ).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as Error).message).toContain("key [key] is not welcome");
    expect(model!.seen.length).toBeLessThanOrEqual(8);
    expect(model!.seen[0]!.authorization).toBe("Bearer sk-secret");
  },
);

test("a server that is down ends it after some exercises, and what was kept is there", async () => {
  let answers = 0;
  const out = fresh();
  const error = await rewrite(
    Array.from({ length: 60 }, (_, i) => exercise(i)),
    (request) => (answers++ < 3 ? proposal(idOf(request)) : "reset"),
    { out, endpoint: { retries: 0 } },
  ).catch((cause: unknown) => cause);
  expect(error).toBeInstanceOf(InfrastructureError);
  expect((error as Error).message).toContain("goes on from here");
  expect(idsIn(out)).toHaveLength(3);
  expect(model!.seen.length).toBeLessThan(30);
});

test("no more exercises are under way than asked for, and requests keep their distance", async () => {
  const { summary } = await rewrite(
    [1, 2, 3, 4, 5, 6].map((id) => exercise(id)),
    (request) => proposal(idOf(request)),
    { concurrency: 2, endpoint: { requestsPerMinute: 300 } },
  );
  expect(summary.rewritten).toBe(6);
  expect(model!.most()).toBeLessThanOrEqual(2);
  const times = model!.seen.map(({ atMs }) => atMs);
  expect(times.at(-1)! - times[0]!).toBeGreaterThan(5 * 200 * 0.5); // without the distance: some 50 ms
});
