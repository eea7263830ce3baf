import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ConfigError, type Status, type Task, type Verdict } from "../../core/index.js";
import {
  checkLanguages,
  createLocalPool,
  type LocalPool,
  languageSet,
  loadLanguages,
  parseLanguage,
  runInteractive,
  runProgram,
} from "../../verifiers/index.js";
import { survivorsOf } from "./sandbox-contract.js";

const task = (changes: Partial<Task> = {}): Task => ({
  id: "double",
  prompt: "",
  tests: [
    { input: "1\n", output: "2\n", visible: true },
    { input: "5\n", output: "10\n", visible: true },
  ],
  comparator: "tokens",
  limits: { time_s: 1, memory_mb: 128 },
  ...changes,
});
const MISSING = parseLanguage(
  "prompt: p\nfilename: a\nexecute: no-such-tool a\ninstall: apt-get install no-such-tool\n",
  "missing.yaml",
);
const FOUR = "io.write(io.read('n') * 2)";

/** Programs by language and the status that each must earn. */
const STATUSES: Readonly<Record<string, Partial<Record<Status, string>>>> = {
  lua: {
    accepted: "print(io.read('n') * 2)",
    wrong_answer: "print(io.read('n') + 1)",
    runtime_error: "local x = nil\nprint(x.y)",
    time_limit: "while true do end",
    memory_limit: "local t = {} while true do t[#t + 1] = ('x'):rep(1000000) .. #t end",
    output_limit: "while true do print('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') end",
  },
  python: {
    accepted: "print(int(input()) * 2)",
    wrong_answer: "print(int(input()) + 1)",
    runtime_error: "print(1 // 0)",
    time_limit: "while True: pass",
    memory_limit: "b = []\nwhile True: b.append(bytearray(1 << 20))",
    output_limit: "while True: print('a' * 1000)",
  },
  javascript: {
    accepted: "console.log(Number(require('fs').readFileSync(0, 'utf8')) * 2)",
    wrong_answer: "console.log(7)",
    runtime_error: "undefined.x",
    time_limit: "for (;;);",
    memory_limit: "const b = []; for (;;) b.push(Buffer.alloc(1 << 20, 1))",
    output_limit: "for (;;) require('fs').writeSync(1, 'a'.repeat(1000))",
  },
  c: {
    accepted: '#include <stdio.h>\nint main(void) { int n; scanf("%d", &n); printf("%d", 2 * n); }',
    wrong_answer: '#include <stdio.h>\nint main(void) { puts("7"); }',
    runtime_error: "int main(void) { *(volatile int *)0 = 1; }",
    time_limit: "int main(void) { for (;;) { volatile int x = 1; (void)x; } }",
    memory_limit:
      "#include <stdlib.h>\n#include <string.h>\nint main(void) { for (;;) memset(malloc(1 << 20), 1, 1 << 20); }",
    output_limit:
      '#include <stdio.h>\nint main(void) { for (;;) puts("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"); }',
    compile_error: "int main(void) { return x; }",
  },
  bash: {
    accepted: "read -r n; echo $((n * 2))",
    wrong_answer: "echo 7",
    runtime_error: "exit 3",
    time_limit: "while :; do :; done",
    memory_limit: "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done",
    output_limit: "while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done",
  },
};

let pool: LocalPool;
beforeAll(async () => {
  const languages = loadLanguages();
  pool = await createLocalPool({ languages: languageSet([...languages.all, MISSING]), workers: 2 });
});
afterAll(() => pool.close());

const verify = (program: string | null, changes: Partial<Task> = {}, language = "lua") =>
  pool.verify({ id: "s", task: task(changes), language, program });

describe.each(Object.entries(STATUSES))("%s", (language, programs) => {
  let verdicts: [wanted: string, Verdict][];
  beforeAll(async () => {
    const one = (wanted: string) =>
      task({
        tests: task().tests.slice(1),
        limits: { time_s: wanted === "time_limit" ? 1 : 10, memory_mb: 128 },
      });
    verdicts = await Promise.all(
      Object.entries(programs).map(
        async ([wanted, program]): Promise<[string, Verdict]> => [
          wanted,
          await pool.verify({ id: wanted, task: one(wanted), language, program }),
        ],
      ),
    );
  });
  test.each(Object.keys(programs))("%s", (wanted) => {
    const verdict = verdicts.find(([name]) => name === wanted)![1];
    // Without a cgroup, a refused allocation is the program's own error.
    const want =
      wanted === "memory_limit" && !pool.isolation.tree_memory_accounting ? "runtime_error" : wanted;
    expect([verdict.status, verdict.reward, verdict.comparator]).toEqual([
      want,
      want === "accepted" ? 1 : 0,
      "tokens",
    ]);
    expect(verdict.feedback === "").toBe(want === "accepted");
  });
});

