/** Languages of a user's own: dropped into a folder, used, checked, recorded; and what goes wrong when tools are missing. */
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { RunConfig } from "../../coordinator/config.js";
import { loadConfigFile } from "../../coordinator/config-file.js";
import { Task } from "../../core/index.js";
import {
  checkLanguages,
  createLocalPool,
  type LanguageCheck,
  type LocalPool,
  languageSet,
  loadLanguages,
  parseLanguage,
} from "../../verifiers/index.js";
import { retort } from "../cli/retort.js";
import { AGNOSTICS } from "./agnostics.js";

const folder = mkdtempSync(join(tmpdir(), "retort-own-"));
// Not below /tmp, which is a program's own in the sandbox; and open to the user that the sandbox drops to.
const toolchain = `/var/tmp/retort-toolchain-${process.pid}`;
afterAll(() => {
  rmSync(folder, { recursive: true });
  rmSync(toolchain, { recursive: true, force: true });
});

/** An editor of streams as a programming language: surely nobody ships it. */
const SED = `
prompt: Use sed.
install: apt-get install -y sed
filename: main.sed
execute: sed -n -f main.sed
aliases: [stream]
fences: [sed]
probe: sed --version
messages: { remove: ["^sed: "] }
selftest: { program: 's/^\\(.*\\) \\(.*\\)$/\\2 \\1/p', input: "a b\\n", output: "b a\\n" }
`;
const SED_EXAMPLES = `
compile_error: { status: runtime_error, program: "s/a/b\\n", input: "1 2\\n", output: "3\\n" }
runtime_error: { program: "q5\\n", input: "1 2\\n", output: "3\\n" }
wrong_answer: { program: "p\\n", input: "1 2\\n", output: "3\\n" }
time_limit: { program: ":a\\nba\\n", input: "1 2\\n", output: "3\\n", limits: { time_s: 1 } }
`;

const task = (changes: Partial<Task> = {}): Task =>
  Task.parse({ id: "t", prompt: "", tests: [{ input: "1 2\n", output: "2 1\n" }], ...changes });

