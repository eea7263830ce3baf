import type { Task } from "../core/index.js";
import { evaluateTasks, type PassRate } from "./evaluate.js";
import type { OpenRun } from "./open-run.js";
import type { Progress } from "./progress.js";
import { evaluationRow } from "./rows.js";
import type { RunDirectory } from "./run-directory.js";

/** Evaluates every held-out set of a run, sampled and greedy, and appends one row of what it found. */
export async function evaluateSets(
  run: OpenRun,
  directory: RunDirectory,
  progress: Progress,
  step: number,
): Promise<void> {
  const started = performance.now();
  const sets = Object.entries(run.evaluationSets).filter(([, tasks]) => tasks.length > 0);
  if (sets.length === 0) return;
  const { samples, greedy, temperature } = run.config.evaluation;
  const results: Record<string, { sampled: PassRate | null; greedy: PassRate | null }> = {};
  const attempts = sets.reduce((sum, [, tasks]) => sum + tasks.length * (samples + (greedy ? 1 : 0)), 0);
  const isStage = step === 0;
  if (isStage) progress.stage("evaluation", attempts);
  let done = 0;
  const evaluate = async (tasks: readonly Task[], count: number, at: number): Promise<PassRate | null> => {
    if (count === 0) return null;
    const options = { ...run.step.sampling, temperature: at, topP: 1, topK: 0 };
    const onVerdict = (): void => {
      done++;
      if (isStage) progress.update({ done });
    };
    return (await evaluateTasks(run.evaluator, tasks, count, options, step, onVerdict)).passRate;
  };
  for (const [name, tasks] of sets) {
    results[name] = {
      sampled: await evaluate(tasks, samples, temperature),
      greedy: await evaluate(tasks, greedy ? 1 : 0, 0),
    };
  }
  const rollouts = step * run.step.promptsPerStep * run.step.groupSize;
  const row = evaluationRow(step, rollouts, results, (performance.now() - started) / 1000);
  directory.appendMetrics(row);
  const rate = row.sets.heldout?.sampled ?? row.sets.heldout?.greedy ?? null;
  run.measured = rate === null ? null : { step, rate };
  const rates = Object.entries(row.sets).map(
    ([name, rate]) => `${name} ${shown(rate.sampled)} sampled, ${shown(rate.greedy)} greedy`,
  );
  progress.note(`pass@1 after ${rollouts} rollouts: ${rates.join("; ")}`);
}

const shown = (rate: number | null): string => (rate === null ? "-" : `${(100 * rate).toFixed(1)}%`);
