/** Tests and outputs of sizes and kinds that nobody means, each with a right verdict, in bounded memory. */
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Task, Verdict } from "../../core/index.js";
import { createLocalPool, type LocalPool, loadLanguages } from "../../verifiers/index.js";

const MIB = 1024 * 1024;
const big = "1234567 ".repeat((50 * MIB) / 8);

const open = () => createLocalPool({ languages: loadLanguages(), workers: 2, retries: 0, cache: false });
let pool: LocalPool;
beforeAll(async () => {
  pool = await open();
});
afterAll(() => pool.close());

const judge = (
  language: string,
  program: string,
  tests: readonly (readonly [input: string, output: string])[],
  changes: Partial<Task> = {},
): Promise<Verdict> => {
  const io = tests.map(([input, output]) => ({ input, output, visible: true }));
  const task: Task = { id: "t", prompt: "", tests: io, comparator: "tokens", limits: {}, ...changes };
  return pool.verify({ id: "s", task, language, program });
};

/** The most that the broker held while something ran, MiB. */
async function brokerPeak(judging: Promise<unknown>): Promise<number> {
  let peak = 0;
  const look = () => {
    const status = readFileSync(`/proc/${pool.brokerPid()}/status`, "utf8");
    peak = Math.max(peak, Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024);
  };
  const timer = setInterval(look, 5);
  await judging;
  clearInterval(timer);
  look();
  return peak;
}

describe("fifty megabytes", () => {
  test("of input and of output are judged", async () => {
    const verdict = await judge("bash", "cat", [[big, big]], { limits: { output_kb: 60_000, time_s: 60 } });
    expect([verdict.status, verdict.reason]).toEqual(["accepted", undefined]);
    expect(verdict.tests[0]?.stdout.length).toBeLessThanOrEqual(8192);
    expect(verdict.tests[0]?.stdout).toMatch(/^1234567 1234567 [\s\S]+ bytes cut\) [\s\S]+1234567 $/);
  });

  test("of input in each of ten tests stand in the broker one at a time", async () => {
    const judging = judge("bash", "wc -c", new Array(10).fill([big, `${big.length}`]), {
      limits: { time_s: 60 },
    });
    expect(await brokerPeak(judging)).toBeLessThan(700);
    expect([(await judging).status, (await judging).passed]).toEqual(["accepted", 10]);
  });

  test("of expected output are refused to a program that prints little, and feedback stays short", async () => {
    const verdict = await judge("bash", "echo 1", [["", big]]);
    expect(verdict.status).toBe("wrong_answer");
    expect(verdict.feedback.length).toBeLessThan(500);
  });

  test("before a checker are judged; more than it has room for is the task's fault", async () => {
    const checker = { language: "bash", program: "cmp -s stdin.txt stdout.txt", accepts_answer: false };
    const changes = { comparator: { checker }, limits: { output_kb: 60_000, time_s: 60 } };
    expect((await judge("bash", "cat", [[big, ""]], changes)).status).toBe("accepted");
    const large = await judge("bash", "cat", [[big, big]], changes);
    expect([large.status, large.reason]).toEqual([
      "infrastructure",
      "test 1 is too large for a checker: 112 MiB of files at most",
    ]);
  });
});

test("two thousand tests are run and counted", async () => {
  const tests = Array.from({ length: 2000 }, (_, i): [string, string] => [
    `${i}`,
    i === 1499 ? "no" : `${2 * i}`,
  ]);
  const verdict = await judge("lua", "print(io.read('n') * 2)", tests);
  expect([verdict.status, verdict.passed, verdict.total, verdict.tests.length]).toEqual([
    ...["wrong_answer", 1999, 2000, 2000],
  ]);
  expect(verdict.feedback).toBe(
    "Test Case 1500: Wrong Answer\n\nInput\n1499\n\nOutput\n2998\n\nExpected\nno",
  );
});

test("outputs of a megabyte for each of many tests are not kept", async () => {
  // In a broker of its own: one that has held fifty megabytes gives them back when it likes.
  await pool.close();
  pool = await open();
  const judging = judge("lua", "io.write(('x'):rep(1000000))", new Array(300).fill(["", "x"]));
  expect(await brokerPeak(judging)).toBeLessThan(250);
  expect((await judging).tests[299]?.stdout.length).toBeLessThanOrEqual(8192);
});

describe("odd bytes", () => {
  test("NUL in a program reaches its interpreter", async () => {
    const lua = await judge("lua", "io.write('a\0b')", [["", "a\0b"]], { comparator: "exact" });
    expect([lua.status, lua.tests[0]?.stdout]).toEqual(["accepted", "a\0b"]);
    const js = await judge("javascript", "console.log('a\0b'.length)", [["", "3"]]);
    expect(js.status).toBe("accepted");
  });

  test("NUL and broken UTF-8 in an output are wrong bytes, nothing more", async () => {
    const echo = (bytes: string) => `printf '${bytes}'`;
    const statuses = await Promise.all(
      ["7", "7\\000", "\\3777", "7\\355\\240\\200", "\\303\\251"].map(
        async (bytes) => (await judge("bash", echo(bytes), [["", "7"]])).status,
      ),
    );
    expect(statuses).toEqual(["accepted", ...new Array(4).fill("wrong_answer")]);
    expect((await judge("bash", echo("\\303\\251"), [["", "é"]])).status).toBe("accepted");
  });

  test("half a character in a program is written as the replacement character", async () => {
    const verdict = await judge("python", "print('\ud83d')", [["", "\ufffd"]]);
    expect(verdict.status).toBe("accepted");
  });
});
