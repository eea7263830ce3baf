/**
 * How many tests a second the judge runs (fresh sandbox per program, compile included, 10 tests each), beside the bare
 * tool spawned from Node without any sandbox, in one run.
 * Usage: npm run build && node dist/bench/judge.js [seconds per figure]
 */
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Task } from "../core/index.js";
import { createLocalPool, loadLanguages } from "../verifiers/index.js";

const PROGRAMS: Readonly<Record<string, string>> = {
  lua: 'local a, b = io.read("n", "n")\nprint(a + b)',
  c: '#include <stdio.h>\nint main(void) { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); return 0; }',
  python: "a, b = map(int, input().split())\nprint(a + b)",
  javascript:
    'const [a, b] = require("fs").readFileSync(0, "utf8").split(" ").map(Number);\nconsole.log(a + b);',
};
const BARE: Readonly<Record<string, readonly string[]>> = {
  lua: ["lua5.4"],
  python: ["python3"],
  javascript: ["node"],
};
const TESTS = 10;
const seconds = Number(process.argv[2] ?? 4);

const task: Task = {
  id: "sum",
  prompt: "",
  tests: Array.from({ length: TESTS }, (_, i) => ({
    input: `${i} ${i + 1}\n`,
    output: `${2 * i + 1}\n`,
    visible: true,
  })),
  comparator: "tokens",
  limits: {},
};

/** Calls `work` from `atOnce` loops until the time is over; calls per second. */
async function rate(atOnce: number, work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  let done = 0;
  const loop = async () => {
    while (performance.now() - start < seconds * 1000) {
      await work();
      done++;
    }
  };
  await Promise.all(Array.from({ length: atOnce }, loop));
  return done / ((performance.now() - start) / 1000);
}

function runBare(command: readonly string[], file: string, input: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0]!, [...command.slice(1), file], {
      stdio: ["pipe", "pipe", "pipe"],
      env: { PATH: "/usr/local/bin:/usr/bin:/bin" },
    });
    child.stdout.on("data", () => {});
    child.stdin.end(input);
    child.on("error", reject);
    child.on("close", () => resolve());
  });
}

const folder = mkdtempSync(join(tmpdir(), "retort-bench-"));
const rows: Record<string, Record<string, number>> = {};
for (const workers of [1, 2, 4]) {
  const pool = await createLocalPool({ languages: loadLanguages(), workers, cache: false });
  if (workers === 1) console.error(pool.isolation);
  for (const [language, program] of Object.entries(PROGRAMS)) {
    const judged = await rate(workers + 2, async () => {
      const verdict = await pool.verify({ id: "bench", task, language, program });
      if (verdict.status !== "accepted") throw new Error(JSON.stringify(verdict));
    });
    rows[language] = { ...rows[language], [`judge, ${workers} at once`]: Math.round(judged * TESTS) };
  }
  await pool.close();
  for (const [language, command] of Object.entries(BARE)) {
    const file = join(folder, `main.${language}`);
    writeFileSync(file, PROGRAMS[language]!);
    const bare = await rate(workers, () => runBare(command, file, "1 2\n"));
    rows[language] = { ...rows[language], [`bare, ${workers} at once`]: Math.round(bare) };
  }
}
rmSync(folder, { recursive: true });
console.table(rows);