describe("verdicts", () => {
  test("count every test, and keep what each printed", async () => {
    const verdict = await verify("local n = io.read('n') print(n == 1 and 2 or 0)");
    expect([verdict.status, verdict.passed, verdict.total]).toEqual(["wrong_answer", 1, 2]);
    expect(verdict.tests.map((test) => [test.status, test.stdout, test.exit_code])).toEqual([
      ["accepted", "2\n", 0],
      ["wrong_answer", "0\n", 0],
    ]);
    expect(verdict.feedback).toBe("Test Case 2: Wrong Answer\n\nInput\n5\n\nOutput\n0\n\nExpected\n10");
    expect(verdict.tests.every((test) => test.time_ms > 0 && (test.memory_kb ?? 1) > 0)).toBe(true);
  });

  test("no program at all: its fence is named, or that the answer was cut off", async () => {
    expect(await verify(null)).toMatchObject({
      status: "no_program",
      reward: 0,
      feedback: "Incorrect Format: Put your code inside a ```lua ... ``` block.",
    });
    const cut = await pool.verify({
      id: "s",
      task: task(),
      language: "lua",
      program: null,
      isTruncated: true,
    });
    expect(cut.feedback).toMatch(/^Truncated Attempt: /);
  });

  test("a Lua error reads like the interpreter's, with only the file's name", async () => {
    expect((await verify("local s = nil\nprint(s.x)")).feedback).toBe(
      "Runtime Error\nmain.lua:2: attempt to index a nil value (local 's')\n\nLast Executed Input\n1",
    );
    expect((await verify("for x in io.lines() do print(x)")).feedback).toBe(
      "Runtime Error\nmain.lua:1: 'end' expected near <eof>\n\nLast Executed Input\n1",
    );
  });

  test("a harness wraps the program of its language alone", async () => {
    const harness = {
      lua: { before: "local function expect(x) assert(x) end", after: "expect(double(2) == 4)" },
    };
    const right = await verify("function double(x) return 2 * x end", { harness, comparator: "exit" });
    const wrong = await verify("function double(x) return 3 * x end", { harness, comparator: "exit" });
    expect([right.status, wrong.status]).toEqual(["accepted", "runtime_error"]);
  });

  test("stopping at the first failure leaves the rest unrun", async () => {
    const stopping = await createLocalPool({ languages: loadLanguages(), workers: 1, stopAfterFailures: 1 });
    const verdict = await stopping.verify({ id: "s", task: task(), language: "lua", program: "print(0)" });
    await stopping.close();
    expect([verdict.tests.length, verdict.passed, verdict.total]).toEqual([1, 0, 2]);
  });

  test("a program may ask for fewer tests than the pool runs, and is not answered from the other's cache", async () => {
    const own = await createLocalPool({ languages: loadLanguages(), workers: 1 });
    const submission = { id: "s", task: task(), language: "lua", program: "print(0)" };
    const whole = await own.verify(submission);
    const first = await own.verify({ ...submission, stopAfterFailures: 1 });
    await own.close();
    expect([whole.tests.length, first.tests.length, first.cached]).toEqual([2, 1, false]);
  });

  test("sandboxes started ahead judge as fresh ones do, one program each, and none is left behind", async () => {
    const ahead = await createLocalPool({ languages: loadLanguages(), workers: 2, prestart: 3 });
    const programs = ["print(io.read('n'))", "error('no')", "io.open('/tmp/left', 'w'):write('x') print(7)"];
    const peek = "local f = io.open('/tmp/left') print(f and 'leak' or 'clean')";
    const judge = (program: string) => ahead.verify({ id: program, task: task(), language: "lua", program });
    await judge("print(0)");
    let ready = 0;
    while (ready < 3) ready = (await ahead.survivors()).length;
    const statuses = (await Promise.all([...programs, peek, ...programs.map((p) => `${p} `)].map(judge))).map(
      ({ status }) => status,
    );
    const outputs = (await judge(peek)).tests.map(({ stdout }) => stdout);
    const brokerPid = ahead.brokerPid();
    await ahead.close();
    expect(statuses[1]).toBe("runtime_error");
    expect(statuses.slice(4)).toEqual(statuses.slice(0, 3));
    expect(outputs).toEqual(["clean\n", "clean\n"]);
    expect(() => process.kill(brokerPid, 0)).toThrow();
  });

  test("an unknown language is the user's error", async () => {
    await expect(verify("x", {}, "luaa")).rejects.toThrow(ConfigError);
  });

  test("a missing tool is infrastructure: no reward, the reason, and how to install it", async () => {
    const verdict = await verify("x", {}, "missing");
    expect([verdict.status, verdict.reward, verdict.feedback]).toEqual(["infrastructure", null, ""]);
    expect(verdict.reason).toMatch(
      /no-such-tool: No such file or directory \(to install missing: apt-get install no-such-tool\)/,
    );
  });

  test("the same program gives the same feedback each time", async () => {
    const program = "error({})\n";
    const texts = await Promise.all(
      Array.from(
        { length: 4 },
        async (_, i) => (await verify(program, { limits: { time_s: 1 + i } })).feedback,
      ),
    );
    expect(new Set(texts).size).toBe(1);
    expect(texts[0]).toMatch(/^Runtime Error\n/);
  });
});

