import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { get, post, processesWith, type ServiceProcess, startService, until } from "./service-process.js";

let service: ServiceProcess;
beforeAll(async () => {
  service = await startService(["--max-memory-mb", "256"]);
});
afterAll(() => service.stop());

/** Of each language: a program that adds two numbers, and ones that fail in each way. */
const PROGRAMS = {
  python: {
    right: "print(sum(map(int, input().split())))",
    wrong: "print(1)",
    crash: "import sys\nprint('x')\nsys.exit(3)",
    loop: "while True: pass",
    broken: "print(",
  },
  c: {
    right: '#include <stdio.h>\nint main(void) { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); }',
    wrong: "int main(void) { return 0; }",
    crash: "int main(void) { return 3; }",
    loop: "int main(void) { for (;;); }",
    broken: "int main( {",
  },
  lua: {
    right: "local a, b = io.read('n', 'n') print(a + b)",
    wrong: "print(1)",
    crash: "os.exit(3)",
    loop: "while true do end",
    broken: "print(",
  },
  bash: {
    right: "read a b; echo $((a + b))",
    wrong: "echo 1",
    crash: "exit 3",
    loop: "while true; do :; done",
    broken: "if",
  },
} as const;
type Name = keyof typeof PROGRAMS;
const NAMES = Object.keys(PROGRAMS) as Name[];

const task = (limits = {}) => ({
  id: "add",
  prompt: "Add.",
  tests: [
    { input: "1 2\n", output: "3\n" },
    { input: "3 4\n", output: "7\n", visible: false },
  ],
  limits,
});

