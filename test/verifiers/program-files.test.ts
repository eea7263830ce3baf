import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLocalPool, type LocalPool, loadLanguages, type ProgramFile } from "../../verifiers/index.js";
import { argumentsProblem, filesProblem } from "../../verifiers/program-files.js";

const languages = loadLanguages();
const file = (name: string, text: string): ProgramFile => ({ name, bytes: Buffer.from(text) });

test.each([
  ["..", "plain name"],
  [".", "plain name"],
  ["../../etc/passwd", "plain name"],
  ["/etc/passwd", "plain name"],
  ["a\0b", "plain name"],
  ["a/b", "plain name"],
  ["", "plain name"],
  ["x".repeat(101), "plain name"],
  ["main.py", "the program itself"],
])("a file named %j is refused", (name, why) => {
  expect(filesProblem([file(name, "")], "main.py")).toContain(why);
});

test("files are refused where two share a name, where they are too many or too large", () => {
  expect(filesProblem([file("a", ""), file("a", "")], "p")).toContain("twice");
  const many = Array.from({ length: 10_000 }, (_, i) => file(`f${i}`, ""));
  expect(filesProblem(many, "p")).toContain("64 are the most");
  expect(filesProblem([{ name: "big", bytes: new Uint8Array(65 * 1024 * 1024) }], "p")).toContain("bytes");
  expect(filesProblem([file("data.txt", "x"), file("__proto__", "y")], "p")).toBeNull();
});

test("arguments are words: none for a command that needs a shell, none with a NUL byte", () => {
  expect(argumentsProblem(["x"], "tr a-z A-Z < text")).toContain("shell");
  expect(argumentsProblem(["a\0b"], "python3 main.py")).toContain("NUL");
  expect(argumentsProblem(new Array(257).fill("x"), "python3 main.py")).toContain("256");
  expect(argumentsProblem(["x".repeat(70_000)], "python3 main.py")).toContain("bytes");
  expect(argumentsProblem(["; rm -rf /", "$(id)"], "python3 main.py")).toBeNull();
  expect(argumentsProblem([], "tr a-z A-Z < text")).toBeNull();
});

const BASH = 'printf "%s|" "$@"; cat note.txt; ls\n';
const C = '#include "n.h"\n#include <stdio.h>\nint main(int c, char **v) { printf("%d %s", N, v[1]); }\n';

describe.each(["supervisor", "single"] as const)("in a sandbox (%s)", (mode) => {
  let pool: LocalPool;
  beforeAll(async () => {
    pool = await createLocalPool({ languages, workers: 2, mode });
  });
  afterAll(() => pool.close());

  test("a program reads the files beside it, and its arguments are never read by a shell", async () => {
    const { tests } = await pool.run({
      language: languages.get("bash"),
      program: BASH,
      inputs: ["", ""],
      files: [file("note.txt", "hello\n")],
      args: ["two words", "$(id)", ";ls", ""],
    });
    const printed = "two words|$(id)|;ls||hello\nmain.sh\nnote.txt\n";
    expect(tests.map(({ stdout }) => stdout)).toEqual([printed, printed]);
  });

  test("a compiler sees them too, and what it said is kept where it went well and where it did not", async () => {
    const run = {
      language: languages.get("c"),
      inputs: [""],
      files: [file("n.h", "#define N 7\n")],
      args: ["x"],
    };
    const good = await pool.run({ ...run, program: C });
    expect([good.tests[0]?.stdout, good.compiler?.status, good.compile]).toEqual(["7 x", "accepted", null]);
    const bad = await pool.run({ ...run, program: "int main( {\n" });
    expect([bad.compiler?.status, bad.compile?.status, bad.tests]).toEqual([
      "runtime_error",
      "compile_error",
      [],
    ]);
  });

  test("a request tightens the compiler's time and cannot widen it", async () => {
    const slow = { ...languages.get("bash"), compile: "sleep 30", compile_limits: { time_s: 2 } };
    const run = { language: slow, program: "", inputs: [""] };
    const patient = { ...slow, compile_limits: { time_s: 20 } };
    const tight = await pool.run({ ...run, language: patient, compileLimits: { time_s: 0.3 } });
    expect(tight.compiler?.status).toBe("time_limit");
    expect(tight.compiler?.time_ms).toBeLessThan(19_000);
    const wide = await pool.run({ ...run, compileLimits: { time_s: 1000 } });
    expect(wide.compiler?.status).toBe("time_limit");
  });

  test("files that do not fit are the caller's mistake, and nothing runs", async () => {
    const run = { language: languages.get("bash"), program: "", inputs: [""], files: [file("../x", "")] };
    await expect(pool.run(run)).rejects.toThrow(/plain name/);
  });
});
