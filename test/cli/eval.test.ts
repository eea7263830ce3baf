import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { main, retort } from "./retort.js";

const folder = mkdtempSync(join(tmpdir(), "cli-eval-"));
afterAll(() => rmSync(folder, { recursive: true }));

const jsonl = (name: string, rows: readonly unknown[]): string => {
  const path = join(folder, name);
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return path;
};
const rowsOf = (path: string): Record<string, unknown>[] =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);

const tasks = jsonl(
  "tasks.jsonl",
  ["1 2", "3 4", "5 6"].map((input, i) => ({
    id: `add/${i}`,
    prompt: "Print the sum.",
    tests: [
      { input: `${input}\n`, output: `${input.split(" ").reduce((a, b) => a + Number(b), 0)}\n` },
      { input: "10 20\n", output: "30\n", visible: false },
    ],
    reference: { bash: "read a b; echo $((a + b))" },
  })),
);
const right = "read a b; echo $((a + b))";
const wrong = "read a b; echo $((a - b))";

test("solutions are judged: result rows, pass@k and the contract's JSON object, exit 0 though programs fail", async () => {
  const solutions = jsonl("solutions.jsonl", [
    { task_id: "add/0", language: "bash", program: right },
    { task_id: "add/0", language: "bash", program: wrong },
    { task_id: "add/1", language: "bash", completion: "```bash\n" + right + "\n```" },
    { task_id: "add/1", language: "bash", completion: "I cannot." },
    { task_id: "add/2", language: "bash", program: "exit 3" },
    { task_id: "add/2", language: "bash", program: "read a; echo $a" },
  ]);
  const out = join(folder, "results.jsonl");
  const { code, stdout } = await retort([
    "eval",
    "--tasks",
    tasks,
    "--solutions",
    solutions,
    "--out",
    out,
    "--json",
  ]);
  const summary = JSON.parse(stdout) as Record<string, number>;
  const { seconds, programs_per_s } = summary;
  expect(code).toBe(0);
  expect(stdout.trimEnd().split("\n")).toHaveLength(1);
  expect(summary).toMatchObject({
    tasks: 3,
    samples: 6,
    "pass@1": expect.closeTo(1 / 3),
    "pass@2": expect.closeTo(2 / 3),
    statuses: {
      accepted: 2,
      wrong_answer: 2,
      runtime_error: 1,
      no_program: 1,
      time_limit: 0,
      memory_limit: 0,
      output_limit: 0,
      compile_error: 0,
      infrastructure: 0,
    },
    infrastructure: 0,
    "pass^2": 0,
    intervals: { "pass@2": [expect.closeTo(0.2077, 4), expect.closeTo(0.9385, 4)] }, // Wilson, 2 of 3
    languages: { bash: { samples: 6, "pass@1": expect.closeTo(1 / 3) } },
    comparators: { tokens: { samples: 6 } },
    isolation: { network: "none" },
    unjudged_tasks: [],
  });
  expect([seconds! > 0, programs_per_s! > 0]).toEqual([true, true]);

  const rows = rowsOf(out);
  expect(
    rows.map(({ task_id, sample, status, reward, passed, total }) => [
      task_id,
      sample,
      status,
      reward,
      passed,
      total,
    ]),
  ).toEqual([
    ["add/0", 0, "accepted", 1, 2, 2],
    ["add/0", 1, "wrong_answer", 0, 0, 2],
    ["add/1", 0, "accepted", 1, 2, 2],
    ["add/1", 1, "no_program", 0, 0, 2],
    ["add/2", 0, "runtime_error", 0, 0, 2],
    ["add/2", 1, "wrong_answer", 0, 0, 2],
  ]);
  expect(Object.keys(rows[0]!)).toEqual(
    expect.arrayContaining(
      "task_id,sample,language,status,reward,passed,total,feedback,tests,comparator,isolation,cached".split(
        ",",
      ),
    ),
  );
  expect(rows[1]!.feedback).toContain("3");
  expect(rows[1]!.feedback).not.toContain("30"); // the hidden test's answer
});

test("references need no solution file; without --json a person gets a table", async () => {
  const out = join(folder, "references.jsonl");
  const { code, stdout, stderr } = await retort([
    "eval",
    "--tasks",
    tasks,
    "--references",
    "--out",
    out,
    "--workers",
    "1",
  ]);
  expect(code).toBe(0);
  expect(stdout).toMatch(
    /^tasks +3\nsamples +3\npass@1 +1\.0000 {2}95% \[0\.4385, 1\.0000\]\n\naccepted +3 {2}100\.0%\n\n0:\d\d, 3 judged now, [\d.]+k? programs\/s; compared by tokens\n$/,
  );
  expect(stderr).toContain("3/3");
});

