/** Verifier-only evaluation: programs in, verdicts out, pass@k. No policy takes part. */
import type { Status } from "../core/index.js";
import type { VerifierPool } from "../verifiers/index.js";
import { type EvaluationSummary, summarise } from "./evaluation-summary.js";
import { Journal } from "./journal.js";
import type { ProgressState } from "./progress-line.js";
import { type KnownRow, keptRows, resultKey, resultRow, sortRows } from "./result-file.js";
import { lockFile } from "./run-lock.js";
import { type Solution, solutionId } from "./solutions.js";

/** Programs handed to the pool at once: enough to keep it busy, few enough that a huge file stays out of memory. */
const IN_FLIGHT = 64;

export interface SolutionsEvaluation {
  readonly solutions: readonly Solution[];
  /** Result file; rows of an earlier evaluation that still hold are kept. */
  readonly out: string;
  readonly pool: Pick<VerifierPool, "verify" | "isolation">;
  /** Names everything but task and program that decides a verdict: limits, language definitions. */
  readonly judging: string;
  readonly ks?: readonly number[];
  readonly onProgress?: (state: ProgressState & { readonly total: number }) => void;
}

const idOf = ({ task, language, sample }: Solution): string =>
  solutionId({ taskId: task.id, language, sample });

/** Judges every solution that has no valid row yet, appending rows as verdicts come. */
async function judgeAll(
  evaluation: SolutionsEvaluation,
  todo: readonly Solution[],
  keys: ReadonlyMap<string, string>,
  rows: Map<string, KnownRow>,
): Promise<void> {
  const journal = new Journal(evaluation.out);
  const { pool, onProgress } = evaluation;
  const startedMs = performance.now();
  const statuses: Partial<Record<Status, number>> = {};
  for (const { status } of rows.values()) statuses[status] = (statuses[status] ?? 0) + 1;
  let done = 0;
  const judge = async (solution: Solution): Promise<void> => {
    const { task, language, program } = solution;
    const id = idOf(solution);
    const verdict = await pool.verify({ id, task, language, program });
    const row = resultRow(solution, verdict, pool.isolation, keys.get(id)!);
    journal.append(row);
    rows.set(id, row);
    done++;
    statuses[verdict.status] = (statuses[verdict.status] ?? 0) + 1;
    const programsPerSecond = done / ((performance.now() - startedMs) / 1000);
    onProgress?.({ done, total: todo.length, statuses, programsPerSecond });
  };
  try {
    let next = 0;
    const lane = async (): Promise<void> => {
      try {
        while (next < todo.length) await judge(todo[next++]!);
      } catch (error) {
        next = todo.length; // let the other lanes end before the file is closed
        throw error;
      }
    };
    const lanes = await Promise.allSettled(Array.from({ length: IN_FLIGHT }, lane));
    const failed = lanes.find((each) => each.status === "rejected");
    if (failed) throw failed.reason;
    journal.mark();
  } finally {
    journal.close();
  }
}

/**
 * Scores solutions into a result file. Only what is missing, changed, or failed by our own fault before is judged.
 * @throws ConfigError when another process writes the same file
 */
export async function evaluateSolutions(evaluation: SolutionsEvaluation): Promise<EvaluationSummary> {
  const { solutions, out, judging } = evaluation;
  const release = lockFile(`${out}.lock`, {
    at: out,
    need: "a result file that no other process writes",
    fix: "Wait for it, or choose another --out.",
  });
  try {
    const startedMs = performance.now();
    const keys = new Map(solutions.map((solution) => [idOf(solution), resultKey(solution, judging)]));
    const rows: Map<string, KnownRow> = await keptRows(out, keys);
    const todo = solutions.filter((solution) => !rows.has(idOf(solution)));
    await judgeAll(evaluation, todo, keys, rows);
    if (solutions.length > 0) await sortRows(out, [...keys.keys()]);
    const seconds = (performance.now() - startedMs) / 1000;
    const now = { judged: todo.length, seconds, isolation: evaluation.pool.isolation };
    return summarise([...rows.values()], now, evaluation.ks);
  } finally {
    release();
  }
}
