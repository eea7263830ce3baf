import { afterAll, beforeAll, expect, test } from "vitest";
import type { Task } from "../../core/index.js";
import {
  checkLanguages,
  createLocalPool,
  type LocalPool,
  languageSet,
  loadLanguages,
  parseLanguage,
} from "../../verifiers/index.js";
import { convert, jsonl, refusals, taskOf } from "./rows.js";

let pool: LocalPool;
beforeAll(async () => {
  // Those shipped come later, and replace this one where they have it.
  const racket = parseLanguage(
    "prompt: Use Racket.\nfilename: main.rkt\nexecute: racket main.rkt\nmounts: [/etc/racket]\nprobe: racket --version\nlimits: {reserves_address_space: true}\n",
    "racket.yaml",
  );
  pool = await createLocalPool({ languages: languageSet([racket, ...loadLanguages().all]) });
});
afterAll(() => pool.close());

const statusOf = async (task: Task, program: string): Promise<string> =>
  (await pool.verify({ id: task.id, task, language: task.language!, program })).status;

const humanEval = {
  task_id: "Own/0",
  prompt:
    'import math\n\n\ndef half(n: int) -> int:\n    return n // 2\n\n\ndef rooms(people: int) -> int:\n    """ Rooms of two that so many people fill.\n    >>> rooms(3)\n    2\n    """\n',
  canonical_solution: "    return half(people + 1)\n",
  test: "\n\nMETADATA = {}\n\n\ndef check(candidate):\n    assert candidate(3) == 2\n    assert candidate(0) == 0\n    assert candidate(8) == 4\n",
  entry_point: "rooms",
};

test.each([
  { name: "the body alone", program: "    return half(people + 1)\n", status: "accepted" },
  {
    name: "the whole function, with a helper of the prompt",
    program: "def rooms(people):\n    return half(people + 1)\n",
    status: "accepted",
  },
  {
    name: "the whole of it, imports and all",
    program: humanEval.prompt + humanEval.canonical_solution,
    status: "accepted",
  },
  { name: "a wrong body", program: "    return half(people)\n", status: "runtime_error" },
  { name: "a wrong function", program: "def rooms(people):\n    return 2\n", status: "runtime_error" },
  { name: "nothing", program: "\n", status: "runtime_error" },
  { name: "an exit before the tests", program: "import sys\nsys.exit(0)\n", status: "runtime_error" },
  { name: "an exit within the function", program: "    exit()\n", status: "runtime_error" },
  { name: "an exit past Python's own", program: "import os\nos._exit(0)\n", status: "runtime_error" },
  { name: "another function", program: "def room(people):\n    return 2\n", status: "runtime_error" },
  { name: "no Python", program: "    return (\n", status: "runtime_error" },
])("HumanEval, answered with $name: $status", async ({ program, status }) => {
  expect(await statusOf(await taskOf(humanEval), program)).toBe(status);
});

test("HumanEval's own solution is the reference, and passes; the feedback names the assertion, not the harness", async () => {
  const task = await taskOf(humanEval);
  expect(task.prompt).toMatch(
    /^Complete this Python function\. [\s\S]*```python\nimport math\n[\s\S]*```\n$/,
  );
  expect(await statusOf(task, task.reference!.python!)).toBe("accepted");
  const submission = { id: "x", task, language: "python" };
  const wrong = await pool.verify({ ...submission, program: "    return 1\n" });
  expect(wrong.feedback).toContain("assert candidate(3) == 2");
  expect(wrong.feedback).not.toContain("before its tests were done");
  const left = await pool.verify({ ...submission, program: "raise SystemExit" });
  expect(left.feedback).toContain("the program ended before its tests were done");
});

test("an entry point that is no name is refused: it is put into a program", async () => {
  const rows = await convert(jsonl({ ...humanEval, entry_point: "rooms); import os; (0" }));
  expect(refusals(rows)).toEqual(["in:1 wrong_shape"]);
});

