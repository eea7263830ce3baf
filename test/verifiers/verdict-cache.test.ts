import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { InfrastructureError, type Task, type TestOutcome, type Verdict } from "../../core/index.js";
import {
  createLocalPool,
  type Isolation,
  type LocalPool,
  loadLanguages,
  parseLanguage,
} from "../../verifiers/index.js";
import { VerdictCache } from "../../verifiers/verdict-cache.js";
import { type Judging, verdictKey } from "../../verifiers/verdict-key.js";

const YAML = "prompt: p\nfilename: a.sh\nexecute: sh a.sh\nenv: {A: '1'}\n";
const language = (text = YAML, source = "/here/toy.yaml") => parseLanguage(text, source);
const checker = { language: "toy", program: "exit 0", accepts_answer: true };
const task: Task = {
  id: "t",
  prompt: "p",
  tests: [{ input: "1", output: "2", visible: true }],
  comparator: { checker },
  limits: { time_s: 1 },
  harness: { toy: { before: "", after: "x" } },
};
const isolation: Isolation = {
  sandbox: "bubblewrap 0.8.0",
  mode: "supervisor",
  user: "61000+",
  network: "none",
  seccomp: true,
  memory: "cgroup v1",
  processes: "cgroup v1",
  cpu: "cgroup v1",
  proc: "fresh",
  tree_memory_accounting: true,
  notes: [],
};
const judging = (): Judging => ({
  program: "echo 2",
  tool: { language: language(), version: "1.0" },
  task,
  checkerTool: { language: language(), version: "1.0" },
  limits: { time_s: 10 },
  stopAfterFailures: null,
  keepChars: 100,
  feedback: {},
  isolation,
});
const withTask = (changes: Partial<Task>): Partial<Judging> => ({ task: { ...task, ...changes } });
const withLanguage = (yaml: string, version: string | null = "1.0"): Partial<Judging> => ({
  tool: { language: language(yaml), version },
});

describe("the key", () => {
  test.each<[string, Partial<Judging>]>([
    ["the program", { program: "echo 2 " }],
    ["the language's command", withLanguage(YAML.replace("sh a.sh", "bash a.sh"))],
    ["the language's environment", withLanguage(YAML.replace("'1'", "'2'"))],
    ["the language's limits", withLanguage(`${YAML}limits: {memory_mb: 64}\n`)],
    ["the language's compiler limits", withLanguage(`${YAML}compile_limits: {memory_mb: 64}\n`)],
    ["the language's mounts", withLanguage(`${YAML}mounts: [/opt/toy]\n`)],
    ["the language's clean-up of messages", withLanguage(`${YAML}messages: {remove: [x]}\n`)],
    ["the tool's version", withLanguage(YAML, "1.1")],
    ["a version that is not known", withLanguage(YAML, null)],
    ["an input", withTask({ tests: [{ input: "1\n", output: "2", visible: true }] })],
    ["an expected output", withTask({ tests: [{ input: "1", output: "3", visible: true }] })],
    ["which tests are visible", withTask({ tests: [{ input: "1", output: "2", visible: false }] })],
    ["the number of tests", withTask({ tests: [...task.tests, ...task.tests] })],
    ["the comparator", withTask({ comparator: "exit" })],
    ["the checker's program", withTask({ comparator: { checker: { ...checker, program: "exit 1" } } })],
    ["what its answers are", withTask({ comparator: { checker: { ...checker, accepts_answer: false } } })],
    ["the task's limits", withTask({ limits: { time_s: 2 } })],
    ["the harness", withTask({ harness: {} })],
    [
      "the checker's language",
      { checkerTool: { language: language(`${YAML}compile: cc\n`), version: "1.0" } },
    ],
    ["the version of the checker's tool", { checkerTool: { language: language(), version: "2.0" } }],
    ["the pool's limits", { limits: { time_s: 11 } }],
    ["stopping early", { stopAfterFailures: 1 }],
    ["how much output is kept", { keepChars: 101 }],
    ["the feedback's budget", { feedback: { maxChars: 10 } }],
    ["the isolation", { isolation: { ...isolation, mode: "single" } }],
  ])("differs when %s differs", (_, changes) => {
    expect(verdictKey({ ...judging(), ...changes })).not.toBe(verdictKey(judging()));
  });

  test("is the same for equal parts in other objects, wherever the language's file lies", () => {
    const elsewhere = { language: language(YAML, "/there/toy.yaml"), version: "1.0" };
    const copy = structuredClone({ ...judging(), tool: elsewhere, checkerTool: elsewhere });
    expect(verdictKey(copy)).toBe(verdictKey(judging()));
  });

  test("does not depend on what is only told: the task's id and prompt", () => {
    const renamed = { ...task, id: "u", prompt: "q" };
    expect(verdictKey({ ...judging(), task: renamed })).toBe(verdictKey(judging()));
  });
});

