/**
 * `npm run bench:judge`: tests a second of the whole judge (a fresh sandbox for each program, compiling included, 10 tests)
 * and what one test costs, beside the bare tools without a sandbox and beside other judges, in turns, in one run.
 */
import { cpus } from "node:os";
import { parseArgs } from "node:util";
import { loadLanguages } from "../../verifiers/index.js";
import { median } from "../summary.js";
import { bare, bubblewrapPerTest, type Contestant, retort } from "./contestants.js";
import { isolate, isolateVersion } from "./isolate.js";
import { BENCH_LANGUAGES, type Workload, workload } from "./workload.js";

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "2" },
    workers: { type: "string", default: "1,2,4" },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const workerCounts = values.workers.split(",").map(Number);

/** Tests of one program: few, as tasks have; and many, so that only the cost of a test is left. */
const FEW = 10;
const MANY = 100;

interface Figure {
  readonly language: string;
  readonly contestant: string;
  readonly workers: number;
  readonly testsPerProgram: number;
  /** Median over the rounds. */
  readonly testsPerS: number;
}

const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

/** Tests a second, over about `seconds`. */
async function measure(contestant: Contestant, workers: number, work: Workload): Promise<number> {
  const session = await contestant.open(workers);
  try {
    await session.judge(work, 0);
    const start = performance.now();
    let programs = 0;
    const keepJudging = async (loop: number): Promise<void> => {
      while (performance.now() - start < seconds * 1000) {
        await session.judge(work, loop);
        programs++;
      }
    };
    await Promise.all(Array.from({ length: session.loops }, (_, loop) => keepJudging(loop)));
    return (programs * work.tests.length) / ((performance.now() - start) / 1000);
  } finally {
    await session.close();
  }
}

async function figuresOf(
  contestants: readonly Contestant[],
  language: string,
  workers: number,
  tests: number,
): Promise<Figure[]> {
  const work = workload(loadLanguages().get(language), tests);
  const rates = contestants.map((): number[] => []);
  for (let round = 0; round < rounds; round++)
    for (const [i, contestant] of contestants.entries())
      rates[i]!.push(await measure(contestant, workers, work));
  return contestants.map(({ name }, i) => ({
    language,
    contestant: name,
    workers,
    testsPerProgram: tests,
    testsPerS: median(rates[i]!),
  }));
}

const version = await isolateVersion();
if (version === null)
  say(
    "isolate is not installed, or does not work here: measured without it (https://github.com/ioi/isolate).",
  );
const contestants = [retort, bare, bubblewrapPerTest, ...(version === null ? [] : [isolate])];
const figures: Figure[] = [];
for (const language of BENCH_LANGUAGES) {
  for (const workers of workerCounts) {
    say(`${language}, ${workers} at once`);
    figures.push(...(await figuresOf(contestants, language, workers, FEW)));
    figures.push(...(await figuresOf([retort, bare], language, workers, MANY)));
  }
}

const machine = `${cpus()[0]?.model ?? "unknown CPU"}, ${cpus().length} CPUs, Node ${process.version}, isolate ${version ?? "-"}`;
/** Columns: one row a language and number of workers. */
function table(): string {
  const lines = [
    `| language | at once | ${contestants.map(({ name }) => `${name}, tests/s`).join(" | ")} | judge ÷ no sandbox | one test: Retort, ms | no sandbox, ms | ratio of rates |`,
  ];
  lines.push(`|${"---|".repeat(contestants.length + 6)}`);
  for (const language of BENCH_LANGUAGES) {
    for (const workers of workerCounts) {
      const of = (name: string, tests: number): number =>
        figures.find(
          (f) =>
            f.language === language &&
            f.workers === workers &&
            f.contestant === name &&
            f.testsPerProgram === tests,
        )?.testsPerS ?? Number.NaN;
      const few = contestants.map(({ name }) => Math.round(of(name, FEW)));
      const [ours, theirs] = [of(retort.name, MANY), of(bare.name, MANY)];
      lines.push(
        `| ${language} | ${workers} | ${few.join(" | ")} | ${(of(retort.name, FEW) / of(bare.name, FEW)).toFixed(2)} | ${(1000 / ours).toFixed(2)} | ${(1000 / theirs).toFixed(2)} | ${(ours / theirs).toFixed(2)} |`,
      );
    }
  }
  return lines.join("\n");
}
if (values.json) process.stdout.write(`${JSON.stringify({ machine, figures }, null, 2)}\n`);
else process.stdout.write(`${machine}\n\n${table()}\n`);