/** One problem, laid out as MultiPL-E lays it out in each language; `body` goes on where the prompt ends. */
const LAYOUTS = {
  lua: {
    prompt: "-- Twice a number.\nlocal function twice(n)\n",
    tests:
      "local function test()\n  local candidate = twice\n  assert(candidate(4) == 8)\n  assert(candidate(-1) == -2)\nend\ntest()\n",
    right: "  return 2 * n\nend\n",
    wrong: "  return n * n - 8\nend\n",
  },
  js: {
    prompt: "//Twice a number.\nfunction twice(n){\n",
    tests:
      "const assert = require('node:assert');\n\nfunction test() {\n  let candidate = twice;\n  assert.deepEqual(candidate(4),8);\n  assert.deepEqual(candidate(-1),-2);\n}\n\ntest();",
    right: "  return 2 * n;\n}\n",
    wrong: "  return n * n - 8;\n}\n",
  },
  cpp: {
    prompt: "#include<assert.h>\n// Twice a number.\nlong twice(long n) {\n",
    tests:
      "}\nint main() {\n    auto candidate = twice;\n    assert(candidate((4)) == (8));\n    assert(candidate((-1)) == (-2));\n}\n",
    right: "    return 2 * n;\n",
    wrong: "    return n * n - 8;\n",
  },
  py: {
    prompt: 'def twice(n: int) -> int:\n    """\n    Twice a number.\n    """\n',
    tests:
      "def check(candidate):\n    assert candidate(4) == 8\n    assert candidate(-1) == -2\n\ndef test_check():\n    check(twice)\n\ntest_check()\n",
    right: "    return 2 * n\n",
    wrong: "    return n * n - 8\n",
  },
  rkt: {
    prompt: "#lang racket\n\n;; Twice a number.\n(define (twice n)\n",
    tests:
      "(require rackunit)\n\n(define (test-humaneval)\n\n  (let (( candidate twice))\n    (check-within (candidate 4) 8 0.001)\n    (check-within (candidate -1) -2 0.001)\n))\n\n(test-humaneval)",
    right: "  (* 2 n))\n",
    wrong: "  (- (* n n) 8))\n",
  },
  r: {
    prompt: "# Twice a number.\ntwice <- function(n) {\n",
    tests:
      "test_humaneval <- function() {\ncandidate <- twice\n    if(!identical(candidate(4), 8)){quit('no', 1)}\n    if(!identical(candidate(-1), -2)){quit('no', 1)}\n}\ntest_humaneval()",
    right: "  2 * n\n}\n",
    wrong: "  n * n - 8\n}\n",
  },
  ts: {
    prompt: "//Twice a number.\nfunction twice(n: number): number {\n",
    tests:
      "declare var require: any;\nconst assert = require('node:assert');\n\n\nfunction test() {\n  let candidate = twice;\n  assert.deepEqual(candidate(4),8);\n  assert.deepEqual(candidate(-1),-2);\n}\n\ntest();",
    right: "  return 2 * n;\n}\n",
    wrong: "  return n * n - 8;\n}\n",
  },
  rs: {
    prompt: "/// Twice a number.\nfn twice(n: isize) -> isize {\n",
    tests:
      "}\n\nfn main() {\n    let candidate = twice;\n    assert_eq!(candidate(4), 8);\n    assert_eq!(candidate(-1), -2);\n}\n",
    right: "    2 * n\n",
    wrong: "    n * n - 8\n",
  },
  ml: {
    prompt: "(**Twice a number.\n*)\nlet twice (n : int) : int =\n",
    tests:
      "let assertions =\n  let candidate = twice in\n  assert ((candidate (4)) = (8));\n  assert ((candidate (-1)) = (-2));\n  ()\n",
    right: "  2 * n\n\n",
    wrong: "  n * n - 8\n\n",
  },
  php: {
    prompt: "<?php\n// Twice a number.\nfunction twice($n) {\n",
    tests:
      'function candidate(...$args) {\n    return twice(...$args);\n}\n\nfunction test(): void {\n    if (candidate(4) !== 8) { throw new Exception("Test failed!"); }\n    if (candidate(-1) !== -2) { throw new Exception("Test failed!"); }\n}\n\ntest();',
    right: "    return 2 * $n;\n}\n",
    wrong: "    return $n * $n - 8;\n}\n",
  },
  rb: {
    prompt: "# Twice a number.\ndef twice(n)\n",
    tests:
      "require 'test/unit'\nclass TestHumanEval < Test::Unit::TestCase\n  def test_twice\n    candidate = method(:twice)\n    assert_equal(8, candidate.call(4))\n    assert_equal(-2, candidate.call(-1))\n  end\nend\n",
    right: "  2 * n\nend\n",
    wrong: "  n * n - 8\nend\n",
    needs: "require 'test/unit'\n",
  },
  pl: {
    prompt: "# Twice a number.\nsub twice {\n    my($n) = @_;\n",
    tests:
      'use Test::Deep;\n\n\nsub testhumaneval {\n    my $candidate = \\&twice;\n        if(eq_deeply($candidate->(4),8)) {\n        print "ok!" }else{\n        exit 1;\n        }\n        if(eq_deeply($candidate->(-1),-2)) {\n        print "ok!" }else{\n        exit 1;\n        }\n}\n\ntesthumaneval();',
    right: "    return 2 * $n;\n}\n",
    wrong: "    return $n * $n - 8;\n}\n",
    needs: "use Test::Deep;\n",
  },
  sh: {
    prompt: "#!/bin/bash\n# Twice a number.\n#\n# $1 is an integer\ntwice() {\n",
    tests:
      '}\n\ncandidate() {\n    twice "$@"\n}\n\nset -e\nrun_test() {\n    [[ $(candidate "4") = "8" ]]\n    [[ $(candidate "-1") = "-2" ]]\n}\n\nrun_test\n',
    right: "  echo $((2 * $1))\n",
    wrong: "  echo $(($1 * $1 - 8))\n",
  },
} as const;