describe("the cache", () => {
  const verdict = (changes: Partial<Verdict> = {}): Verdict => ({
    status: "accepted",
    reward: 1,
    passed: 1,
    total: 1,
    tests: [],
    feedback: "",
    comparator: "tokens",
    cached: false,
    ...changes,
  });
  const outcome = (stdout: string): TestOutcome => ({
    status: "accepted",
    time_ms: 1,
    memory_kb: 1,
    exit_code: 0,
    signal: null,
    stdout,
    stderr: "",
  });
  const never = (): Promise<Verdict> => Promise.reject(new Error("asked again"));

  test("asks once for all that come while the first runs", async () => {
    const cache = new VerdictCache();
    let asked = 0;
    const judge = async () => {
      asked++;
      await new Promise((resolve) => setImmediate(resolve));
      return verdict();
    };
    const all = await Promise.all([cache.get("k", judge), cache.get("k", judge), cache.get("k", judge)]);
    expect([asked, all.map(({ cached }) => cached)]).toEqual([1, [false, true, true]]);
  });

  test("forgets our own failures, and a rejected question", async () => {
    const cache = new VerdictCache();
    const failure = verdict({ status: "infrastructure", reward: null });
    const both = await Promise.all([cache.get("k", async () => failure), cache.get("k", never)]);
    expect(both).toEqual([failure, failure]);
    await expect(cache.get("k", () => Promise.reject(new InfrastructureError("closed")))).rejects.toThrow(
      "closed",
    );
    expect((await cache.get("k", async () => verdict())).cached).toBe(false);
    expect((await cache.get("k", never)).cached).toBe(true);
  });

  test("drops what was asked for longest ago when texts pass 64 MiB of characters", async () => {
    const cache = new VerdictCache();
    const big = (fill: string) => async () => verdict({ tests: [outcome(fill.repeat(20 << 20))] });
    for (const key of ["a", "b", "c"]) await cache.get(key, big(key));
    expect((await cache.get("a", never)).cached).toBe(true);
    await cache.get("d", big("d"));
    expect((await cache.get("a", never)).cached).toBe(true);
    expect((await cache.get("b", async () => verdict())).cached).toBe(false);
  });

  test("many small records are bounded as well", async () => {
    const cache = new VerdictCache();
    const tests = new Array(100_000).fill(outcome(""));
    for (let i = 0; i < 4; i++) await cache.get(`${i}`, async () => verdict({ tests }));
    expect((await cache.get("0", async () => verdict())).cached).toBe(false);
  });
});

describe("in a pool", () => {
  let pool: LocalPool;
  beforeAll(async () => {
    pool = await createLocalPool({ languages: loadLanguages(), workers: 2, retries: 0 });
  });
  afterAll(() => pool.close());

  test("harness, checker and early stop are parts of the question; another task with the same tests is not", async () => {
    const tests = [1, 2].map((n) => ({ input: `${n}`, output: "x", visible: true }));
    const plain: Task = { id: "a", prompt: "", tests, comparator: "exit", limits: {} };
    const ask = async (changes: Partial<Task>, stopAfterFailures?: number) => {
      const submission = { id: "s", task: { ...plain, ...changes }, language: "bash", program: "cat" };
      const verdict = await pool.verify(
        stopAfterFailures ? { ...submission, stopAfterFailures } : submission,
      );
      return [verdict.status, verdict.cached];
    };
    expect(await ask({})).toEqual(["accepted", false]);
    expect(await ask({ id: "b" })).toEqual(["accepted", true]);
    expect(await ask({ harness: { bash: { before: "", after: "exit 3" } } })).toEqual([
      "runtime_error",
      false,
    ]);
    expect(await ask({}, 1)).toEqual(["accepted", false]);
    const checked = (program: string) => ({
      comparator: { checker: { ...checker, language: "bash", program } },
    });
    expect(await ask(checked("exit 0"))).toEqual(["accepted", false]);
    expect(await ask(checked("grep -q x stdout.txt"))).toEqual(["wrong_answer", false]);
    expect(await ask(checked("grep -q x stdout.txt"))).toEqual(["wrong_answer", true]);
  });

  test("a checker that is broken is asked again", async () => {
    const broken: Task = {
      ...task,
      comparator: { checker: { ...checker, language: "bash", program: "exit 1" } },
    };
    const ask = () =>
      pool.verify({ id: "s", task: { ...broken, harness: {} }, language: "bash", program: "cat" });
    expect((await ask()).status).toBe("infrastructure");
    const again = await ask();
    expect([again.status, again.cached]).toEqual(["infrastructure", false]);
  });
});