describe("a language that a user drops into a folder", () => {
  const mine = join(folder, "mine");
  const examples = join(mine, "examples", "sed.yaml");
  beforeAll(() => {
    mkdirSync(join(mine, "examples"), { recursive: true });
    writeFileSync(join(mine, "sed.yaml"), SED);
    writeFileSync(examples, SED_EXAMPLES);
  });

  const check = async (
    ...args: string[]
  ): Promise<{ code: number | null; row: LanguageCheck; said: string }> => {
    const run = await retort(["languages", "check", "sed", "--languages", mine, "--json", ...args]);
    return { code: run.code, row: run.stdout === "" ? null : JSON.parse(run.stdout)[0], said: run.stderr };
  };

  test("judges programs of a run whose YAML names the folder", async () => {
    const run = join(folder, "run.yaml");
    writeFileSync(
      run,
      "run: { name: x, steps: 1 }\npolicy: { path: . }\ntasks: { train: t.jsonl }\nlanguages: { default: stream, folders: [mine] }\nobjective: { type: grpo }\noptimizer: { type: adamw, lr: 0.001 }\n",
    );
    const { languages } = loadConfigFile(run, RunConfig);
    const pool = await createLocalPool({ languages: loadLanguages(languages.folders), workers: 1 });
    const submission = { id: "s", task: task(), language: languages.default };
    const verdicts = await Promise.all(
      ["s/1 2/2 1/p", "p", "q3"].map((program) => pool.verify({ ...submission, program })),
    ).finally(() => pool.close());
    expect(verdicts.map(({ status }) => status)).toEqual(["accepted", "wrong_answer", "runtime_error"]);
  });

  test("runs with --languages, by its alias", async () => {
    const program = join(folder, "up.sed");
    writeFileSync(program, "s/[a-z]/&&/gp\n");
    const run = await retort(["run", "--language", "stream", "--languages", mine, program], {
      input: "ab\n",
    });
    expect(run).toEqual({ code: 0, stdout: "aabb\n", stderr: "" });
  });

  test("is listed, with its aliases, beside the shipped ones", async () => {
    const run = await retort(["languages", "--languages", mine, "--json"]);
    const rows = JSON.parse(run.stdout) as LanguageCheck[];
    expect(rows.find(({ name }) => name === "sed")).toEqual({
      name: "sed",
      status: "unchecked",
      version: null,
      install: "apt-get install -y sed",
      aliases: ["stream"],
      tested: null,
    });
    expect(rows.length).toBeGreaterThan(20);
  });

  test("shows the feedback of its examples, records it on request, and is held to it from then on", async () => {
    const before = await check();
    expect(before).toMatchObject({ code: 0, row: { name: "sed", status: "ok" } });
    expect(before.row.notes).toHaveLength(4);
    expect(before.row.notes?.[0]).toContain(
      'compile_error: no feedback is recorded; here it is "Runtime Error',
    );

    const recording = await check("--record");
    expect(recording).toMatchObject({ code: 0, said: `wrote ${examples}\n` });
    const recorded = readFileSync(examples, "utf8");
    expect(recorded).toMatch(/^version: sed \(GNU sed\)/);
    expect(recorded).toContain("  feedback: |-\n    Time Limit Exceeded\n");
    expect((await check()).row).toEqual({
      name: "sed",
      status: "ok",
      version: before.row.version,
      install: "apt-get install -y sed",
    });

    writeFileSync(examples, recorded.replace("Time Limit Exceeded", "Time Limit exceeded"));
    const failed = await check();
    expect(failed).toMatchObject({ code: 1, row: { status: "failed" } });
    expect(failed.row.reason).toMatch(
      /^time_limit: feedback "Time Limit Exceeded.* instead of "Time Limit exceeded/,
    );

    writeFileSync(examples, recorded.replace("GNU sed", "another sed").replace("Limit Exceeded", "limit"));
    const other = await check();
    expect(other).toMatchObject({ code: 0, row: { status: "ok" } });
    expect(other.row.notes?.[0]).toContain("recorded with sed (another sed)");

    writeFileSync(examples, recorded.replace("q5", "q0"));
    expect(await check()).toMatchObject({ code: 1, row: { status: "failed" } });
    expect((await check()).row.reason).toMatch(/^runtime_error: wrong_answer instead of runtime_error: /);
    const refused = await check("--record");
    expect([refused.code, refused.said]).toEqual([
      2,
      expect.stringContaining("need examples that end as they should. runtime_error: wrong_answer"),
    ]);
    expect(readFileSync(examples, "utf8")).toBe(recorded.replace("q5", "q0"));
    writeFileSync(examples, recorded);
  });

  test("without a probe its examples are recorded all the same, and held to", async () => {
    const quiet = join(folder, "quiet");
    mkdirSync(join(quiet, "examples"), { recursive: true });
    writeFileSync(join(quiet, "sed.yaml"), SED.replace("probe: sed --version\n", ""));
    const file = join(quiet, "examples", "sed.yaml");
    writeFileSync(file, SED_EXAMPLES);
    const args = ["languages", "check", "sed", "--languages", quiet, "--json"];
    expect((await retort([...args, "--record"])).code).toBe(0);
    expect(readFileSync(file, "utf8")).toMatch(/^version: no probe\n/);
    expect(JSON.parse((await retort(args)).stdout)).toMatchObject([{ status: "ok", version: null }]);
    writeFileSync(file, readFileSync(file, "utf8").replace("Exceeded", "exceeded"));
    expect(JSON.parse((await retort(args)).stdout)).toMatchObject([{ status: "failed", version: null }]);
  });

  test("a name that nothing has is an error with the nearest one", async () => {
    const run = await retort(["languages", "check", "sad", "--languages", mine]);
    expect([run.code, run.stdout]).toEqual([2, ""]);
    expect(run.stderr).toContain("Did you mean sed?");
  });

  test("a mistyped key names file and line", async () => {
    const wrong = join(folder, "wrong.yaml");
    writeFileSync(wrong, SED.replace("execute:", "exec:"));
    const run = await retort(["languages", "--languages", wrong]);
    expect([run.code, run.stdout]).toEqual([2, ""]);
    expect(run.stderr).toContain(`${wrong}:5: exec: need a known key. Did you mean execute?`);
  });
});

/** Judges programs with languages of these texts; the last of them is asked. */
async function judge(name: string, text: string, program: string, changes: Partial<Task> = {}) {
  const pool = await createLocalPool({
    languages: languageSet([parseLanguage(text, `${name}.yaml`)]),
    workers: 1,
  });
  const submission = { id: "s", task: task(changes), language: name, program };
  return pool.verify(submission).finally(() => pool.close());
}

