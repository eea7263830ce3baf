/** Feedback as a teacher reads it: within its budget, the same each time, and nothing in it that it may not know. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { IoTest, Status, Task, TestOutcome, Verdict } from "../../core/index.js";
import { cutMiddle, fitBlocks } from "../../verifiers/cut.js";
import { compileFeedback } from "../../verifiers/feedback.js";
import { createLocalPool, type LocalPool, loadLanguages, testFeedback } from "../../verifiers/index.js";
import { cleanMessage, compilerMessage } from "../../verifiers/message.js";

const languages = loadLanguages();
const python = languages.get("python");
/** Ordinary text, and the pairs and lone halves that a cut could make or meet. */
const text = fc
  .array(
    fc.oneof(fc.string({ unit: "grapheme" }), fc.constantFrom("\n", "😀", "x".repeat(90), "\0", "\ud83d")),
  )
  .map((parts) => parts.join(""));
const isWellFormed = (found: string) => Buffer.from(found, "utf8").toString("utf8") === found;

describe("cutting", () => {
  test("keeps to the budget, keeps head and tail, and never halves a character", () => {
    fc.assert(
      fc.property(fc.array(fc.constantFrom("a", "é", "😀", "\n", "日")), fc.nat(400), (parts, chars) => {
        const whole = parts.join("").repeat(20);
        const cut = cutMiddle(whole, chars);
        expect(cut.length).toBeLessThanOrEqual(chars);
        expect(isWellFormed(cut)).toBe(true);
        if (whole.length <= chars) expect(cut).toBe(whole);
        if (chars < 80 || whole.length <= chars) return;
        expect(cut.slice(0, 15)).toBe(whole.slice(0, 15));
        expect(cut.slice(-15)).toBe(whole.slice(-15));
      }),
    );
  });

  test("says how many characters are gone", () => {
    const cut = cutMiddle(`${"a".repeat(500)}${"b".repeat(500)}`, 100);
    const [, head, gone, tail] = /^(a+)\n\.\.\. \((\d+) characters cut\) \.\.\.\n(b+)$/.exec(cut)!;
    expect(head!.length + tail!.length + Number(gone)).toBe(1000);
    expect(cut.length).toBeGreaterThanOrEqual(99);
  });

  test("a long block gives way, not the short ones below it", () => {
    const blocks = [
      { title: "Input", body: "i".repeat(5000) },
      { title: "Output", body: "short" },
      { title: "Expected", body: "e".repeat(300) },
    ];
    const fitted = fitBlocks(blocks, 1000);
    expect(fitted.length).toBeLessThanOrEqual(1000);
    expect(fitted.length).toBeGreaterThan(980);
    expect(fitted).toMatch(
      /^Input\ni+\n\.\.\. \(\d+ characters cut\) \.\.\.\ni+\n\nOutput\nshort\n\nExpected\ne{300}$/,
    );
  });

  test("blocks are never over their budget, however small it is", () => {
    const block = fc.record({ title: fc.string({ maxLength: 20 }), body: text });
    fc.assert(
      fc.property(fc.array(block), fc.nat(500), (blocks, chars) => {
        expect(fitBlocks(blocks, chars).length).toBeLessThanOrEqual(chars);
      }),
    );
  });
});

describe("any feedback", () => {
  const statuses: Status[] = ["accepted", "wrong_answer", "runtime_error", "time_limit", "output_limit"];
  const outcome = (secret: string) =>
    fc.record({
      status: fc.constantFrom(...statuses),
      time_ms: fc.constant(1),
      memory_kb: fc.constant(1),
      exit_code: fc.constant(1),
      signal: fc.constant(null),
      stdout: text.map((part) => part + secret),
      stderr: text.map((part) => secret + part),
      message: text.map((part) => part + secret),
    });
  const ran = fc.boolean().chain((visible) => {
    const secret = visible ? "" : "PRIVATE";
    return fc.record({
      test: fc.record({
        input: text.map((part) => part + secret),
        output: fc.constant(secret),
        visible: fc.constant(visible),
      }),
      outcome: outcome(secret),
    });
  });
  const checkers = [null, { language: "python", program: "x", accepts_answer: true }];

  test("keeps to its budget, is whole Unicode, and holds nothing of hidden tests", () => {
    fc.assert(
      fc.property(
        fc.array(ran),
        fc.integer({ min: 0, max: 3000 }),
        fc.constantFrom(...checkers),
        (all, maxChars, checker) => {
          const tests: IoTest[] = all.map(({ test }) => test);
          const outcomes: TestOutcome[] = all.map(({ outcome }) => outcome);
          const feedback = testFeedback(tests, outcomes, python, { maxChars }, checker);
          expect(feedback.length).toBeLessThanOrEqual(maxChars);
          expect(isWellFormed(feedback)).toBe(true);
          expect(feedback).not.toContain("PRIVATE");
          const failed = all.some(({ test, outcome }) => test.visible && outcome.status !== "accepted");
          if (maxChars > 100) expect(feedback !== "").toBe(failed);
        },
      ),
    );
  });

  test("of a crash keeps the message's first and last line beside any input", () => {
    fc.assert(
      fc.property(text, text, (middle, input) => {
        const stderr = `first line\n${middle.repeat(3)}\nlast line`;
        const crash = {
          status: "runtime_error" as const,
          time_ms: 1,
          memory_kb: 1,
          exit_code: 1,
          signal: null,
        };
        const tests = [{ input: input.repeat(5), output: "", visible: true }];
        const feedback = testFeedback(tests, [{ ...crash, stdout: "", stderr }], python);
        expect(feedback).toMatch(/^Runtime Error\nfirst line\n[\s\S]*last line\n\nLast Executed Input/);
      }),
    );
  });
});

