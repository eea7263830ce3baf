import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import type { IoTest, TestOutcome } from "../../core/index.js";
import { cleanMessage, formatTestFeedback, loadLanguages, testFeedback } from "../../verifiers/index.js";
import type { SdpoRecord } from "../../verifiers/sdpo-feedback.js";

interface Vector {
  readonly name: string;
  readonly records: readonly SdpoRecord[];
  readonly was_truncated: boolean;
  readonly feedback: string;
}
const vectors = JSON.parse(
  readFileSync(new URL("../vectors/sdpo_vectors.json", import.meta.url), "utf8"),
) as {
  code_feedback: { format_test_feedback: readonly Vector[] };
};
const languages = loadLanguages();
const lua = languages.get("lua");

describe("SDPO's format_test_feedback", () => {
  const cases = vectors.code_feedback.format_test_feedback;
  test("there are twelve vectors", () => expect(cases).toHaveLength(12));
  test.each(cases)("$name (truncated: $was_truncated)", ({ records, was_truncated, feedback }) => {
    expect(formatTestFeedback(records, was_truncated)).toBe(feedback);
  });
});

const outcome = (changes: Partial<TestOutcome>): TestOutcome => ({
  status: "wrong_answer",
  time_ms: 1,
  memory_kb: 1000,
  exit_code: 0,
  signal: null,
  stdout: "",
  stderr: "",
  ...changes,
});
const io = (input: string, output: string, visible = true): IoTest => ({ input, output, visible });

describe("feedback on a verdict", () => {
  const tests = [io("5 6 7\n", "18\n"), io("1\n", "8!\n"), io("2\n", "9!\n", false), io("3 4\n", "x\n")];

  test("the two failing visible tests with the shortest input and output, in SDPO's layout", () => {
    const outcomes = [
      outcome({ stdout: "17\n" }),
      outcome({ stdout: "6;\n" }),
      outcome({ stdout: "?" }),
      outcome({ stdout: "y\n" }),
    ];
    expect(testFeedback(tests, outcomes, lua)).toBe(
      "Test Case 2: Wrong Answer\n\nInput\n1\n\nOutput\n6;\n\nExpected\n8!\n\nTest Case 4: Wrong Answer\n\nInput\n3 4\n\nOutput\ny\n\nExpected\nx",
    );
  });

  test("a runtime error comes before anything else, with its input", () => {
    const stderr =
      "lua5.4: main.lua:2: attempt to index a nil value (local 'x')\nstack traceback:\n\tmain.lua:2: in main chunk\n";
    const outcomes = [
      outcome({}),
      outcome({ status: "time_limit" }),
      outcome({ status: "accepted" }),
      outcome({ status: "runtime_error", exit_code: 1, stderr }),
    ];
    expect(testFeedback(tests, outcomes, lua)).toBe(
      "Runtime Error\nmain.lua:2: attempt to index a nil value (local 'x')\n\nLast Executed Input\n3 4",
    );
  });

  test.each([
    ["time_limit", "Time Limit Exceeded"],
    ["memory_limit", "Memory Limit Exceeded"],
    ["output_limit", "Output Limit Exceeded"],
  ] as const)("%s is named, with the input", (status, title) => {
    expect(testFeedback(tests, [outcome({}), outcome({ status })], lua)).toBe(
      `${title}\n\nLast Executed Input\n1`,
    );
  });

  test("a death without words is told by its signal or its exit status", () => {
    const first = (changes: Partial<TestOutcome>) =>
      testFeedback(tests, [outcome({ status: "runtime_error", ...changes })], lua).split("\n")[1];
    expect(first({ signal: "SIGSEGV", exit_code: null })).toBe("Killed by SIGSEGV (segmentation fault)");
    expect(first({ exit_code: 3 })).toBe("Exited with status 3");
  });

  test("what fails on hidden tests alone says nothing", () => {
    const accepted = outcome({ status: "accepted" });
    const hidden = outcome({ status: "runtime_error", stderr: "secret" });
    expect(testFeedback(tests, [accepted, accepted, hidden, accepted], lua)).toBe("");
  });

  test("all accepted says nothing", () => {
    expect(
      testFeedback(
        tests,
        tests.map(() => outcome({ status: "accepted" })),
        lua,
      ),
    ).toBe("");
  });
});

describe("messages", () => {
  test("paths are relative to the program and addresses are gone", () => {
    expect(
      cleanMessage(
        '  File "/tmp/main.py", line 1\nobject at 0x7f00aa12 in /w/main.py \n',
        languages.get("python"),
      ),
    ).toBe('File "main.py", line 1\nobject at 0x... in main.py');
  });

  test("a long message loses its middle, not its end", () => {
    const cut = cleanMessage(`first ${"x".repeat(5000)} last`, lua, 100);
    expect(cut).toMatch(/^first x+\n\.\.\. \(\d+ characters cut\) \.\.\.\nx+ last$/);
    expect(cut.length).toBeLessThan(150);
  });

  test("Node's own frames and version line are left out", () => {
    const raw =
      "/w/main.js:1\nx.y\n^\n\nReferenceError: x is not defined\n    at Object.<anonymous> (/w/main.js:1:1)\n    at Module._compile (node:internal/modules/cjs/loader:1521:14)\n    at node:internal/main/run_main_module:28:49\n\nNode.js v20.20.2\n";
    expect(cleanMessage(raw, languages.get("javascript"))).toBe(
      "main.js:1\nx.y\n^\n\nReferenceError: x is not defined\n    at Object.<anonymous> (main.js:1:1)",
    );
  });
});
