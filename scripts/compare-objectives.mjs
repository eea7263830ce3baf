#!/usr/bin/env node
/**
 * Runs the quick start with several objectives and seeds, and writes what came out: a table and two pictures of held-out
 * pass@1, against rollouts and against seconds of the loop.
 *   node scripts/compare-objectives.mjs --seeds 3,4,5 --measure heldout --out docs/lab/objectives --steps 120
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { curveSvg } from "../dist/coordinator/report.js";
import { packageRoot } from "../dist/core/index.js";

const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "3,4,5" },
    measure: { type: "string", default: "heldout" },
    out: { type: "string", default: "runs/objectives" },
    runs: { type: "string", default: "runs/objectives" },
    steps: { type: "string", default: "120" },
    every: { type: "string", default: "20" },
    // name:key=value,key=value;name:...
    settings: {
      type: "string",
      default:
        "GRPO:objective.type=grpo,optimizer.lr=5e-4;SDPO:objective.type=sdpo,optimizer.lr=1e-3;" +
        "mix:objective.type=mix,optimizer.lr=1e-3;RAFT:objective.type=raft,optimizer.lr=5e-4",
    },
  },
});

/**
 * The quick start's objective without the keys that the type does not have.
 * @type {Record<string, string[]>}
 */
const OWN_KEYS = {
  mix: ["lambda", "alpha", "teacher_rate", "max_teacher_tokens"],
  sdpo: ["alpha", "teacher_rate", "max_teacher_tokens"],
  grpo: [],
  raft: [],
};
/** @type {Record<string, string>} */
const QUICKSTART = { lambda: "0.5", alpha: "0.5", teacher_rate: "0.01", max_teacher_tokens: "192" };

/**
 * Runs one setting with one seed, unless its run directory has a report already.
 * @param {string} name
 * @param {string[]} sets
 * @param {number} seed
 */
function runOne(name, sets, seed) {
  const dir = join(values.runs, `${name}-seed${seed}`);
  if (!existsSync(join(dir, "report.json"))) {
    const type = sets.find((set) => set.startsWith("objective.type="))?.split("=")[1];
    const keys = (OWN_KEYS[type ?? ""] ?? []).map((key) => `${key}: ${QUICKSTART[key]}`);
    const objective = `objective={type: ${type}, aggregation: per_sequence${keys.length > 0 ? `, ${keys.join(", ")}` : ""}}`;
    const others = sets.filter((set) => !set.startsWith("objective.type="));
    const overrides = [
      objective,
      ...others,
      `run.seed=${seed}`,
      `run.dir=${dir}`,
      `run.steps=${values.steps}`,
      `tasks.measure=${values.measure}`,
      `evaluation.every=${values.every}`,
      "logging.progress=none",
    ];
    const args = ["train", "configs/runs/quickstart.yaml", ...overrides.flatMap((set) => ["--set", set])];
    execFileSync(process.execPath, [join(packageRoot, "dist/cli/main.js"), ...args], {
      cwd: packageRoot,
      stdio: ["ignore", "ignore", "inherit"],
    });
  }
  const rows = readFileSync(join(dir, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const report = JSON.parse(readFileSync(join(dir, "report.json"), "utf8"));
  return { rows, report };
}

/**
 * Held-out points of one run: rollouts, seconds of the loop so far, pass rates.
 * @param {any[]} rows
 * @returns {{ rollouts: number, seconds: number, heldout: Rates, probe: Rates }[]}
 */
function pointsOf(rows) {
  let seconds = 0;
  /** @type {any[]} */
  const points = [];
  for (const row of rows) {
    if (row.kind === "step") seconds += row.timing.step_s;
    if (row.kind === "evaluation") points.push({ rollouts: row.rollouts, seconds, ...row.sets });
  }
  return points;
}

/** @param {number[]} numbers */
const mean = (numbers) => numbers.reduce((a, b) => a + b, 0) / numbers.length;
/** @param {number[]} numbers */
const shown = (numbers) =>
  `${mean(numbers).toFixed(3)} (${Math.min(...numbers).toFixed(2)}-${Math.max(...numbers).toFixed(2)})`;

const seeds = values.seeds.split(",").map(Number);
const settings = values.settings.split(";").map((text) => {
  const [name = "", sets = ""] = text.split(":");
  return { name, sets: sets.split(",").filter((set) => set !== "") };
});
/** @typedef {{ sampled: number, greedy: number }} Rates */
/** @type {Record<string, { rollouts: number, rate: number }[]>} */
const byRollouts = {};
/** @type {Record<string, { rollouts: number, rate: number }[]>} */
const bySeconds = {};
/** @type {string[]} */
const table = [];
for (const { name, sets } of settings) {
  const runs = seeds.map((seed) => runOne(name, sets, seed));
  const points = runs.map(({ rows }) => pointsOf(rows));
  const first = points[0] ?? [];
  byRollouts[name] = first.map((point, i) => ({
    rollouts: point.rollouts,
    rate: mean(points.map((each) => each[i]?.heldout.sampled ?? Number.NaN)),
  }));
  bySeconds[name] = first.map((_, i) => ({
    rollouts: mean(points.map((each) => each[i]?.seconds ?? Number.NaN)),
    rate: mean(points.map((each) => each[i]?.heldout.sampled ?? Number.NaN)),
  }));
  const last = points.flatMap((each) => each.slice(-1));
  const curve = first.map((_, i) => shown(points.map((each) => each[i]?.heldout.sampled ?? Number.NaN)));
  table.push(
    `| ${name} | ${sets.join(" ")} | ${curve.join(" | ")} | ${shown(last.map((p) => p.heldout.greedy))} | ` +
      `${shown(last.map((p) => p.probe.sampled))} | ${mean(last.map((p) => p.seconds)).toFixed(1)} |`,
  );
  console.error(table.at(-1));
}
const heads = (byRollouts[settings[0]?.name ?? ""] ?? []).map(({ rollouts }) => String(rollouts));
const header = `| method | settings | ${heads.join(" | ")} | greedy | probe | seconds |\n|${"---|".repeat(heads.length + 5)}`;
mkdirSync(join(values.out, ".."), { recursive: true });
writeFileSync(
  `${values.out}.svg`,
  curveSvg(byRollouts, `${values.measure} pass@1, mean of seeds ${values.seeds}`, "rollouts"),
);
writeFileSync(
  `${values.out}-seconds.svg`,
  curveSvg(bySeconds, `${values.measure} pass@1, mean of seeds ${values.seeds}`, "seconds of the loop"),
);
process.stdout.write(`${header}\n${table.join("\n")}\n`);