describe("POST /v1/verify", () => {
  const WANTED = {
    right: "accepted",
    wrong: "wrong_answer",
    crash: "runtime_error",
    loop: "time_limit",
  } as const;

  test("a batch comes back in order, each with its verdict in the shape of a result row", async () => {
    const submissions = NAMES.flatMap((language) =>
      Object.entries(PROGRAMS[language]).map(([kind, program]) => ({
        id: `${language}/${kind}`,
        task: task({ time_s: 2 }),
        language,
        program,
      })),
    );
    const { status, body } = await post(service, "/v1/verify", { submissions });
    expect(status).toBe(200);
    const got = body.results.map((row: { id: string; status: string }) => [row.id, row.status]);
    const broken = { c: "compile_error" } as Partial<Record<Name, string>>;
    expect(got).toEqual(
      NAMES.flatMap((language) => [
        ...Object.entries(WANTED).map(([kind, wanted]) => [`${language}/${kind}`, wanted]),
        [`${language}/broken`, broken[language] ?? "runtime_error"],
      ]),
    );
    expect(Object.keys(body.results[0])).toEqual(
      "id,task_id,sample,language,status,reward,passed,total,feedback,tests,comparator,isolation,cached".split(
        ",",
      ),
    );
    expect(body.results[0]).toMatchObject({
      task_id: "add",
      language: "python",
      reward: 1,
      passed: 2,
      total: 2,
      comparator: "tokens",
      isolation: { network: "none", seccomp: true },
      tests: [{ status: "accepted", exit_code: 0, stdout: "3\n" }, { stdout: "7\n" }],
    });
  });

  test("the same program again is answered from the cache, and says so", async () => {
    const submissions = [{ task: task(), language: "lua", program: "print(3) -- twice" }];
    const first = await post(service, "/v1/verify", { submissions });
    const second = await post(service, "/v1/verify", { submissions });
    expect([first.body.results[0].cached, second.body.results[0].cached]).toEqual([false, true]);
    expect(second.body.results[0].passed).toBe(1);
  });

  test("a completion's last fenced block is its program; none is no_program; stopping early leaves tests unrun", async () => {
    const { body } = await post(service, "/v1/verify", {
      submissions: [
        { task: { ...task(), language: "bash" }, completion: "So:\n```bash\nread a b; echo $((a+b))\n```\n" },
        { task: { ...task(), language: "bash" }, completion: "I cannot." },
        { task: task(), language: "bash", program: "exit 1", stop_after_failures: 1, sample: 5 },
      ],
    });
    const rows = body.results.map((row: { status: string; sample: number; tests: unknown[] }) => [
      row.status,
      row.sample,
      row.tests.length,
    ]);
    expect(rows).toEqual([
      ["accepted", 0, 2],
      ["no_program", 0, 0],
      ["runtime_error", 5, 1],
    ]);
  });

  test("as NDJSON each line comes when its program has finished, with its place in the batch", async () => {
    const nap = `9${process.pid}.5`; // far longer than its limit: the test ends it
    const once = { ...task(), tests: task().tests.slice(0, 1) };
    const slow = { task: once, language: "bash", program: `sleep ${nap}; read a b; echo $((a+b))` };
    const quick = { task: task(), language: "bash", program: PROGRAMS.bash.right };
    const response = await fetch(`${service.url}/v1/verify`, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/x-ndjson" },
      body: JSON.stringify({ submissions: [slow, quick] }),
    });
    expect(response.headers.get("content-type")).toBe("application/x-ndjson");
    const pieces: string[] = [];
    const decoder = new TextDecoder();
    const wake = (): boolean => processesWith(nap).some((pid) => process.kill(Number(pid)));
    for await (const piece of response.body as AsyncIterable<Uint8Array>)
      if (pieces.push(decoder.decode(piece)) === 1) await until("the slow one naps", wake);
    expect(pieces.length).toBeGreaterThan(1); // the first was not kept back for the second
    const rows = pieces
      .join("")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(rows.map(({ index, status }) => [index, status])).toEqual([
      [1, "accepted"],
      [0, "accepted"],
    ]);
  });

  test.each([
    ["a task without tests", { task: { ...task(), tests: [] }, language: "lua", program: "" }, "task.tests"],
    ["an unknown key", { task: task(), lang: "lua", language: "lua", program: "" }, "lang"],
    ["an unknown language", { task: task(), language: "klingon", program: "" }, "klingon"],
    [
      "a checker in an unknown language",
      {
        task: { ...task(), comparator: { checker: { language: "klingon", program: "x" } } },
        language: "lua",
        program: "",
      },
      "checker.language",
    ],
    ["no language", { task: task(), program: "" }, "language"],
    ["neither program nor completion", { task: task(), language: "lua" }, "program or completion"],
    ["a command line", { task: task(), language: "lua", program: "", execute: "sh" }, "execute"],
    [
      "more memory than the operator gives",
      { task: task({ memory_mb: 999 }), language: "lua", program: "" },
      "--max-memory-mb",
    ],
    [
      "more time than the operator gives",
      { task: task({ time_s: 60 }), language: "lua", program: "" },
      "--max-time-s",
    ],
    [
      "more CPU time than the operator gives",
      { task: task({ cpu_s: 60 }), language: "lua", program: "" },
      "cpu_s",
    ],
  ])("%s is refused with its place, and nothing of the batch runs", async (_, submission, words) => {
    const { status, body } = await post(service, "/v1/verify", { submissions: [submission] });
    expect(status).toBe(400);
    expect(body.error.message).toContain(words);
  });

  test("a checker of the task judges the output, and is named", async () => {
    const program = [
      "import sys",
      "said, right = open('stdout.txt').read().strip(), open('answer.txt').read().strip()",
      "sys.exit(0 if said in ('even', right) else 1)",
    ].join("\n");
    const judged = { ...task(), comparator: { checker: { language: "python", program } } };
    const submissions = ["echo even", "echo odd"].map((each) => ({
      task: judged,
      language: "bash",
      program: each,
    }));
    const { body } = await post(service, "/v1/verify", { submissions });
    const rows = body.results.map((row: { status: string; comparator: string }) => [
      row.status,
      row.comparator,
    ]);
    expect(rows).toEqual([
      ["accepted", "checker"],
      ["wrong_answer", "checker"],
    ]);
  });

  test("10,000 tests and invalid outputs of programs are judged", async () => {
    const tests = Array.from({ length: 10_000 }, () => ({ input: "", output: "x" }));
    const program = "printf 'x\\0\\377'";
    const { status, body } = await post(service, "/v1/verify", {
      submissions: [
        { task: { ...task(), tests }, language: "bash", program, stop_after_failures: 2 },
        {
          task: { ...task(), tests: tests.slice(0, 2000), comparator: "exit" },
          language: "c",
          program: "int main(){return 0;}",
        },
      ],
    });
    expect(status).toBe(200);
    expect(body.results.map((row: { status: string; total: number }) => [row.status, row.total])).toEqual([
      ["wrong_answer", 10_000],
      ["accepted", 2000],
    ]);
  });
});