describe("the cache", () => {
  test("two equal submissions at once run one program, and the second says so", async () => {
    const before = pool.stats();
    const program = `${FOUR} -- once`;
    const verdicts = await Promise.all([verify(program), verify(program), verify(program)]);
    const after = pool.stats();
    expect(verdicts.map((verdict) => verdict.cached)).toEqual([false, true, true]);
    expect([after.done - before.done, after.cached - before.cached]).toEqual([1, 2]);
  });

  test("other tests, limits or another comparator are another question", async () => {
    const program = `${FOUR} -- thrice`;
    const variants = [
      {},
      { limits: { time_s: 2 } },
      { comparator: "exact" as const },
      { tests: task().tests.slice(1) },
    ];
    const verdicts = await Promise.all(variants.map((changes) => verify(program, changes)));
    expect(verdicts.map((verdict) => [verdict.status, verdict.cached])).toEqual([
      ["accepted", false],
      ["accepted", false],
      ["wrong_answer", false],
      ["accepted", false],
    ]);
  });

  test("our own failures are not kept", async () => {
    expect((await verify("y", {}, "missing")).cached).toBe(false);
    expect((await verify("y", {}, "missing")).cached).toBe(false);
  });
});

describe("our own failures", () => {
  test("a broker killed in the middle of a job is replaced and the job done again", async () => {
    const own = await createLocalPool({ languages: loadLanguages(), workers: 1, cache: false });
    const program = "local t = os.clock() while os.clock() - t < 0.3 do end print(io.read('n') * 2)";
    const verdict = own.verify({ id: "s", task: task({ limits: { time_s: 5 } }), language: "lua", program });
    while (own.stats().running === 0) await sleep(5);
    await sleep(150);
    const first = own.brokerPid();
    process.kill(first, "SIGKILL");
    expect((await verdict).status).toBe("accepted");
    expect(own.brokerPid()).not.toBe(first);
    expect(await survivorsOf(own)).toEqual([]);
    await own.close();
  });

  test("without retries it is told as infrastructure", async () => {
    const own = await createLocalPool({ languages: loadLanguages(), workers: 1, retries: 0, cache: false });
    const verdict = own.verify({
      id: "s",
      task: task({ limits: { time_s: 5 } }),
      language: "bash",
      program: "sleep 3",
    });
    while (own.stats().running === 0) await sleep(5);
    process.kill(own.brokerPid(), "SIGKILL");
    expect(await verdict).toMatchObject({
      status: "infrastructure",
      reward: null,
      reason: "the broker process ended",
    });
    await own.close();
  });

  test("a broker that hangs and is then killed leaves nobody waiting for it", async () => {
    const own = await createLocalPool({ languages: loadLanguages(), workers: 1, cache: false });
    process.kill(own.brokerPid(), "SIGSTOP");
    const verdict = own.verify({ id: "s", task: task(), language: "lua", program: FOUR });
    const survivors = own.survivors();
    process.kill(own.brokerPid(), "SIGKILL");
    expect(await survivors).toEqual([]);
    expect((await verdict).status).toBe("accepted");
    await own.close();
  });

  test("a pool that is closed while its broker is replaced leaves no broker behind", async () => {
    const own = await createLocalPool({ languages: loadLanguages(), workers: 1, retries: 0, cache: false });
    const judge = () => own.verify({ id: "s", task: task(), language: "lua", program: FOUR });
    process.kill(own.brokerPid(), "SIGKILL");
    expect((await judge()).status).toBe("infrastructure");
    const waiting = judge(); // for the new broker, which has been started
    await own.close();
    expect(await waiting).toMatchObject({ status: "infrastructure", reason: "the pool was closed" });
    expect(() => process.kill(own.brokerPid(), 0)).toThrow();
  });

  test("a closed pool answers infrastructure instead of hanging", async () => {
    const own = await createLocalPool({ languages: loadLanguages(), workers: 1 });
    const running = own.verify({
      id: "s",
      task: task({ limits: { time_s: 9 } }),
      language: "bash",
      program: "sleep 8",
    });
    while (own.stats().running === 0) await sleep(5);
    await own.close();
    expect((await running).status).toBe("infrastructure");
    expect((await own.verify({ id: "s", task: task(), language: "lua", program: FOUR })).status).toBe(
      "infrastructure",
    );
  });
});

