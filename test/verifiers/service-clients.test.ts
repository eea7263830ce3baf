/** Clients that read answers as verl's, open-r1's and ScaleBox's do: which fields, and what they make of them. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { post, type ServiceProcess, startService } from "./service-process.js";

let service: ServiceProcess;
beforeAll(async () => {
  service = await startService(["--workers", "2", "--max-time-s", "15", "--max-memory-mb", "1024"], {
    RETORT_TOKEN: "clients-token",
  });
});
afterAll(() => service.stop());

/** The address alone carries the token: neither client can be given a header. */
const authorization = `Basic ${Buffer.from("x:clients-token").toString("base64")}`;
const ask = (path: string, body: unknown) => post(service, path, body, { authorization });

describe("verl's reward_score/sandbox_fusion", () => {
  /** True, False, -1 for the sandbox, -2 for a crash, -3 for time, -4 for the compiler: what verl counts. */
  async function case_(code: string, stdin: string, wanted: string, language = "python", timeout = 10) {
    const { status: http, body } = await ask("/run_code", {
      compile_timeout: timeout,
      run_timeout: timeout,
      code,
      stdin,
      memory_limit_MB: 1024,
      language,
      files: {},
      fetch_files: [],
    });
    if (http !== 200) return -1;
    const { compile_result: compile, run_result: ran } = body;
    if (body.status === "SandboxError") return -1;
    const isBad = (result: { status: string; return_code: number } | null) =>
      result !== null && (["Error", "TimeLimitExceeded"].includes(result.status) || result.return_code !== 0);
    if (body.status === "Failed") {
      if (isBad(compile)) return -4;
      if (ran?.status === "TimeLimitExceeded") return -3;
      return isBad(ran) ? -2 : -1;
    }
    if (body.status !== "Success" || ran?.status !== "Finished") return -1;
    return String(ran.stdout).replace(/\n+$/, "") === wanted.replace(/\n+$/, "");
  }

  test("scores right, wrong, crashing, endless and uncompilable programs as it means to", async () => {
    const scores = await Promise.all([
      case_("print(int(input()) * 2)", "21", "42\n"),
      case_("print(int(input()) * 3)", "21", "42"),
      case_("raise ValueError", "", ""),
      case_("while True: pass", "", "", "python", 1),
      case_("int main( {", "", "", "cpp"),
      case_("int main() { return 0; }", "", "", "cpp"),
      case_("x", "", "", "cuda"),
      case_("x = bytearray(2000 << 20)", "", ""),
    ]);
    expect(scores).toEqual([true, false, -2, -3, -4, true, -1, -2]);
  });

  test("its wrapper around a function reads JSON lines from stdin", async () => {
    const wrapper = [
      "import sys, json",
      "def add(a, b):\n    return a + b",
      "args = [json.loads(line) for line in sys.stdin.read().split('\\n')]",
      "print(json.dumps(add(*args)))",
    ].join("\n");
    expect(await case_(wrapper, "[1]\n[2, 3]", "[1, 2, 3]")).toBe(true);
  });
});

