/** `npm run bench`: training and sampling, Retort against PyTorch, on this machine. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { writeSafetensors } from "../checkpoints/index.js";
import { builtModule, packageRoot } from "../core/index.js";
import { huggingFaceConfig, initialWeights, namedTensors } from "../policy/index.js";
import { type Contestant, startContestant } from "./contestant.js";
import { checkAgreement, isRetort, measure } from "./measure.js";
import { type BenchShape, SHAPES } from "./shapes.js";
import { type Summary, summarize, tableOf } from "./summary.js";

const ADAMW = { lr: 5e-4, betas: [0.9, 0.98], weight_decay: 0.01 } as const;
const PEAK_SIZE = 1024;

const { values } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    shape: { type: "string", default: "" },
  },
});
const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

/**
 * Every side at every number of threads. PyTorch's own threads and those of OpenBLAS are two pools, so they are tried
 * apart too; so is the way to compute attention with one query.
 */
async function contestants(folder: string): Promise<Contestant[]> {
  const node = [process.execPath, builtModule(import.meta.url, "./retort.js")];
  const python = ["/usr/bin/python3", join(packageRoot, "bench", "pytorch", "contestant.py")];
  const started: Contestant[] = [];
  for (const threads of [1, 2]) {
    const contestant = startContestant({ name: "Retort", threads: String(threads), trains: true }, node, {});
    await contestant.ask("open", { folder, threads, adamw: ADAMW });
    started.push(contestant);
  }
  for (const attention of ["products", "sums"]) {
    for (const [threads, blas] of [
      [1, 1],
      [2, 2],
      [1, 2],
    ] as const) {
      const who = {
        name: `PyTorch, ${attention}`,
        threads: threads === blas ? String(threads) : `${threads}, OpenBLAS ${blas}`,
        trains: attention === "products",
      };
      const contestant = startContestant(who, python, {
        PYTHONDONTWRITEBYTECODE: "1",
        OMP_NUM_THREADS: String(threads),
        OPENBLAS_NUM_THREADS: String(blas),
      });
      await contestant.ask("open", { folder, threads, adamw: ADAMW, attention });
      started.push(contestant);
    }
  }
  return started;
}

/** Peak GFLOP/s of a large product, by both libraries, at 1 and 2 threads. */
async function peaks(
  all: readonly Contestant[],
): Promise<{ side: string; threads: string; gflops: number }[]> {
  const found = [];
  for (const contestant of all.filter(({ trains }) => trains)) {
    const { gflops } = await contestant.ask("peak", { size: PEAK_SIZE });
    found.push({
      side: isRetort(contestant) ? "ONNX Runtime" : "OpenBLAS",
      threads: contestant.threads,
      gflops,
    });
  }
  return found;
}

interface Result extends Summary {
  readonly peaks: Awaited<ReturnType<typeof peaks>>;
  readonly agreement: Awaited<ReturnType<typeof checkAgreement>>;
}

async function benchShape(shape: BenchShape, folder: string, rounds: number): Promise<Result> {
  const weights = initialWeights(shape.config, 1);
  writeFileSync(join(folder, "config.json"), JSON.stringify(huggingFaceConfig(shape.config)));
  await writeSafetensors(join(folder, "model.safetensors"), namedTensors(weights, shape.config));
  const all = await contestants(folder);
  const theirs = all.find((contestant) => !isRetort(contestant))!;
  const agreement = await checkAgreement(all[0]!, theirs, shape);
  say(`${shape.name}: both sides agree, log-probs within ${agreement.logProb.toExponential(0)}`);
  const rates = await measure(all, shape, rounds, (round) => say(`  round ${round + 1} of ${rounds}`));
  const found = await peaks(all);
  for (const contestant of all) contestant.close();
  return { ...summarize(shape, rates), peaks: found, agreement };
}

const folder = mkdtempSync(join(tmpdir(), "retort-bench-"));
const results: Result[] = [];
try {
  for (const shape of SHAPES.filter(({ name }) => name.includes(values.shape))) {
    results.push(await benchShape(shape, folder, Number(values.rounds)));
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
const machine = `${cpus()[0]?.model ?? "unknown CPU"}, ${cpus().length} CPUs, Node ${process.version}`;
if (values.json) process.stdout.write(`${JSON.stringify({ machine, results }, null, 2)}\n`);
else {
  process.stdout.write(`${machine}\n`);
  for (const result of results) {
    const peak = Math.max(...result.peaks.map(({ gflops }) => gflops));
    const list = result.peaks.map(({ side, threads, gflops }) => `${side} ${threads}: ${Math.round(gflops)}`);
    process.stdout.write(
      `\n${tableOf(result, peak).join("\n")}\npeak of a ${PEAK_SIZE}-cubed product, GFLOP/s by threads: ${list.join("; ")}\n`,
    );
  }
}