describe("POST /run_code, as SandboxFusion", () => {
  const run = (body: Record<string, unknown>) => post(service, "/run_code", body);

  test.each(NAMES)("%s: right, crash, time limit", async (language) => {
    const right = await run({ language, code: PROGRAMS[language].right, stdin: "1 2\n" });
    expect(right.body).toMatchObject({
      status: "Success",
      message: "",
      compile_result: language === "c" ? { status: "Finished", return_code: 0 } : null,
      run_result: { status: "Finished", return_code: 0, stdout: "3\n", stderr: "" },
      executor_pod_name: null,
      files: {},
    });
    const crash = await run({ language, code: PROGRAMS[language].crash });
    expect(crash.body).toMatchObject({
      status: "Failed",
      run_result: { status: "Finished", return_code: 3 },
    });
    const loop = await run({ language, code: PROGRAMS[language].loop, run_timeout: 1 });
    expect(loop.body).toMatchObject({
      status: "Failed",
      run_result: { status: "TimeLimitExceeded", return_code: null },
    });
    expect(loop.body.run_result.execution_time).toBeGreaterThanOrEqual(1);
  });

  test("a compile error has no run result; a compiler out of time is told apart", async () => {
    const broken = await run({ language: "c", code: PROGRAMS.c.broken });
    expect(broken.body).toMatchObject({
      status: "Failed",
      compile_result: { status: "Finished", return_code: 1 },
      run_result: null,
    });
    expect(broken.body.compile_result.stderr).toContain("error:");
    const bomb = "#define A(x) x x x x x x x x\nint main(void) { A(A(A(A(A(A(A(A(A(;))))))))) }";
    const late = await run({ language: "c", code: bomb, compile_timeout: 0.3 });
    expect(late.body).toMatchObject({
      status: "Failed",
      compile_result: { status: "TimeLimitExceeded" },
      run_result: null,
    });
  });

  test("a signal is its number below zero, as Python has it; a program out of memory was killed", async () => {
    expect((await run({ language: "bash", code: "kill -SEGV $$" })).body.run_result.return_code).toBe(-11);
    const hog = await run({ language: "python", code: "x = bytearray(200 << 20)", memory_limit_MB: 64 });
    expect(hog.body).toMatchObject({ status: "Failed", run_result: { status: "Finished" } });
    expect(hog.body.run_result.return_code).not.toBe(0);
  });

  test("limits beyond the operator's are cut to them, and the answer says so", async () => {
    const { body } = await run({
      language: "python",
      code: "x = bytearray(400 << 20)",
      memory_limit_MB: 4096,
    });
    expect(body.status).toBe("Failed");
    expect(body.message).toContain("memory_limit_MB 4096 is beyond this service's limit: ran with 256");
    const { body: forever } = await run({ language: "bash", code: "sleep 60", run_timeout: 500 });
    expect(forever.run_result.status).toBe("TimeLimitExceeded");
    expect(forever.run_result.execution_time).toBeLessThan(15);
    expect(forever.message).toContain("run_timeout 500 is beyond this service's limit: ran with 10");
  });

  test("files in base64 stand beside the program; null ones do not; fetching files is refused as their own errors are", async () => {
    const data = Buffer.from("from a file").toString("base64");
    const { body } = await run({
      language: "bash",
      code: "cat data.txt; ls",
      files: { "data.txt": data, gone: null },
    });
    expect(body.run_result.stdout).toBe("from a filedata.txt\nmain.sh\n");
    const fetched = await run({ language: "bash", code: "echo", fetch_files: ["x"] });
    expect([fetched.status, fetched.body.status]).toEqual([200, "SandboxError"]);
  });

  test("an id of theirs that is not offered is a SandboxError; what is no id is a 422 in FastAPI's shape", async () => {
    for (const language of ["pytest", "cuda", "D_ut", "kotlin_script"]) {
      const { status, body } = await run({ language, code: "" });
      expect([status, body.status, body.run_result]).toEqual([200, "SandboxError", null]);
      expect(body.message).toContain(language);
    }
    const none = await run({ language: "klingon", code: "" });
    expect(none.status).toBe(422);
    expect(none.body.detail[0].loc).toEqual(["body", "language"]);
    expect((await run({ language: "python" })).body.detail[0].loc).toEqual(["body", "code"]);
    expect((await run({ language: "python", code: "", run_timeout: -1 })).status).toBe(422);
  });
});

