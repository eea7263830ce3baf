import { join } from "node:path";
import { CheckpointStore } from "../checkpoints/index.js";
import type { RunConfig } from "./config.js";
import { evaluateSets } from "./evaluate-sets.js";
import { explainNonFinite } from "./last-good.js";
import { closeRun, type OpenRun, openRun } from "./open-run.js";
import { createProgress, type Progress } from "./progress.js";
import { reportHtml, reportTable } from "./report.js";
import { rolloutRows, selfTeacherRow, stepRow } from "./rows.js";
import { openRunDirectory, type RunDirectory } from "./run-directory.js";
import { restoreCheckpoint, saveCheckpoint } from "./run-state.js";
import { selfTeacherLine } from "./self-teacher.js";
import { trainStep } from "./step.js";
import { summarise } from "./summary.js";

export interface TrainOptions {
  readonly resume: boolean;
  /** The command that goes on with this run, for messages. */
  readonly resumeCommand: string;
  /** Aborting it finishes the step, saves and stops. */
  readonly signal?: AbortSignal;
}

export interface TrainOutcome {
  readonly status: "finished" | "interrupted";
  readonly folder: string;
  /** What to print: the closing table, or how to go on. */
  readonly text: string;
}

/**
 * Runs, or goes on with, a training run.
 * @throws ConfigError before anything is started when the configuration cannot be run
 * @throws NonFiniteRunError when its numbers become NaN; it names the last good checkpoint
 */
export async function runTraining(config: RunConfig, options: TrainOptions): Promise<TrainOutcome> {
  const { progress: display } = config.logging;
  const progress = createProgress({
    stream: process.stderr,
    isQuiet: display === "none",
    ...(display === "plain" ? { isTTY: false } : {}),
  });
  const folder = config.run.dir ?? join("runs", config.run.name);
  const directory = await openRunDirectory(folder, { config, resume: options.resume, note: progress.note });
  let run: OpenRun | null = null;
  try {
    run = await openRun(config, progress, directory.folder);
    const status = await trainLoop(run, directory, progress, options.signal);
    progress.end();
    return await finish(run, directory, status, options);
  } finally {
    progress.end();
    if (run !== null) await closeRun(run);
    directory.close();
  }
}

async function trainLoop(
  run: OpenRun,
  directory: RunDirectory,
  progress: Progress,
  signal: AbortSignal | undefined,
): Promise<TrainOutcome["status"]> {
  const { config } = run;
  const store = new CheckpointStore(directory.checkpointsFolder, {
    keepLast: config.checkpoint.keep,
    ...(config.checkpoint.keep_best ? { keepBest: "heldout_pass_rate" } : {}),
    warn: progress.note,
  });
  await store.cleanUp();
  const guarded = async (step: number, work: Promise<void>): Promise<void> => {
    try {
      await work;
    } catch (error) {
      const origin = config.policy.path ?? run.policyFolder;
      const saveBefore = (): Promise<void> => saveCheckpoint(run, store, directory, step - 1);
      throw await explainNonFinite(error, step, origin, store, saveBefore);
    }
  };
  const from = directory.isResumed ? await restoreCheckpoint(run, store, directory) : null;
  if (from === null) {
    directory.cutBack({});
    await guarded(1, begin(run, directory, progress));
    await saveCheckpoint(run, store, directory, 0);
  } else progress.note(`going on after step ${from}`);
  progress.stage("training", config.run.steps);
  for (let step = (from ?? 0) + 1; step <= config.run.steps; step++) {
    // Ctrl-C before the first step; or between two, which have saved.
    if (signal?.aborted) return "interrupted";
    const isLast = step === config.run.steps;
    await guarded(step, oneStep(run, directory, progress, step));
    if (isLast || isDue(step, config.evaluation.every))
      await guarded(step + 1, evaluateSets(run, directory, progress, step));
    if (isLast || signal?.aborted || isDue(step, config.checkpoint.every))
      await saveCheckpoint(run, store, directory, step);
  }
  return "finished";
}

const isDue = (step: number, every: number): boolean => every > 0 && step % every === 0;

/** Before the first update: how good the self-teacher is, and what the policy passes as it stands. */
async function begin(run: OpenRun, directory: RunDirectory, progress: Progress): Promise<void> {
  const selfTeacher = await run.measureSelfTeacher();
  if (selfTeacher !== null) {
    progress.note(selfTeacherLine(selfTeacher));
    directory.appendMetrics(selfTeacherRow(selfTeacher));
  }
  await evaluateSets(run, directory, progress, 0);
}

async function oneStep(
  run: OpenRun,
  directory: RunDirectory,
  progress: Progress,
  step: number,
): Promise<void> {
  const result = await trainStep(run.step, step);
  const row = stepRow(result, await run.step.policy.memory());
  directory.appendMetrics(row);
  if (run.config.logging.rollouts)
    directory.appendRollouts(`step-${String(step).padStart(6, "0")}`, rolloutRows(result));
  progress.update(run.tally.add(row));
}

/** Writes the report of a finished run; says how to go on with an interrupted one. */
async function finish(
  run: OpenRun,
  directory: RunDirectory,
  status: TrainOutcome["status"],
  options: TrainOptions,
): Promise<TrainOutcome> {
  const { folder } = directory;
  if (status === "interrupted") {
    const text = `Stopped after a finished step; everything is saved in ${folder}. Go on with:\n  ${options.resumeCommand}`;
    return { status, folder, text };
  }
  const { report, curves } = summarise(run.config, directory.folder);
  const task = run.evaluationSets.heldout?.[0] ?? run.step.tasks[0];
  const prompt = task !== undefined && /^[^"$`\\\n]{1,80}$/.test(task.prompt) ? task.prompt : "...";
  const next = `npx retort generate --policy ${report.checkpoint} --prompt "${prompt}"`;
  const text = reportTable(report, next);
  await directory.writeReport({ ...report }, reportHtml(report, curves, text));
  return { status, folder, text };
}