describe("a tool that is not installed is never the program's fault", () => {
  const install = "install: get no-such-tool\n";
  test.each([
    { name: "a plain command", text: "execute: no-such-tool a.x\n" },
    { name: "the first of a pipe", text: "execute: no-such-tool a.x | cat\n" },
    { name: "the last of a pipe", text: "execute: cat a.x | no-such-tool 'x y'\n" },
    { name: "a compiler", text: "compile: no-such-tool a.x\nexecute: ./a\n" },
    { name: "a compiler behind a shell", text: "compile: cd . && no-such-tool a.x\nexecute: ./a\n" },
  ])("$name", async ({ text }) => {
    const verdict = await judge("x", `prompt: p\nfilename: a.x\n${install}${text}`, "anything");
    expect(verdict).toMatchObject({ status: "infrastructure", reward: null, feedback: "" });
    expect(verdict.reason).toMatch(/no-such-tool.*\(to install x: get no-such-tool\)$/);
  });

  test("and no program can claim that its tool is missing", async () => {
    const shell = `prompt: p\nfilename: a.sh\n${install}execute: exec bash "a.sh"\n`;
    const claim = "echo 'sh: 1: no-such-tool: not found' >&2; exit 127";
    const verdict = await judge("x", shell, claim);
    expect(verdict).toMatchObject({ status: "runtime_error", reward: 0 });
  });
});

test("a command may have quotes, variables and pipes", async () => {
  const text = `prompt: p\nfilename: a.txt\nenv: { SUFFIX: "b c" }\nexecute: |-\n  tr 'a-z' "A-Z" < a.txt | head -c 3; echo "\${SUFFIX}"; cat | sort -r\n`;
  const tests = [{ input: "1\n2\n", output: "ABCb c\n2\n1\n", visible: true }];
  const verdict = await judge("x", text, "abcdef", { tests, comparator: "exact" });
  expect(verdict).toMatchObject({ status: "accepted" });
});

describe("a toolchain outside of /usr", () => {
  const tool = join(toolchain, "double");
  beforeAll(() => {
    mkdirSync(toolchain);
    chmodSync(toolchain, 0o755);
    writeFileSync(tool, '#!/bin/sh\nread -r a b\necho "$b $a"\n');
    chmodSync(tool, 0o755);
  });
  const text = (mounts: string) => `prompt: p\nfilename: a.x\nmounts: [${mounts}]\nexecute: ${tool} a.x\n`;

  test("is there when it is mounted; a mount that this host lacks is passed over", async () => {
    const verdict = await judge("x", text(`/opt/no-such-folder, ${toolchain}`), "anything");
    expect(verdict).toMatchObject({ status: "accepted" });
  });

  test.skipIf(process.getuid?.() !== 0)(
    "in a folder that is closed to the user that root's programs run as: the reason says what to do (as root only)",
    async () => {
      const closed = join(toolchain, "closed");
      mkdirSync(join(closed, "inside"), { recursive: true });
      chmodSync(closed, 0o700);
      const verdict = await judge("x", text(join(closed, "inside")), "anything");
      expect(verdict).toMatchObject({ status: "infrastructure", reward: null });
      expect(verdict.reason).toContain("put the tool into /opt, or open the folders above it");
    },
  );

  test("is not there when it is not", async () => {
    const verdict = await judge("x", text("/opt/no-such-folder"), "anything");
    expect(verdict).toMatchObject({ status: "infrastructure", reward: null });
  });
});

describe("the files of Agnostics", () => {
  let pool: LocalPool;
  beforeAll(async () => {
    pool = await createLocalPool({ languages: loadLanguages([AGNOSTICS.folder]), workers: 2 });
  });
  afterAll(() => pool.close());

  test.each([
    { language: "lua", program: 'local a, b = io.read("*n", "*n")\nassert(jit)\nprint(b, a)' },
    {
      language: "r",
      program:
        'x <- strsplit(readLines(con = file("stdin")), " ")[[1]]\nstopifnot(median(1:3) == 2)\ncat(rev(x), "\\n")',
    },
    {
      language: "fortran",
      program: "program p\nimplicit none\ninteger :: a, b\nread(*,*) a, b\nprint *, b, a\nend program p",
    },
  ])("$language judges programs", async ({ language, program }) => {
    const verdict = await pool.verify({ id: language, task: task(), language, program });
    expect(verdict).toMatchObject({ status: "accepted", passed: 1 });
  });

  test("check says how to get what is not here, in Agnostics' own words", async () => {
    const [ocaml, lua] = await checkLanguages(pool, { names: ["ocaml", "lua"] });
    expect(ocaml?.install).toBe("RUN opam install base stdio utop\nENV PATH=/home/opam/.opam/5.0/bin:$PATH");
    expect(["missing", "ok"]).toContain(ocaml?.status);
    expect(lua).toMatchObject({ status: "ok", notes: ["no self-test", "no examples"] });
  });
});