describe("open-r1's Piston client on Codeforces problems", () => {
  interface Problem {
    readonly time_limit: number;
    readonly memory_limit: number;
    readonly input_mode: string;
    readonly generated_checker: string | null;
  }
  const PLAIN: Problem = { time_limit: 2, memory_limit: 256, input_mode: "stdio", generated_checker: null };

  /** The request that scores one test, and what the client makes of the answer. */
  async function score(
    problem: Problem,
    submission: string,
    input: string,
    output: string,
    language = "python",
  ) {
    const settings = {
      TIME_LIMIT: problem.time_limit,
      MEMORY_LIMIT: problem.memory_limit,
      INPUT_MODE: problem.input_mode,
    };
    const checker = problem.generated_checker;
    const { status, body } = await ask("/api/v2/execute", {
      files: [
        { name: `main.${language}`, content: submission },
        ...(checker === null ? [] : [{ name: "checker.py", content: checker }]),
        { name: "input.txt", content: input },
        { name: "correct_output.txt", content: output },
        {
          name: "grader_config",
          content: Object.entries(settings)
            .map(([key, value]) => `${key}=${value}`)
            .join("\n"),
        },
      ],
      run_timeout: (problem.time_limit + 3) * 1000,
      language: language === "python" ? "cf_python3" : "c++17",
      version: "*",
    });
    if (status !== 200) return `retried: ${body.message}`;
    if (body.compile.code !== 0) return "does not compile";
    const passed = body.run.code === 0 && body.run.stdout.trim() === "1";
    return passed ? "passed" : `failed ${body.run.code}: ${body.run.stderr.trim()}`;
  }

  test("a right program passes, whatever its white space and the case of yes and no", async () => {
    expect(await score(PLAIN, "print('yes')\nprint()\nprint(input())", "3\r\n", "YES\r\n3\r\n")).toBe(
      "passed",
    );
    const cpp = "#include <iostream>\nint main() { int a; std::cin >> a; std::cout << a + 1; }";
    expect(await score(PLAIN, cpp, "3\n", "4\n", "cpp")).toBe("passed");
  });

  test("wrong, crashing, slow, hungry and broken programs are told as the package tells them", async () => {
    expect(await score(PLAIN, "print(5)", "", "6")).toBe("failed 0: Output isn't correct (diff)");
    expect(await score(PLAIN, "print('Yess')", "", "YES")).toBe("failed 0: Output isn't correct (diff)");
    expect(await score(PLAIN, "import sys; sys.exit(3)", "", "")).toBe(
      "failed 3: Runtime error with exit code 3",
    );
    const slow = { ...PLAIN, time_limit: 1 };
    expect(await score(slow, "while True: pass", "", "")).toBe("failed 124: Time limit exceeded (1s)");
    expect(await score({ ...PLAIN, memory_limit: 64 }, "x = bytearray(200 << 20)", "", "")).toMatch(
      /^failed (134: Memory limit exceeded \(64MB\)|1: Runtime error)/,
    );
    expect(await score(PLAIN, "int main( {", "", "", "cpp")).toBe("does not compile");
  });

  test("a checker decides by input, right output and output, in this order", async () => {
    const checker = [
      "import sys",
      "given, right, said = (open(name).read().split() for name in sys.argv[1:4])",
      "print(100 if int(said[0]) > int(given[0]) and right == ['any'] else 0)",
    ].join("\n");
    const problem = { ...PLAIN, generated_checker: checker };
    expect(await score(problem, "print(int(input()) + 7)", "3\n", "any\n")).toBe("passed");
    expect(await score(problem, "print(int(input()) - 7)", "3\n", "any\n")).toBe(
      "failed 0: Output isn't correct (checker)",
    );
    const broken = { ...PLAIN, generated_checker: "raise ValueError" };
    expect(await score(broken, "print(1)", "3\n", "1\n")).toMatch(
      /^failed 1: Output isn't correct \(checker\)/,
    );
  });

  test("a program never sees the right output, and cannot speak for the judge", async () => {
    const thief = "import os\nprint(sorted(os.listdir('.')), sorted(os.listdir('/w')))";
    expect(await score(PLAIN, thief, "", "['main.py'] ['main.py']")).toBe("passed");
    expect(await score(PLAIN, "print(1)\nimport sys; sys.exit(0)", "", "secret")).toMatch(/^failed 0/);
  });

  test("what cannot be judged as meant is refused, never scored", async () => {
    expect(await score({ ...PLAIN, input_mode: "file" }, "print(1)", "", "1")).toContain("INPUT_MODE=file");
    expect(await score({ ...PLAIN, time_limit: 100 }, "print(1)", "", "1")).toContain(
      "TIME_LIMIT cannot exceed the configured limit of 15",
    );
    expect(await score({ ...PLAIN, memory_limit: 4096 }, "print(1)", "", "1")).toContain(
      "MEMORY_LIMIT cannot exceed",
    );
  });
});

describe("ScaleBox's /common_evaluate_batch", () => {
  const evaluate = (completion: string, extra = {}, more = {}) =>
    ask("/common_evaluate_batch", {
      completion: `\`\`\`python\n${completion}\n\`\`\``,
      config: {
        language: "python",
        compile_timeout: 10,
        run_timeout: 5,
        provided_data: {
          test_cases: {
            type: "stdin_stdout",
            input: ["1 2", "3 4", "5 6"],
            output: ["3", "7.0", "11"],
            fn_name: null,
          },
        },
        extra,
        ...more,
      },
    });

  test("one completion against many tests: accepted, and each test with what ran", async () => {
    const { status, body } = await evaluate("print(sum(map(int, input().split())))");
    expect([status, body.accepted, body.tests.map(({ passed }: { passed: boolean }) => passed)]).toEqual([
      200,
      true,
      [true, true, true],
    ]);
    expect(body.tests[1]).toMatchObject({
      exec_info: { status: "Success", run_result: { status: "Finished", return_code: 0, stdout: "7\n" } },
      test_info: { input: { stdin: "3 4" }, output: { stdout: "7.0" } },
    });
    expect(body.extracted_code).toBe("print(sum(map(int, input().split())))\n");
  });

  test("the first failure ends it, unless all cases are asked for; a crash and a timeout are told apart", async () => {
    const wrong = "a, b = map(int, input().split())\nprint(a + b if a == 5 else 0)";
    expect((await evaluate(wrong)).body.tests).toHaveLength(1);
    const all = await evaluate(wrong, { run_all_cases: true });
    expect([all.body.accepted, all.body.tests.map(({ passed }: { passed: boolean }) => passed)]).toEqual([
      false,
      [false, false, true],
    ]);
    expect(all.body.tests[0].exec_info.status).toBe("Success"); // it ran well, and was wrong
    const crash = await evaluate("raise ValueError");
    expect(crash.body.tests[0].exec_info).toMatchObject({
      status: "Failed",
      run_result: { status: "Finished", return_code: 1 },
    });
    const loop = await evaluate("while True: pass", {}, { run_timeout: 1 });
    expect(loop.body.tests[0].exec_info).toMatchObject({
      status: "Failed",
      run_result: { status: "TimeLimitExceeded" },
    });
  });

  test("types that need code built from them, and code to extract code with, are refused", async () => {
    const test_cases = { type: "function_call", input: ["1"], output: ["1"], fn_name: "f" };
    const refused = await evaluate("x", {}, { provided_data: { test_cases } });
    expect([refused.status, refused.body.detail]).toEqual([
      400,
      "test_cases of type function_call are not offered here, only stdin_stdout",
    ]);
    expect((await evaluate("x", {}, { custom_extract_logic: "import os" })).status).toBe(400);
    expect((await evaluate("x", {}, { language: "klingon" })).status).toBe(400);
  });
});
