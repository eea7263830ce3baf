import { readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import type { Status } from "../core/index.js";
import type { RunConfig } from "./config.js";
import type { CurvePoint, HeldOut, RunReport } from "./report.js";
import type { EvaluationRow, StepRow } from "./rows.js";

/** Rows of `metrics.jsonl`, parsed. */
export function readMetrics(folder: string): (StepRow | EvaluationRow | { kind: string })[] {
  const text = readFileSync(join(folder, "metrics.jsonl"), "utf8");
  return text
    .split("\n")
    .flatMap((line) => (line === "" ? [] : [JSON.parse(line) as StepRow | EvaluationRow]));
}

/** The report of a run, from its journal alone: so it is the same whether the run was interrupted or not. */
export function summarise(
  config: RunConfig,
  folder: string,
): { report: RunReport; curves: Record<string, CurvePoint[]> } {
  const rows = readMetrics(folder);
  const steps = rows.filter((row): row is StepRow => row.kind === "step");
  const evaluations = rows.filter((row): row is EvaluationRow => row.kind === "evaluation");
  const sum = (pick: (row: StepRow) => number): number => steps.reduce((total, row) => total + pick(row), 0);
  const seconds = sum((row) => row.timing.step_s ?? 0);
  const sampling = sum((row) => row.timing.sample_s ?? 0);
  const rollouts = sum((row) => row.rollouts);
  const statuses: Partial<Record<Status, number>> = {};
  for (const row of steps) {
    for (const [status, count] of Object.entries(row.statuses) as [Status, number][])
      statuses[status] = (statuses[status] ?? 0) + count;
  }
  const report: RunReport = {
    name: config.run.name,
    objective: config.objective.type,
    seed: config.run.seed,
    heldout: beforeAndAfter(evaluations, "heldout"),
    probe: beforeAndAfter(evaluations, "probe"),
    steps: steps.length,
    rollouts,
    seconds: round(seconds, 2),
    tokens_per_s: round(
      sum((row) => (row.timing.sampled_tokens_per_s ?? 0) * (row.timing.sample_s ?? 0)) / (sampling || 1),
      1,
    ),
    programs_per_s: round(rollouts / (seconds || 1), 2),
    judge_wait_share: round(sum((row) => row.timing.judge_wait_s ?? 0) / (seconds || 1), 4),
    statuses,
    infrastructure: statuses.infrastructure ?? 0,
    checkpoint: shownPath(newestCheckpoint(folder)),
    rollouts_folder: shownPath(join(folder, "rollouts")),
  };
  return { report, curves: curvesOf(evaluations) };
}

const round = (value: number, digits: number): number => Number(value.toFixed(digits));

/** First and last evaluation of a set; null where it was not evaluated. */
function beforeAndAfter(
  evaluations: readonly EvaluationRow[],
  set: string,
): { before: HeldOut; after: HeldOut } | null {
  const before = evaluations.at(0)?.sets[set];
  const after = evaluations.at(-1)?.sets[set];
  return before === undefined || after === undefined ? null : { before, after };
}

function curvesOf(evaluations: readonly EvaluationRow[]): Record<string, CurvePoint[]> {
  const curves: Record<string, CurvePoint[]> = {};
  for (const { sets, rollouts } of evaluations) {
    for (const [set, rates] of Object.entries(sets)) {
      for (const kind of ["sampled", "greedy"] as const) {
        const rate = rates[kind];
        if (rate === null) continue;
        const name = `${set}, ${kind}`;
        curves[name] = [...(curves[name] ?? []), { rollouts, rate }];
      }
    }
  }
  return curves;
}

/** Relative to the working directory where that is shorter to read. */
function shownPath(path: string): string {
  const near = relative(process.cwd(), path);
  return near.startsWith("..") ? path : near;
}

function newestCheckpoint(folder: string): string {
  const steps = readdirSync(join(folder, "checkpoints"))
    .filter((name) => name.startsWith("step-"))
    .sort();
  return join(folder, "checkpoints", steps.at(-1) ?? "");
}
