/** Checker programs, in real sandboxes of both kinds. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Checker, ConfigError, type IoTest, packageRoot, Task, type Verdict } from "../../core/index.js";
import { checkerPlan } from "../../verifiers/checker-plan.js";
import { CheckerSandboxes } from "../../verifiers/checker-sandboxes.js";
import { probeHost } from "../../verifiers/host.js";
import {
  createLocalPool,
  type LocalPool,
  type LocalPoolOptions,
  languageSet,
  loadLanguages,
  parseLanguage,
} from "../../verifiers/index.js";
import type { Sandbox } from "../../verifiers/sandbox.js";
import { SandboxSource } from "../../verifiers/sandbox-source.js";
import { buildSupervisor } from "../../verifiers/supervisor-build.js";

const yaml = (name: string, lines: readonly string[]) =>
  parseLanguage(["prompt: p", ...lines, ""].join("\n"), `${name}.yaml`);

/** Beside the shipped ones: a tool that is not there, and a compiler that leaves a mark which differs each time. */
const LANGUAGES = languageSet([
  ...loadLanguages().all,
  yaml("absent", ["filename: a", "execute: no-such-tool a", "install: apt-get install no-such-tool"]),
  yaml("marked", [
    "filename: check.sh",
    "compile: cat /proc/sys/kernel/random/uuid > mark",
    "execute: sh check.sh",
  ]),
]);

const io = (input: string, output: string, visible = true): IoTest => ({ input, output, visible });

const taskWith = (checker: Partial<Checker> & { program: string }, tests: readonly IoTest[]): Task => ({
  id: "checked",
  prompt: "",
  tests: [...tests],
  comparator: { checker: { language: "python", accepts_answer: true, ...checker } },
  limits: { time_s: 10 },
});

/** Any order of the right numbers. */
const PERMUTATION = `
want = sorted(open("answer.txt").read().split())
got = sorted(open("stdout.txt").read().split())
assert open("stdin.txt").read() != ""
if want != got:
    print(f"{len(got)} numbers, not the right ones")
    exit(1)
`;
const DOUBLE_C = `#include <stdio.h>
int main(int argc, char **argv) {
  long n, got;
  if (argc != 4 || fscanf(fopen(argv[1], "r"), "%ld", &n) != 1) return 3;
  FILE *out = fopen(argv[2], "r");
  if (fscanf(out, "%ld", &got) != 1) { printf("no number"); return 1; }
  if (got != 2 * n) { printf("%ld is not twice %ld", got, n); return 1; }
  return 0;
}`;

