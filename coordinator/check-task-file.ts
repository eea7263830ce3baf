/** `retort tasks check`: what a task file lacks by reading it, and by running its references. */
import type { Task } from "../core/index.js";
import { type Conversion, type ConvertedRow, convertFiles, formatNamed } from "../tasks/index.js";
import { createLocalPool, type LanguageSet, type LocalPool } from "../verifiers/index.js";
import { type ConversionSummary, ConversionTally, summaryLines } from "./conversion-summary.js";
import { byteStage, openOutput } from "./convert-tasks.js";
import { createProgress, type Progress } from "./progress.js";
import { isFailure, type ReferenceRun, runReferences, whyFailed } from "./run-references.js";

export interface TaskFileCheck {
  readonly file: string;
  readonly languages: LanguageSet;
  readonly isRun: boolean;
  /** Tasks without a fault are written here. */
  readonly out?: string;
  readonly workers?: number;
  readonly stream: NodeJS.WriteStream;
}

/** Printed by `--json`; snake_case because it crosses a process. */
export interface TaskFileReport extends ConversionSummary {
  /** Tasks and tests without a fault: the rest stands in the other keys. */
  readonly is_right: boolean;
  /** null: nothing was run. */
  readonly references: {
    readonly accepted: number;
    /** Tasks that have none, or none in a language that is defined here. */
    readonly without: number;
    readonly failed: readonly Fault[];
    /** An empty program passes. */
    readonly vacuous: readonly Fault[];
    /** Our own failures: they say nothing of the task. */
    readonly infrastructure: readonly Fault[];
  } | null;
}

export interface Fault {
  readonly at: string;
  readonly id: string;
  readonly message: string;
}

/** Tasks that are with the pool at once: enough to keep it busy, few enough that a huge file stays out of memory. */
const IN_FLIGHT = 32;

/** What running showed so far. */
class ReferenceTally {
  accepted = 0;
  without = 0;
  readonly failed: Fault[] = [];
  readonly vacuous: Fault[] = [];
  readonly infrastructure: Fault[] = [];

  /** @returns whether the task has no fault */
  add(at: string, { id }: Task, run: ReferenceRun): boolean {
    const fault = (message: string): Fault => ({ at, id, message });
    if (run.verdicts.length === 0) this.without++;
    for (const { language, verdict } of run.verdicts) {
      if (verdict.status === "accepted") this.accepted++;
      else if (isFailure(verdict.status)) this.failed.push(fault(`${language}: ${whyFailed(verdict)}`));
      else this.infrastructure.push(fault(`${language}: ${whyFailed(verdict)}`));
    }
    if (run.isVacuous) this.vacuous.push(fault("an empty program passes all of its tests"));
    return !run.isVacuous && run.verdicts.every(({ verdict }) => verdict.status === "accepted");
  }
}

/** Runs the references of tasks as they come, and hands the tasks on in their order. */
async function* withReferences(
  rows: AsyncIterable<ConvertedRow>,
  pool: LocalPool,
): AsyncGenerator<{ readonly row: ConvertedRow; readonly run: ReferenceRun | null }> {
  const waiting: Promise<{ row: ConvertedRow; run: ReferenceRun | null }>[] = [];
  const runOf = async (row: ConvertedRow) => ({
    row,
    run: "task" in row ? await runReferences(pool, row.task) : null,
  });
  for await (const row of rows) {
    waiting.push(runOf(row));
    if (waiting.length >= IN_FLIGHT) yield await waiting.shift()!;
  }
  for (const next of waiting) yield await next;
}

/** Reads the file once ahead of running, so that progress knows how far it is. */
async function countRows(conversion: Conversion): Promise<number> {
  let count = 0;
  for await (const _row of convertFiles(conversion)) count++;
  return count;
}

async function checkRows(
  check: TaskFileCheck,
  pool: LocalPool | null,
  progress: Progress,
): Promise<TaskFileReport> {
  const tally = new ConversionTally();
  const references = new ReferenceTally();
  const out = check.out === undefined ? null : await openOutput(check.out, "--out");
  const files = [check.file];
  const onBytes = byteStage(progress, "reading", files);
  const conversion: Conversion = { files, format: formatNamed("retort")!, completion: "whole" };
  if (pool !== null) progress.stage("running", await countRows({ ...conversion, onBytes }));
  const rows = convertFiles(pool === null ? { ...conversion, onBytes } : conversion);
  const unrun = async function* () {
    for await (const row of rows) yield { row, run: null };
  };
  let done = 0;
  try {
    for await (const { row, run } of pool === null ? unrun() : withReferences(rows, pool)) {
      tally.add(row);
      if (pool !== null) progress.update({ done: ++done });
      if (!("task" in row)) continue;
      const isRight = run === null || references.add(row.at, row.task, run);
      if (isRight && row.dropped.length === 0) await out?.write(`${JSON.stringify(row.task)}\n`);
    }
    await out?.commit();
  } finally {
    await out?.abandon();
  }
  const summary = tally.summary([check.file]);
  const { accepted, without, failed, vacuous, infrastructure } = references;
  const faults = [...failed, ...vacuous, ...infrastructure].length;
  const isRight =
    summary.kept === summary.rows &&
    summary.kept > 0 &&
    Object.keys(summary.dropped_tests).length === 0 &&
    faults === 0;
  return {
    is_right: isRight,
    ...summary,
    references: pool === null ? null : { accepted, without, failed, vacuous, infrastructure },
  };
}

/** @throws ConfigError for a file that cannot be read */
export async function checkTaskFile(check: TaskFileCheck): Promise<TaskFileReport> {
  const progress = createProgress({ stream: check.stream });
  const { languages, workers } = check;
  const pool = check.isRun
    ? await createLocalPool({ languages, ...(workers === undefined ? {} : { workers }) })
    : null;
  try {
    return await checkRows(check, pool, progress);
  } finally {
    progress.end();
    await pool?.close();
  }
}

const SHOWN_FAULTS = 10;

function faultLines(title: string, faults: readonly Fault[]): string[] {
  if (faults.length === 0) return [];
  const shown = faults.slice(0, SHOWN_FAULTS).map(({ at, id, message }) => `  ${at}: ${id}: ${message}`);
  const more = faults.length - shown.length;
  return [
    `${faults.length} ${title}`,
    ...shown,
    ...(more > 0 ? [`  ... and ${more} more; --json has all`] : []),
  ];
}

/** The report as a person reads it. */
export function reportLines(report: TaskFileReport): string[] {
  const { references } = report;
  return [
    ...summaryLines(report),
    ...(references === null
      ? []
      : [
          `${references.accepted} references pass`,
          ...(references.without > 0
            ? [`${references.without} tasks have no reference to run: nothing shows that they can be solved`]
            : []),
          ...faultLines("references fail", references.failed),
          ...faultLines("tasks ask nothing", references.vacuous),
          ...faultLines("could not be run, by our own fault", references.infrastructure),
        ]),
  ];
}