describe("a compiler's message", () => {
  const warnings = "main.c:9:1: warning: something is odd here\n   9 | odd\n".repeat(100);
  const compile = (stderr: string): TestOutcome => ({
    ...{ status: "compile_error", time_ms: 1, memory_kb: 1, exit_code: 1, signal: null },
    ...{ stdout: "", stderr },
  });

  test("shows the first error, though many warnings come before it and many errors after", () => {
    const first = "main.c:200:3: error: 'x' undeclared\n";
    const others = "main.c:300:3: error: another\n".repeat(100);
    const feedback = compileFeedback(compile(`${warnings}${first}${others}last line`), languages.get("c"));
    expect(feedback).toContain(first.trim());
    expect(feedback).toMatch(/^Compile Error\n/);
    expect(feedback).toMatch(/last line$/);
  });

  test("keeps the place that stands before the error, as OCaml and Fortran show it", () => {
    const shown = 'File "main.ml", line 3, characters 4-5:\n3 |     x\n        ^\nError: Unbound value x';
    expect(compilerMessage(`${warnings}${shown}\n${"note\n".repeat(300)}`, {})).toContain(shown);
  });

  test("is left alone where there is room", () => {
    expect(compilerMessage("warning: a\nerror: b", {})).toBe("warning: a\nerror: b");
  });
});

test.each([
  ["/usr/bin/ld: /tmp/ccAb12Yz.o: in function `main'", "ld: program.o: in function `main'"],
  ['  File "/usr/lib/python3.11/json/decoder.py", line 355', 'File "decoder.py", line 355'],
  ["In file included from /usr/include/c++/12/iostream:39,", "In file included from iostream:39,"],
  ["/tmp/go-build123456/b001/exe/main: bad", "main: bad"],
  ["thread 'main' (4711) panicked at src/main.rs:2:5", "thread 'main' panicked at src/main.rs:2:5"],
  ["(node:12) Warning: x", "(node) Warning: x"],
  ["main.sh: line 3:    17 Segmentation fault      ./x", "main.sh: line 3: Segmentation fault      ./x"],
  ["Ran 1 test in 0.003s", "Ran 1 test in ... s"],
  ["2026-11-21 12:00:01,123 ERROR no", "ERROR no"],
  ["12:00:01.123 [error] no", "[error] no"],
  ["Main$A@1b6d3586 is not b", "Main$A@... is not b"],
  ["\u001b[31mred\u001b[0m", "red"],
  ["table: 0x55c1f3a0b2c0", "table: 0x..."],
  ["a\0b", "a\\x00b"],
  // What only looks like it stays.
  ["x/y is 3/4 of /dev/stdin at 12:30", "x/y is 3/4 of /dev/stdin at 12:30"],
  ["https://example.org/usr/lib?", "https://example.org/usr/lib?"],
  ["invalid date 2026-11-21 12:00:01", "invalid date 2026-11-21 12:00:01"],
  ["0xff in 3 places", "0xff in 3 places"],
])("%j becomes %j", (raw, clean) => {
  expect(cleanMessage(raw, {})).toBe(clean);
});