/** Milliseconds that this thread has been ready to run while others had the cores. */
const msWithoutCore = (): number =>
  Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, "utf8").split(" ")[1]) / 1e6;

test("the caller's event loop stays free while programs run and print much", async () => {
  const ownMs = (): number => performance.now() - msWithoutCore();
  const turns: number[] = [];
  let last = ownMs();
  const ticks = setInterval(() => {
    const now = ownMs();
    turns.push(now - last);
    last = now;
  }, 5);
  const program = "for i = 1, 20000 do print(('x'):rep(40)) end";
  await Promise.all(Array.from({ length: 30 }, (_, i) => verify(`${program} -- ${i}`)));
  clearInterval(ticks);
  expect(turns.length).toBeGreaterThan(10);
  expect(turns.sort((a, b) => a - b)[Math.floor(0.99 * turns.length)]).toBeLessThan(150);
});

describe("programs run without judging", () => {
  test("several megabytes in and out when the limits allow", async () => {
    const text = "0123456789abcde\n".repeat(250_000);
    const limits = { output_kb: 8192, time_s: 10 };
    const outcomes = await runProgram(pool, {
      language: "lua",
      program: "io.write(io.read('a'))",
      inputs: [text, "x"],
      limits,
    });
    expect(outcomes.map((outcome) => [outcome.status, outcome.stdout.length])).toEqual([
      ["accepted", text.length],
      ["accepted", 1],
    ]);
    expect(outcomes[0]!.stdout === text).toBe(true);
  });

  test("a compile error comes for every input", async () => {
    const outcomes = await runProgram(pool, { language: "c", program: "int", inputs: ["", ""] });
    expect(outcomes.map((outcome) => outcome.status)).toEqual(["compile_error", "compile_error"]);
  });

  test("interactively: an answer arrives before the next question is sent", async () => {
    const said: string[] = [];
    let heard = () => {};
    async function* questions() {
      for (const question of ["2\n", "3\n"]) {
        const answer = new Promise<void>((resolve) => {
          heard = resolve;
        });
        yield question;
        await answer;
      }
    }
    const outcome = await runInteractive(
      pool,
      {
        language: "lua",
        program: "for n in io.lines() do print(n * n) io.flush() end io.stderr:write('end') os.exit(4)",
      },
      questions(),
      (stream, bytes) => {
        said.push(`${stream}: ${bytes}`);
        heard();
      },
    );
    expect([outcome.status, outcome.exit_code]).toEqual(["runtime_error", 4]);
    expect(said).toEqual(["stdout: 4\n", "stdout: 9\n", "stderr: end"]);
  });
});

test("checking languages: ok with a version, missing with how to install", async () => {
  const names = ["lua", "python", "javascript", "c", "bash"];
  const checks = await checkLanguages(pool, { names: [...names, "missing"] });
  const named = (name: string) => checks.find((check) => check.name === name);
  for (const name of names) expect(named(name)).toMatchObject({ status: "ok" });
  expect(named("lua")?.version).toMatch(/^Lua 5\.4/);
  expect(named("missing")).toMatchObject({
    status: "missing",
    version: null,
    install: "apt-get install no-such-tool",
  });
});

test("a self-test that prints something else is failed, with what it said", async () => {
  const text = "prompt: p\nfilename: a.sh\nexecute: bash a.sh\nselftest: {program: echo 1, output: '2'}\n";
  const odd = await createLocalPool({
    languages: languageSet([parseLanguage(text, "odd.yaml")]),
    workers: 1,
  });
  const [check] = await checkLanguages(odd).finally(() => odd.close());
  expect(check).toMatchObject({
    name: "odd",
    status: "failed",
    reason: 'self-test: accepted: printed "1\\n"',
  });
});