test.each([
  {
    name: "no source of programs",
    args: [],
    says: "need one source of programs: --solutions FILE, --references, --policy DIR or --endpoint URL",
  },
  {
    name: "two sources",
    args: ["--references", "--solutions", "x"],
    says: 'got "--solutions --references"',
  },
  {
    name: "an option of another source",
    args: ["--references", "--samples", "3"],
    says: "--samples: need --policy or --endpoint: --references has no use for it",
  },
  {
    name: "an endpoint without a model",
    args: ["--endpoint", "http://localhost:1/v1"],
    says: "--model: need the model's name",
  },
  {
    name: "an endpoint that is no address",
    args: ["--endpoint", "localhost", "--model", "m", "--language", "bash"],
    says: "--endpoint: need an address as http://localhost:8000/v1",
  },
  {
    name: "a password in the address",
    args: ["--endpoint", "http://me:secret@localhost:1/v1", "--model", "m", "--language", "bash"],
    says: "--endpoint: need an address without password or query",
  },
  {
    name: "tasks without a language",
    args: ["--endpoint", "http://localhost:1/v1", "--model", "m"],
    says: "task add/0: need a language: the task names none. Add --language NAME.",
  },
  {
    name: "a missing solution file",
    args: ["--solutions", "/none"],
    says: "/none: need a solution file that can be read",
  },
])("wrong usage is exit 2 and judges nothing: $name", async ({ args, says }) => {
  const out = join(folder, "never.jsonl");
  const { code, stdout, stderr } = await retort(["eval", "--tasks", tasks, "--out", out, ...args]);
  expect([code, stdout, existsSync(out)]).toEqual([2, "", false]);
  expect(stderr).toContain(says);
});

test("an unknown language is exit 2 before anything is judged", async () => {
  const solutions = jsonl("klingon.jsonl", [
    { task_id: "add/0", language: "bash", program: right },
    { task_id: "add/1", language: "klingon", program: "x" },
  ]);
  const out = join(folder, "klingon.out.jsonl");
  const { code, stderr } = await retort(["eval", "--tasks", tasks, "--solutions", solutions, "--out", out]);
  expect([code, existsSync(out)]).toEqual([2, false]);
  expect(stderr).toContain("klingon");
});

test("killed in the middle, it goes on: no row lost, doubled or judged twice", async () => {
  const many = jsonl(
    "many.jsonl",
    Array.from({ length: 40 }, (_, i) => ({
      task_id: `add/${i % 3}`,
      language: "bash",
      program: `sleep 0.05; ${i % 2 ? right : wrong} # ${i}`,
    })),
  );
  const out = join(folder, "killed.jsonl");
  const args = ["eval", "--tasks", tasks, "--solutions", many, "--out", out, "--json"];
  const lines = (): string[] => (existsSync(out) ? readFileSync(out, "utf8").split("\n").slice(0, -1) : []);
  const child = spawn(process.execPath, [main, ...args], { stdio: "ignore", cwd: packageRoot });
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  while (lines().length < 8 && child.exitCode === null) await new Promise((go) => setTimeout(go, 10));
  child.kill("SIGKILL");
  await ended;
  const before = lines();
  expect(before.length).toBeLessThan(40);

  const { stdout } = await retort(args);
  const summary = JSON.parse(stdout) as Record<string, number>;
  expect([summary.samples, summary.judged_now]).toEqual([40, 40 - before.length]);
  expect(new Set(lines()).size).toBe(40);
  for (const line of before) expect(lines()).toContain(line); // times and all: the very same rows
});

test.skipIf(process.getuid?.() !== 0)(
  "on a full disk it ends with exit 1, keeps whole rows, and goes on once there is room (mounting takes root)",
  async () => {
    const disk = join(folder, "disk");
    mkdirSync(disk);
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]);
    try {
      const many = jsonl(
        "full.jsonl",
        Array.from({ length: 200 }, (_, i) => ({
          task_id: "add/0",
          language: "bash",
          program: `${right} # ${i}`,
        })),
      );
      const out = join(disk, "results.jsonl");
      const args = ["eval", "--tasks", tasks, "--solutions", many, "--out", out, "--json"];
      const { code, stderr } = await retort(args);
      expect([code, stderr]).toEqual([1, expect.stringContaining(`${out} could not be written: ENOSPC`)]);
      const before = readFileSync(out, "utf8").trimEnd().split("\n");
      expect(before.every((line) => (JSON.parse(line) as { status: string }).status === "accepted")).toBe(
        true,
      );
      execFileSync("mount", ["-o", "remount,size=8m", disk]);
      const again = JSON.parse((await retort(args)).stdout) as Record<string, number>;
      expect([again.samples, again["pass@1"], again.judged_now]).toEqual([200, 1, 200 - before.length]);
    } finally {
      execFileSync("umount", [disk]);
    }
  },
);

test("a checkout's language folder of one's own is used for judging", async () => {
  const own = join(folder, "own");
  mkdirSync(own, { recursive: true });
  writeFileSync(join(own, "say.yaml"), "prompt: Write text.\nfilename: t\nexecute: cat t\n");
  const say = jsonl("say-tasks.jsonl", [
    { id: "s", prompt: "Say hi.", tests: [{ input: "", output: "hi" }], reference: { say: "hi" } },
  ]);
  const args = ["eval", "--tasks", say, "--references", "--out", join(folder, "say.jsonl"), "--json"];
  const { stdout } = await retort([...args, "--languages", own]);
  expect((JSON.parse(stdout) as Record<string, number>)["pass@1"]).toBe(1);
});