describe("of real programs", () => {
  let pool: LocalPool;
  beforeAll(async () => {
    pool = await createLocalPool({ languages, workers: 2, cache: false });
  });
  afterAll(() => pool.close());

  const judge = (language: string, program: string, changes: Partial<Task> = {}): Promise<Verdict> => {
    const tests = [{ input: "3\n", output: "6\n", visible: true }];
    const task: Task = { id: "t", prompt: "", tests, comparator: "tokens", limits: {}, ...changes };
    return pool.verify({ id: "s", task, language, program });
  };

  const FAILING: readonly (readonly [language: string, name: string, program: string, said: RegExp])[] = [
    ["python", "the standard library", "import json\njson.loads('{')", /JSONDecodeError/],
    [
      "python",
      "an object",
      "class A: pass\nraise ValueError(A())",
      /ValueError: <__main__\.A object at 0x\.\.\.>/,
    ],
    ["python", "a temporary file", "import tempfile\nopen(tempfile.mkdtemp() + '/x/y')", /FileNotFoundError/],
    [
      "python",
      "unittest",
      "import unittest\nclass T(unittest.TestCase):\n  def test(self): self.fail('no')\nunittest.main()",
      /Ran 1 test/,
    ],
    ["python", "deep recursion", "def f(n): return f(n + 1)\nf(0)", /RecursionError/],
    [
      "python",
      "much on stderr",
      "import sys\nprint('x' * 500_000, file=sys.stderr)\n1 // 0",
      /ZeroDivisionError/,
    ],
    ["javascript", "a built-in", "require('fs').readFileSync('absent')", /ENOENT/],
    ["javascript", "a rejection", "Promise.reject(new Error('boom'))", /boom/],
    ["javascript", "a warning", "process.emitWarning('odd'); throw new TypeError('t')", /TypeError: t/],
    ["lua", "a table", "error(tostring({}))", /table: 0x\.\.\./],
    ["lua", "a missing module", "require('absent')", /module 'absent' not found/],
    [
      "c",
      "the linker",
      "int absent(void); int main(void) { return absent(); }",
      /undefined reference to `absent'/,
    ],
    ["c", "a missing header", '#include "absent.h"\nint main(void) {}', /absent\.h: No such file/],
    [
      "c",
      "free twice",
      "#include <stdlib.h>\nint main(void) { char *volatile p = malloc(9); free(p); free(p); }",
      /double free|SIGABRT/,
    ],
    ["bash", "a missing command", "absent-command 3", /main\.sh: line 1: absent-command: command not found/],
    ["bash", "a child killed", "bash -c 'kill -SEGV $$'; exit 5", /Segmentation fault/],
  ];
  const HOST_PATH = /(?:^|[^\w.])\/(?:usr|lib|lib64|bin|opt|etc|var|home|root|tmp|w|proc)\//m;

  test.each(FAILING)(
    "%s, %s: no path of the host, and the same text twice",
    async (language, _, program, said) => {
      const [first, second] = await Promise.all([judge(language, program), judge(language, program)]);
      expect(first.feedback).toMatch(/^(?:Runtime|Compile) Error\n/);
      expect(first.feedback).toMatch(said);
      expect(first.feedback).not.toMatch(HOST_PATH);
      expect(second.feedback).toBe(first.feedback);
    },
  );

  test("what a program says on stderr beside a wrong answer is its debug output", async () => {
    const verdict = await judge("python", "import sys\nprint(7)\nprint('got', input(), file=sys.stderr)");
    expect(verdict.feedback).toBe(
      "Test Case 1: Wrong Answer\n\nInput\n3\n\nOutput\n7\n\nExpected\n6\n\nDebug Output\ngot 3",
    );
  });

  test.each(["perl", "single"] as const)("the end of much stderr is kept in mode %s too", async (mode) => {
    const own = await createLocalPool({ languages, workers: 1, mode });
    const tests = [{ input: "", output: "", visible: true }];
    const task: Task = { id: "t", prompt: "", tests, comparator: "tokens", limits: {} };
    const program = "import sys\nprint('x' * 500_000, file=sys.stderr)\n1 // 0";
    const { feedback } = await own.verify({ id: "s", task, language: "python", program });
    expect(feedback).toMatch(/ZeroDivisionError: integer division or modulo by zero\n\nLast Executed Input$/);
    await own.close();
  });

  test("a wrong byte that no eye sees is shown", async () => {
    const { feedback } = await judge("bash", "printf '6\\0'");
    expect(feedback).toContain("Output\n6\\x00\n");
  });

  test.each([
    ["c", "struct pair { int x, y; } twice(int x) { return (struct pair){x, x}; }"],
    ["python", "def twice(x): return x + 1"],
  ])("hidden assertions in the harness show in no message: %s, %s", async (language, program) => {
    const harness = {
      c: { before: "#include <assert.h>", after: "int main(void) { assert(twice(471) == 942); return 0; }" },
      python: { before: "", after: "assert twice(471) == 942, 'not 942'" },
    };
    const tests = [{ input: "", output: "", visible: false }];
    const hidden = await judge(language, program, { harness, tests, comparator: "exit" });
    expect(["compile_error", "runtime_error"]).toContain(hidden.status);
    expect(hidden.feedback).not.toMatch(/471|942/);
    const shown = await judge(language, program, {
      ...{ harness, comparator: "exit" },
      tests: [{ input: "", output: "", visible: true }],
    });
    expect(shown.feedback).toMatch(/471/);
  });
});
