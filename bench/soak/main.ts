/**
 * `npm run soak`: tens of thousands of programs, one in ten hostile, through one pool; then what the judge holds of the
 * machine must be what it was, and every verdict of the last pass that of the first.
 *   npm run soak -- --programs 20000 --passes 10 --workers 4 --json
 * Exit code: 0 when nothing leaked and nothing differed, else 1.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { Task, Verdict } from "../../core/index.js";
import { createLocalPool, type LocalPool, loadLanguages } from "../../verifiers/index.js";
import { footprint } from "./footprint.js";
import { type SoakProgram, soakProgram } from "./programs.js";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    programs: { type: "string", default: "20000" },
    passes: { type: "string", default: "10" },
    workers: { type: "string", default: "4" },
  },
});
const passes = Number(values.passes);
const perPass = Math.round(Number(values.programs) / passes);

const TESTS = [
  [1, 2],
  [10, 20],
  [-5, 7],
] as const;

const taskOf = (one: SoakProgram): Task => ({
  id: one.kind,
  prompt: "",
  tests: TESTS.map(([a, b]) => ({ input: `${a} ${b}\n`, output: `${a + b}\n`, visible: true })),
  comparator: "tokens",
  limits: one.limits ?? {},
});

/** What must be the same in every pass. A hostile program's race may end in any admissible way. */
const fingerprint = (one: SoakProgram, verdict: Verdict): string =>
  one.want.length > 1
    ? one.want.join(" or ")
    : JSON.stringify([verdict.status, verdict.passed, verdict.total, one.isHostile ? "" : verdict.feedback]);

interface PassResult {
  readonly fingerprints: string[];
  readonly surprises: string[];
  readonly infrastructure: number;
}

async function onePass(pool: LocalPool): Promise<PassResult> {
  const fingerprints: string[] = new Array(perPass).fill("");
  const surprises: string[] = [];
  let infrastructure = 0;
  let next = 0;
  const loop = async (): Promise<void> => {
    while (next < perPass) {
      const index = next++;
      const one = soakProgram(index);
      const verdict = await pool.verify({
        id: String(index),
        task: taskOf(one),
        language: one.language,
        program: one.program,
      });
      if (verdict.status === "infrastructure") infrastructure++;
      if (!one.want.includes(verdict.status))
        surprises.push(`${one.kind}: ${verdict.status} ${verdict.reason ?? ""}`);
      fingerprints[index] = fingerprint(one, verdict);
    }
  };
  await Promise.all(Array.from({ length: Number(values.workers) + 2 }, loop));
  return { fingerprints, surprises, infrastructure };
}

const temporary = mkdtempSync(join(tmpdir(), "retort-soak-"));
process.env.TMPDIR = temporary; // before the broker starts, which inherits it
const pool = await createLocalPool({
  languages: loadLanguages(),
  workers: Number(values.workers),
  cache: false,
});
const start = performance.now();
const results: PassResult[] = [];
let before: ReturnType<typeof footprint> | null = null;
for (let pass = 0; pass < passes; pass++) {
  const passStart = performance.now();
  const result = await onePass(pool);
  results.push(result);
  await sleep(2000); // namespaces are torn down after the reply
  const now = footprint(pool.brokerPid(), temporary);
  before ??= now; // after the first pass: code is compiled, buffers have grown
  const rate = perPass / ((performance.now() - passStart) / 1000);
  process.stderr.write(
    `pass ${pass + 1} of ${passes}: ${rate.toFixed(1)} programs/s ${JSON.stringify(now)}\n`,
  );
}
const after = footprint(pool.brokerPid(), temporary);
const seconds = (performance.now() - start) / 1000;
const [first, last] = [results[0]!, results.at(-1)!];
const differing = first.fingerprints.flatMap((one, i) =>
  one === last.fingerprints[i] ? [] : [soakProgram(i).kind],
);
const surprises = results.flatMap((result) => result.surprises);
const { isolation } = pool;
await pool.close();
rmSync(temporary, { recursive: true, force: true });

/** Memory may wander within a fifth; everything else is counted exactly. */
const leaks = Object.entries(after).filter(([name, value]) => {
  const was = before![name as keyof typeof after];
  return name.endsWith("memory_mb") ? value > was * 1.2 + 10 : value > was;
});
const summary = {
  programs: perPass * passes,
  hostile: Math.floor(perPass / 10) * passes,
  seconds: Math.round(seconds),
  programs_per_s: Number(((perPass * passes) / seconds).toFixed(1)),
  infrastructure: results.reduce((sum, result) => sum + result.infrastructure, 0),
  surprises: [...new Set(surprises)],
  differing: [...new Set(differing)],
  leaks: Object.fromEntries(leaks),
  before,
  after,
  isolation,
};
process.stdout.write(`${JSON.stringify(summary, null, values.json ? 0 : 2)}\n`);
process.exitCode = surprises.length + differing.length + leaks.length > 0 ? 1 : 0;