describe("Piston's API", () => {
  const execute = (body: Record<string, unknown>) =>
    post(service, "/api/v2/execute", { version: "*", ...body });
  const program = (content: string, ...more: Record<string, unknown>[]) => ({
    files: [{ content }, ...more],
  });

  test("runtimes have a language, three numbers and aliases, and what they list can be executed", async () => {
    const { body } = await get(service, "/api/v2/runtimes");
    const python = body.find(({ language }: { language: string }) => language === "python");
    expect(python).toMatchObject({
      version: expect.stringMatching(/^3\.\d+\.\d+$/),
      aliases: expect.arrayContaining(["py"]),
    });
    for (const version of ["*", "3", "3.x", python.version]) {
      const answer = await post(service, "/api/v2/execute", {
        language: "py",
        version,
        ...program("print(1)"),
      });
      expect([answer.status, answer.body.language, answer.body.version]).toEqual([
        200,
        "python",
        python.version,
      ]);
    }
    const other = await post(service, "/api/v2/execute", {
      language: "py",
      version: "2.7.18",
      ...program("print 1"),
    });
    expect([other.status, other.body]).toEqual([400, { message: "py-2.7.18 runtime is unknown" }]);
  });

  test.each(NAMES)("%s: right, crash, time limit", async (language) => {
    const right = await execute({ language, ...program(PROGRAMS[language].right), stdin: "1 2" });
    expect(right.body.run).toMatchObject({
      stdout: "3\n",
      output: "3\n",
      stderr: "",
      code: 0,
      signal: null,
      status: null,
      message: null,
    });
    expect(right.body.compile?.code).toBe(language === "c" ? 0 : undefined);
    const crash = await execute({ language, ...program(PROGRAMS[language].crash) });
    expect(crash.body.run).toMatchObject({
      code: 3,
      signal: null,
      status: "RE",
      message: "Exited with error status 3",
    });
    const loop = await execute({ language, ...program(PROGRAMS[language].loop), run_timeout: 1000 });
    expect(loop.body.run).toMatchObject({ code: null, signal: "SIGKILL", status: "TO" });
  });

  test("a compile error stands in compile, and again in run; a crash names its signal", async () => {
    const { body } = await execute({ language: "c", ...program(PROGRAMS.c.broken) });
    expect(body.compile.code).toBe(1);
    expect(body.compile.stderr).toContain("error:");
    expect(body.run).toEqual(body.compile);
    const crash = await execute({ language: "bash", ...program("kill -SEGV $$") });
    expect(crash.body.run).toMatchObject({ code: null, signal: "SIGSEGV", status: "SG" });
    const flood = await execute({
      language: "bash",
      ...program("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxx; done"),
    });
    expect(flood.body.run).toMatchObject({
      signal: "SIGKILL",
      status: "OL",
      message: "stdout length exceeded",
    });
  });

  test("arguments reach the program as words that no shell reads; more files stand beside it", async () => {
    const args = ["two words", "$(id)", "; ls", "-x"];
    const files = program(
      'printf "%s|" "$@"; cat note.txt blob',
      { name: "note.txt", content: "hi\n" },
      { name: "blob", content: "AEE=", encoding: "base64" },
    );
    const { body } = await execute({ language: "bash", args, ...files });
    expect(body.run.stdout).toBe("two words|$(id)|; ls|-x|hi\n\0A");
  });

  test.each([
    ["no version", { version: undefined, language: "lua", files: [] }, "version is required as a string"],
    ["no files", { language: "lua" }, "files is required as an array"],
    ["no content", { language: "lua", files: [{}] }, "files[0].content is required as a string"],
    [
      "an unknown language",
      { language: "klingon", files: [{ content: "" }] },
      "klingon-* runtime is unknown",
    ],
    [
      "too much time",
      { language: "lua", files: [{ content: "" }], run_timeout: 99_999 },
      "run_timeout cannot exceed the configured limit of 10000",
    ],
    [
      "too much memory",
      { language: "lua", files: [{ content: "" }], run_memory_limit: 2 ** 40 },
      "run_memory_limit cannot exceed the configured limit of 268435456",
    ],
    [
      "too much compile time",
      { language: "c", files: [{ content: "" }], compile_timeout: 1e6 },
      "compile_timeout cannot exceed",
    ],
    [
      "a limit that is no number",
      { language: "lua", files: [{ content: "" }], run_timeout: "9" },
      "run_timeout must be a number",
    ],
    [
      "a negative limit",
      { language: "lua", files: [{ content: "" }], run_timeout: -1 },
      "run_timeout must be non-negative",
    ],
    ["a NUL in an argument", { language: "lua", files: [{ content: "" }], args: ["a\0b"] }, "NUL"],
  ])("%s is refused as Piston refuses it", async (_, body, words) => {
    const { status, body: said } = await execute(body);
    expect(status).toBe(400);
    expect(said.message).toContain(words);
  });
});

test.each([
  ["../../etc/cron.d/x", "Li4="],
  ["/etc/passwd", "Li4="],
  ["a\0b", "Li4="],
  ["dir/file", "Li4="],
  ["..", "Li4="],
  ["main.py", "Li4="],
])("a file named %j is refused by each API that takes files", async (name, content) => {
  const fusion = await post(service, "/run_code", {
    language: "python",
    code: "",
    files: { [name]: content },
  });
  expect(fusion.status).toBe(422);
  const files = [{ content: "" }, { name, content, encoding: "base64" }];
  const piston = await post(service, "/api/v2/execute", { language: "python", version: "*", files });
  expect([piston.status, fusion.body.detail[0].msg]).toEqual([400, piston.body.message]);
});

test("10,000 files are refused, and a large one within the limits arrives whole", async () => {
  const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`f${i}`, ""]));
  expect((await post(service, "/run_code", { language: "bash", code: "", files: many })).status).toBe(422);
  const large = Buffer.alloc(8 << 20, "x").toString("base64");
  const { body } = await post(service, "/run_code", {
    language: "bash",
    code: "wc -c < big",
    files: { big: large },
  });
  expect(body.run_result.stdout.trim()).toBe(String(8 << 20));
});
