/**
 * Verifier-only evaluation: programs in, verdicts out. Programs are there from the start, or are drawn while others are
 * judged: each goes to the pool the moment it is there.
 */
import PQueue from "p-queue";
import { lockFile } from "../checkpoints/index.js";
import { comparatorName, type Status, type Task, type Verdict } from "../core/index.js";
import type { VerifierPool } from "../verifiers/index.js";
import { type EvaluationSummary, summarise } from "./evaluation-summary.js";
import { Journal } from "./journal.js";
import type { ProgressState } from "./progress-line.js";
import { type KnownRow, keptRows, resultDigest, resultRow, sortRows, stateFile } from "./result-file.js";
import { type Planned, plannedId, type Solution } from "./solutions.js";

/** Programs handed to the pool at once: enough to keep it busy, few enough that a huge file stays out of memory. */
const IN_FLIGHT = 64;

/** What became of an attempt that was to be drawn: its program, or why, by no fault of the policy, there is none. */
export type Drawn = Solution | (Planned & { readonly failure: string });

/** Programs that are not there yet. */
export interface Drawing {
  readonly planned: readonly Planned[];
  /**
   * Hands each attempt on as it is drawn; resolves after the last.
   * @throws ConfigError where going on is pointless: no access, no such model
   */
  draw(onDrawn: (drawn: Drawn) => void, signal: AbortSignal): Promise<void>;
}

export interface SolutionsEvaluation {
  readonly solutions: readonly Solution[];
  readonly drawing?: Drawing;
  /** Order of the rows, where some programs are drawn; else that of `solutions`. */
  readonly planned?: readonly Planned[];
  /** Result file; rows of an earlier evaluation that still hold are kept. */
  readonly out: string;
  readonly pool: Pick<VerifierPool, "verify" | "isolation">;
  /** Names everything but task and program that decides a verdict: limits, language definitions. */
  readonly judging: string;
  readonly stopAfterFailures?: number;
  readonly ks?: readonly number[];
  /** Aborting it keeps what is judged and ends with StoppedError. */
  readonly signal?: AbortSignal;
  readonly note?: (line: string) => void;
  readonly onProgress?: (state: ProgressState & { readonly total: number }) => void;
}

/** What an evaluation found; the rows' details stand in the result file. */
export interface Evaluated {
  readonly summary: EvaluationSummary;
  readonly rows: readonly KnownRow[];
  /** In the order of the rows. */
  readonly planned: readonly Planned[];
  /** By the id of a row; an attempt that could not be drawn has none. */
  readonly solutions: ReadonlyMap<string, Solution>;
}

/** The evaluation was stopped from outside; what it did is kept. */
export class StoppedError extends Error {
  override readonly name = "StoppedError";
}

function infrastructureVerdict(task: Task, reason: string): Verdict {
  return {
    status: "infrastructure",
    reward: null,
    passed: 0,
    total: task.tests.length,
    tests: [],
    feedback: "",
    comparator: comparatorName(task.comparator),
    reason,
    cached: false,
  };
}

/** Judges, and draws, everything that has no valid row yet; appends rows as they come. */
class Evaluation {
  readonly #evaluation: SolutionsEvaluation;
  readonly #rows: Map<string, KnownRow>;
  readonly #results: Journal;
  readonly #state: Journal;
  readonly #queue = new PQueue({ concurrency: IN_FLIGHT });
  readonly #stop = new AbortController();
  readonly #statuses: Partial<Record<Status, number>> = {};
  readonly #startedMs = performance.now();
  readonly #total: number;
  readonly drawn = new Map<string, Solution>();
  judged = 0;
  #done = 0;

  constructor(evaluation: SolutionsEvaluation, rows: Map<string, KnownRow>, total: number) {
    this.#evaluation = evaluation;
    this.#rows = rows;
    this.#total = total;
    this.#results = new Journal(evaluation.out);
    this.#state = new Journal(stateFile(evaluation.out));
    for (const { status } of rows.values()) this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
  }

