/** Every program of the service goes through here: its turn in the queue, the pool, the counters. */
import type { Status, Verdict } from "../../core/index.js";
import { comparatorName, InfrastructureError } from "../../core/index.js";
import type { JobResult } from "../job.js";
import type { LocalPool, ProgramRun, Submission } from "../pool.js";
import type { OperatorLimits } from "./ceilings.js";
import type { Api, ServiceMetrics } from "./metrics.js";
import { RequestError } from "./request-error.js";
import { type Lane, RunQueue } from "./run-queue.js";

const QUIET_MS = 10_000;
const MAX_MESSAGES = 1000;

/** A single program's run, for APIs that judge for themselves. */
export type SingleRun = Omit<ProgramRun, "inputs"> & { readonly input: string };

export class Programs {
  readonly pool: LocalPool;
  readonly queue: RunQueue;
  readonly operator: OperatorLimits;
  readonly metrics: ServiceMetrics;
  readonly #warn: (message: string) => void;
  /** Until when a message is not repeated: a host that breaks fails every program alike. */
  readonly #quietUntil = new Map<string, number>();
  #lastAnswerMs = Number.NEGATIVE_INFINITY;

  /** @param warn - told of our own failures */
  constructor(
    pool: LocalPool,
    options: {
      readonly workers: number;
      readonly maxQueue: number;
      readonly operator: OperatorLimits;
      readonly metrics: (queue: RunQueue) => ServiceMetrics;
      readonly warn: (message: string) => void;
    },
  ) {
    this.pool = pool;
    // As many as there are workers: what waits, waits here, where it can be called off.
    this.queue = new RunQueue(options.workers, options.maxQueue);
    this.operator = options.operator;
    this.metrics = options.metrics(this.queue);
    this.#warn = options.warn;
  }

  /** When a program last got an answer that was not our own failure, by `performance.now`. */
  get lastAnswerMs(): number {
    return this.#lastAnswerMs;
  }

  /** A verdict on a program. Rejects only with what called it off. */
  verify(lane: Lane, submission: Submission): Promise<Verdict> {
    const language = this.pool.languages.get(submission.language).name;
    return this.#inTurn(lane, "verify", language, async () => {
      const verdict = await this.pool
        .verify(submission)
        .catch((cause: unknown) => brokenVerdict(submission, cause));
      return { result: verdict, status: verdict.status, isCached: verdict.cached, reason: verdict.reason };
    });
  }

  /** What a program does with one input. @throws InfrastructureError for our own failure */
  async run(lane: Lane, api: Api, run: SingleRun): Promise<JobResult> {
    const { input, ...program } = run;
    const answer = await this.#inTurn<JobResult | InfrastructureError>(
      lane,
      api,
      run.language.name,
      async () => {
        try {
          const result = await this.pool.run({ ...program, inputs: [input] });
          return { result, status: statusOfRun(result), isCached: false, reason: undefined };
        } catch (error) {
          if (!(error instanceof InfrastructureError)) throw error;
          return { result: error, status: "infrastructure" as const, isCached: false, reason: error.message };
        }
      },
    );
    if (answer instanceof InfrastructureError) throw answer;
    return answer;
  }

  #tell(message: string): void {
    const nowMs = performance.now();
    if ((this.#quietUntil.get(message) ?? 0) > nowMs) return;
    if (this.#quietUntil.size > MAX_MESSAGES) this.#quietUntil.clear();
    this.#quietUntil.set(message, nowMs + QUIET_MS);
    this.#warn(message);
  }

  async #inTurn<T>(
    lane: Lane,
    api: Api,
    language: string,
    program: () => Promise<{ result: T; status: Status; isCached: boolean; reason: string | undefined }>,
  ): Promise<T> {
    try {
      return await lane.run(async (waitedMs) => {
        const startedMs = performance.now();
        const { result, status, isCached, reason } = await program();
        const nowMs = performance.now();
        if (status === "infrastructure")
          this.#tell(`infrastructure (${language}): ${reason ?? "no reason given"}`);
        else this.#lastAnswerMs = nowMs;
        const [waited, ran] = [waitedMs / 1000, (nowMs - startedMs) / 1000];
        this.metrics.finished({ api, language, status, isCached, waited, ran });
        return result;
      });
    } catch (error) {
      if (error instanceof RequestError) this.metrics.calledOff();
      throw error;
    }
  }
}

export function statusOfRun(result: JobResult): Status {
  return result.compile !== null ? "compile_error" : (result.tests[0]?.status ?? "infrastructure");
}

/** A mistake that only running showed (a checker in a language that there is not): no verdict, and no score. */
function brokenVerdict({ task }: Submission, cause: unknown): Verdict {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const comparator = comparatorName(task.comparator);
  const [status, reward, passed, total] = ["infrastructure" as const, null, 0, task.tests.length];
  return { status, reward, passed, total, tests: [], feedback: "", comparator, reason, cached: false };
}