function checkerContract(name: string, options: Omit<LocalPoolOptions, "languages">): void {
  describe(name, () => {
    let pool: LocalPool;
    beforeAll(async () => {
      pool = await createLocalPool({ languages: LANGUAGES, workers: 2, retries: 0, ...options });
    });
    afterAll(() => pool.close());
    const verify = (task: Task, program: string, language = "bash"): Promise<Verdict> =>
      pool.verify({ id: "s", task, language, program });

    test("an output that differs from the expected one is right when the checker says so", async () => {
      const task = taskWith({ program: PERMUTATION }, [io("3\n", "1 2 3\n"), io("2\n", "5 6\n")]);
      const verdict = await verify(task, "read -r n; [ $n = 3 ] && echo 3 1 2 || echo 6 5");
      expect([verdict.status, verdict.reward, verdict.passed, verdict.comparator]).toEqual([
        "accepted",
        1,
        2,
        "checker",
      ]);
    });

    test("its message becomes feedback, of visible tests only", async () => {
      const tests = [io("3\n", "1 2 3\n"), io("4\n", "7 8 secret\n", false)];
      const verdict = await verify(taskWith({ program: PERMUTATION }, tests), "echo 9");
      expect(verdict.tests.map(({ status, message }) => [status, message])).toEqual([
        ["wrong_answer", "1 numbers, not the right ones"],
        ["wrong_answer", "1 numbers, not the right ones"],
      ]);
      expect(verdict.feedback).toBe(
        "Test Case 1: Wrong Answer\n\nInput\n3\n\nOutput\n9\n\nExpected, for example\n1 2 3\n\nChecker\n1 numbers, not the right ones",
      );
      const hidden = await verify(taskWith({ program: PERMUTATION }, tests.slice(1)), "echo 9");
      expect([hidden.status, hidden.feedback]).toEqual(["wrong_answer", ""]);
    });

    test("a compiled checker gets input, output and answer as arguments", async () => {
      const task = taskWith({ language: "c", program: DOUBLE_C }, [io("4\n", "8\n"), io("5\n", "10\n")]);
      const right = await verify(task, "read -r n; echo $((n * 2))");
      const wrong = await verify(task, "echo 8");
      expect([right.status, wrong.status, wrong.passed]).toEqual(["accepted", "wrong_answer", 1]);
      expect(wrong.tests[1]?.message).toBe("8 is not twice 5");
    });

    test("NUL bytes and broken UTF-8 reach the checker as the program printed them", async () => {
      const program = `exit(open("stdout.txt", "rb").read() != bytes([0, 255, 10, 0xed, 0xa0, 0x80]))`;
      const task = taskWith({ program, accepts_answer: false }, [io("", "-")]);
      const right = await verify(task, "printf '\\000\\377\\n\\355\\240\\200'");
      const wrong = await verify(task, "printf '\\000\\376\\n\\355\\240\\200'");
      expect([right.status, wrong.status]).toEqual(["accepted", "wrong_answer"]);
    });

    test("the program sees neither checker nor answer, and a failing program is not checked", async () => {
      const task = taskWith({ program: "pass" }, [io("", "the-answer")]);
      const spy = await verify(
        task,
        "grep -rl the-answer / /w /tmp 2>/dev/null --exclude-dir=proc --exclude-dir=sys --exclude-dir=usr; ls -A /w /tmp",
      );
      expect(spy.status).toBe("accepted");
      expect(spy.tests[0]?.stdout).not.toMatch(/txt|python|\.py/);
      const failing = await verify(task, "echo the-answer; exit 3");
      expect([failing.status, failing.tests[0]?.message]).toEqual(["runtime_error", undefined]);
    });

    test("an output that breaks a working checker is a wrong answer, not our failure", async () => {
      const program = `
case "$(cat stdout.txt)" in
  crash) kill -SEGV $$ ;;
  three) exit 3 ;;
  flood) yes | head -c 3000000 ;;
  *) exit 0 ;;
esac`;
      const task = taskWith({ language: "bash", program }, [io("", "fine")]);
      const said = async (text: string) => {
        const { status, reward, tests } = await verify(task, `echo ${text}`);
        return [status, reward, tests[0]?.message];
      };
      expect(await said("fine")).toEqual(["accepted", 1, ""]);
      expect(await said("crash")).toEqual([
        "wrong_answer",
        0,
        "The checker failed on this output: killed by SIGSEGV (segmentation fault).",
      ]);
      expect(await said("three")).toEqual([
        "wrong_answer",
        0,
        "The checker failed on this output: exited with status 3.",
      ]);
      expect(await said("flood")).toEqual([
        "wrong_answer",
        0,
        "The checker failed on this output: it prints too much.",
      ]);
    });

    test("a checker that eats all memory on an output leaves the next one unharmed", async () => {
      const program = `
if open("stdout.txt").read() == "bomb\\n":
    b = []
    while True: b.append(bytearray(1 << 24))
`;
      const task = taskWith({ program }, [io("", "fine")]);
      expect((await verify(task, "echo bomb")).status).toBe("wrong_answer");
      expect((await verify(task, "echo other")).status).toBe("accepted");
    });

    test.each([
      {
        name: "refuses the expected output",
        checker: { program: "print('never'); exit(1)" },
        want: "the checker (python) refuses the expected output of test 2: never",
      },
      {
        name: "fails on the expected output",
        checker: { program: "import os; print('oh'); os.abort()" },
        want: "the checker (python) fails on the expected output of test 2: killed by SIGABRT (aborted)",
      },
      {
        name: "does not compile",
        checker: { language: "c", program: "int main(void) { return missing; }" },
        want: "the checker (c) does not compile: ",
      },
      {
        name: "needs a tool that is not there",
        checker: { language: "absent", program: "x" },
        want: "(to install absent: apt-get install no-such-tool)",
      },
    ])("a checker that $name is our failure and says so", async ({ checker, want }) => {
      const first = "the-first-fails-by-itself";
      const task = taskWith(checker, [io(`${first}\n`, "1"), io("2\n", "2")]);
      const verdict = await verify(task, `read -r x; [ $x = 2 ] || exit 1; echo 3`);
      expect([verdict.status, verdict.reward, verdict.feedback]).toEqual(["infrastructure", null, ""]);
      expect(verdict.reason).toContain(want);
    });

    test("the example of docs/comparators.md judges as it says", async () => {
      const docs = readFileSync(join(packageRoot, "docs", "comparators.md"), "utf8");
      const task = Task.parse(JSON.parse(/```json\n(.*?)```/s.exec(docs)![1]!));
      expect((await verify(task, "echo 13 7")).status).toBe("accepted");
      expect((await verify(task, "echo 91 1")).feedback).toMatch(
        /Checker\n91 times 1 is not 91, or one of them is too small$/,
      );
    });

    test("an expected output that is only a hint need not please the checker, and is not shown", async () => {
      const program = `exit(open("stdout.txt").read() == open("answer.txt").read())`;
      const task = taskWith({ program, accepts_answer: false }, [io("", "hint\n")]);
      expect((await verify(task, "echo other")).status).toBe("accepted");
      const wrong = await verify(task, "echo hint");
      expect([wrong.status, wrong.feedback]).toEqual([
        "wrong_answer",
        "Test Case 1: Wrong Answer\n\nInput\n\n\nOutput\nhint",
      ]);
    });

    test("stopping at the first failure counts what the checker refused", async () => {
      const tests = [1, 2, 3].map((n) => io(`${n}\n`, `${2 * n}\n`));
      const task = taskWith({ language: "c", program: DOUBLE_C }, tests);
      const submission = { id: "s", task, language: "bash", program: "read -r n; echo $((n * n))" };
      const verdict = await pool.verify({ ...submission, stopAfterFailures: 1 });
      expect([verdict.status, verdict.passed, verdict.tests.length, verdict.total]).toEqual([
        "wrong_answer",
        0,
        1,
        3,
      ]);
    });

    test("it is compiled once for the programs of a task, and remembers nothing of them", async () => {
      const program = "cat mark; ls | wc -l; echo seen > seen; (echo x >> mark) 2>&1; exit 0";
      const task = taskWith({ language: "marked", program }, [io("", "a"), io("", "b")]);
      const first = await verify(task, "echo a");
      const second = await verify(task, "echo b");
      const messages = [...first.tests, ...second.tests].map(({ message }) => message);
      expect([first.status, second.status]).toEqual(["accepted", "accepted"]);
      expect(messages[0]).toMatch(/^[0-9a-f-]{36}\n5/);
      expect(new Set(messages).size).toBe(1);
    });

    test("many checkers at once share the sandboxes that there are, and leave none behind", async () => {
      const own = await createLocalPool({ languages: LANGUAGES, workers: 3, retries: 0, ...options });
      const verdicts = await Promise.all(
        Array.from({ length: 24 }, (_, i) =>
          own.verify({
            id: `${i}`,
            task: taskWith({ program: `exit(open("stdout.txt").read() != "${i % 8}\\n")` }, [
              io("", `${i % 8}\n`),
            ]),
            language: "bash",
            program: i < 16 ? `echo ${i % 8}` : `echo ${i}`,
          }),
        ),
      );
      expect(verdicts.map(({ status }) => status)).toEqual([
        ...new Array(16).fill("accepted"),
        ...new Array(8).fill("wrong_answer"),
      ]);
      const pid = own.brokerPid();
      await own.close();
      expect(() => process.kill(pid, 0)).toThrow(/ESRCH/);
    });

    test("a checker in a language that no file defines is refused by name", async () => {
      const task = taskWith({ language: "klingon", program: "x" }, [io("", "a")]);
      await expect(verify(task, "echo a")).rejects.toThrow(ConfigError);
      await expect(verify(task, "echo a")).rejects.toThrow(/comparator\.checker\.language.*klingon/);
    });
  });
}

checkerContract("with a supervisor", { mode: "supervisor" });
checkerContract("with a bubblewrap for each run", { mode: "single" });
checkerContract("with a supervisor in Perl", { mode: "perl" });

test("a checker's sandbox that nobody uses for a while is closed", async () => {
  const wall = { backend: "bubblewrap", images: [], bubblewrap: "bwrap" } as const;
  const { host } = await probeHost({
    ...wall,
    workers: 1,
    prestart: 0,
    supervisorNote: "",
    useCgroups: true,
    supervisors: [{ kind: "c", path: buildSupervisor().path! }],
  });
  const source = new SandboxSource(host, 1, 0);
  const checkers = new CheckerSandboxes((surroundings) => source.take(surroundings), 1, 20);
  const checker = loadLanguages().get("bash");
  const plan = checkerPlan({ language: "bash", program: "exit 0", accepts_answer: true }, checker, null);
  checkers.keep(await checkers.open("key", plan));
  let sandbox: Sandbox | null = null; // the only seat is free when the idle one has closed
  while (sandbox === null) {
    await sleep(5);
    sandbox = await source.take({ mounts: [], image: null }).catch((error) => {
      expect(error).toBeInstanceOf(RangeError);
      return null;
    });
  }
  await sandbox.close();
});