  /** @throws whatever ended it first; rows written so far stand */
  async run(todo: readonly Solution[]): Promise<void> {
    const { drawing, signal } = this.#evaluation;
    const ended = new Promise<never>((_, reject) => {
      const fail = (): void => reject(this.#stop.signal.reason);
      this.#stop.signal.addEventListener("abort", fail, { once: true });
    });
    ended.catch(() => {}); // it may be that nothing waits for it any more
    const stop = (): void => this.#end(new StoppedError("stopped"));
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) stop();
    try {
      this.#remember(todo);
      for (const solution of todo) this.#enqueue(solution);
      const draws = drawing?.draw((drawn) => this.#onDrawn(drawn), this.#stop.signal);
      await Promise.race([Promise.all([draws]).then(() => this.#queue.onIdle()), ended]);
      this.#state.mark();
      this.#results.mark();
    } finally {
      signal?.removeEventListener("abort", stop);
      this.#queue.clear();
      this.#stop.abort(new StoppedError("over"));
      this.#state.close();
      this.#results.close();
    }
  }

  /** Digests before rows: a row without its digest would be judged again. */
  #remember(solutions: readonly Solution[]): void {
    const { judging } = this.#evaluation;
    this.#state.append(
      ...solutions.map((solution) => ({ id: plannedId(solution), digest: resultDigest(solution, judging) })),
    );
  }

  #end(reason: unknown): void {
    this.#queue.clear();
    this.#stop.abort(reason);
  }

  #enqueue(solution: Solution): void {
    this.#queue.add(() => this.#judge(solution)).catch((error: unknown) => this.#end(error));
  }

  #onDrawn(drawn: Drawn): void {
    if (this.#stop.signal.aborted) return;
    if ("failure" in drawn) {
      this.#write(drawn, infrastructureVerdict(drawn.task, drawn.failure));
      return;
    }
    this.drawn.set(plannedId(drawn), drawn);
    this.#remember([drawn]);
    this.#enqueue(drawn);
  }

  async #judge(solution: Solution): Promise<void> {
    const { task, language, program, isTruncated } = solution;
    const { pool, stopAfterFailures } = this.#evaluation;
    const verdict = await pool.verify({
      id: plannedId(solution),
      task,
      language,
      program,
      ...(isTruncated ? { isTruncated } : {}),
      ...(stopAfterFailures === undefined ? {} : { stopAfterFailures }),
    });
    // A pool that is closed under its programs reports them as infrastructure: that is no row, they are simply missing.
    if (this.#stop.signal.aborted) return;
    this.judged++;
    this.#write(solution, verdict);
  }

  #write(planned: Planned, verdict: Verdict): void {
    const row = resultRow(planned, verdict, this.#evaluation.pool.isolation);
    this.#results.append(row);
    const { task_id, sample, language, status, comparator } = row;
    this.#rows.set(plannedId(planned), { task_id, sample, language, status, comparator });
    this.#done++;
    this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
    this.#evaluation.onProgress?.({
      done: this.#done,
      total: this.#total,
      statuses: this.#statuses,
      programsPerSecond: this.#done / ((performance.now() - this.#startedMs) / 1000),
    });
  }
}

/**
 * Judges programs into a result file. Only what is missing, changed, or failed by our own fault before is drawn and judged.
 * @throws ConfigError when another process writes the same file, or it holds something else
 * @throws StoppedError after `signal`
 */
export async function evaluateSolutions(evaluation: SolutionsEvaluation): Promise<Evaluated> {
  const { solutions, out, judging, drawing } = evaluation;
  const release = lockFile(`${out}.lock`, {
    at: out,
    need: "a result file that no other process writes",
    fix: "Wait for it, or choose another --out.",
  });
  try {
    const startedMs = performance.now();
    const digests = new Map(
      solutions.map((solution) => [plannedId(solution), resultDigest(solution, judging)]),
    );
    const { rows, dropped } = await keptRows(out, digests);
    if (dropped > 0) {
      evaluation.note?.(
        `${dropped} rows of ${out} hold no more (task, program, language or limits are others now) and are judged again or dropped.`,
      );
    }
    const todo = solutions.filter((solution) => !rows.has(plannedId(solution)));
    const total = todo.length + (drawing?.planned.length ?? 0);
    const all = rows.size + total;
    const work = new Evaluation(evaluation, rows, total);
    await told(work.run(todo), () => `${rows.size} of ${all}`, out);
    const planned = evaluation.planned ?? solutions;
    const ids = planned.map(plannedId);
    if (ids.length > 0) await sortRows(out, ids);
    const seconds = (performance.now() - startedMs) / 1000;
    const now = { judged: work.judged, seconds, isolation: evaluation.pool.isolation };
    const known = new Map(solutions.map((solution) => [plannedId(solution), solution]));
    for (const [id, solution] of work.drawn) known.set(id, solution);
    const inOrder = ids.flatMap((id) => rows.get(id) ?? []);
    return { summary: summarise(inOrder, now, evaluation.ks), rows: inOrder, planned, solutions: known };
  } finally {
    release();
  }
}

/** Says how much of a stopped evaluation is done. */
async function told(work: Promise<void>, done: () => string, out: string): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof StoppedError)) throw error;
    throw new StoppedError(
      `Stopped: ${done()} programs are judged and kept in ${out}. The same command goes on from there.`,
    );
  }
}
