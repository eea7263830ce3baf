/** What Prometheus may read of the verifier's service; the languages among its labels are those that there are. */
import type { Status } from "../../core/index.js";
import { FrameMetrics } from "./frame-metrics.js";

export type Api = "verify" | "sandbox-fusion" | "piston";

/** One finished program. Seconds; `waited` for a sandbox, `ran` from then to the verdict. */
export interface FinishedProgram {
  readonly api: Api;
  readonly language: string;
  readonly status: Status;
  readonly isCached: boolean;
  readonly waited: number;
  readonly ran: number;
}

export class ServiceMetrics extends FrameMetrics {
  readonly #programs = this.counter(
    "retort_programs_total",
    "Programs that got an answer, by API, language and status.",
    ["api", "language", "status"],
  );
  readonly #infrastructure = this.counter(
    "retort_infrastructure_total",
    "Programs without a verdict by our own fault.",
  );
  readonly #cached = this.counter(
    "retort_cache_hits_total",
    "Verdicts given without running the program again.",
  );
  readonly #calledOff = this.counter(
    "retort_called_off_total",
    "Programs that never started: client gone, deadline passed, service stopped.",
  );
  readonly #waited = this.histogram("retort_queue_wait_seconds", "Time a program waited for a sandbox.");
  readonly #ran = this.histogram(
    "retort_program_seconds",
    "Time from a program's turn to its answer, compiling and all its tests included.",
    ["language"],
  );

  /** @param queue - read when metrics are asked for */
  constructor(queue: { readonly waiting: number; readonly running: number }) {
    super();
    this.gauge("retort_queue_length", "Programs that wait for a sandbox.", () => queue.waiting);
    this.gauge("retort_running", "Programs handed to sandboxes.", () => queue.running);
  }

  finished({ api, language, status, isCached, waited, ran }: FinishedProgram): void {
    this.#programs.inc({ api, language, status });
    if (status === "infrastructure") this.#infrastructure.inc();
    if (isCached) this.#cached.inc();
    this.#waited.observe(waited);
    this.#ran.observe({ language }, ran);
  }

  calledOff(): void {
    this.#calledOff.inc();
  }
}