const rowOf = (short: keyof typeof LAYOUTS): Record<string, unknown> => ({
  name: "Own_1_twice",
  language: short,
  doctests: "transform",
  prompt_terminology: "reworded",
  stop_tokens: ["\n}"],
  prompt: LAYOUTS[short].prompt,
  tests: LAYOUTS[short].tests,
});

/** Why a language cannot be run here; null where it can. */
async function missingTool(name: string): Promise<string | null> {
  const [check] = await checkLanguages(pool, languageSet([pool.languages.get(name)]));
  return check!.status === "ok" ? null : `${check!.status}: ${check!.reason}`;
}

describeLayouts("body");
describeLayouts("whole");

function describeLayouts(completion: "body" | "whole"): void {
  test.for(Object.keys(LAYOUTS) as (keyof typeof LAYOUTS)[])(
    `MultiPL-E in %s, completed with the ${completion}: right passes; wrong, empty and cut short do not`,
    async (short, { skip }) => {
      const { prompt, tests, right, wrong } = LAYOUTS[short];
      const task = await taskOf(rowOf(short), { completion });
      const missing = await missingTool(task.language!);
      if (missing !== null) skip(`${task.language}: ${missing}`);
      const needs = (LAYOUTS[short] as { needs?: string }).needs;
      if (needs !== undefined && (await statusOf({ ...task, harness: {} }, needs)) !== "accepted")
        skip(`${task.language} without its library: ${needs.trim()}`);
      // A whole function closes itself where the tests would have closed it.
      const whole = (body: string): string => `${prompt}${body}${tests.startsWith("}") ? "}\n" : ""}`;
      const asked = completion === "whole" ? whole : (body: string) => body;
      expect(await statusOf(task, asked(right))).toBe("accepted");
      expect(["runtime_error", "compile_error"]).toContain(await statusOf(task, asked(wrong)));
      expect(["runtime_error", "compile_error"]).toContain(await statusOf(task, "\n"));
      expect(["runtime_error", "compile_error"]).toContain(await statusOf(task, prompt.slice(0, -3)));
    },
  );
}

test.each([
  { language: "java", why: "-ea" },
  { language: "d", why: "unittest" },
  { language: "go_test.go", why: "go test" },
  { language: "coq", why: "not known" },
])(
  "MultiPL-E in $language is refused: its failed assertions do not end a program",
  async ({ language, why }) => {
    const rows = await convert(jsonl({ ...rowOf("lua"), language }));
    expect(rows).toMatchObject([{ reason: "unsupported", message: expect.stringContaining(why) }]);
  },
);
