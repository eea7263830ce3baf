/** What Prometheus may read of a service. Labels come from bounded sets: languages that there are, never a request's text. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { Status } from "../../core/index.js";
import type { RejectReason } from "./request-error.js";

export type Api = "verify" | "sandbox-fusion" | "piston";

const RUN_BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** One finished program. Seconds; `waited` for a sandbox, `ran` from then to the verdict. */
export interface FinishedProgram {
  readonly api: Api;
  readonly language: string;
  readonly status: Status;
  readonly isCached: boolean;
  readonly waited: number;
  readonly ran: number;
}

export class ServiceMetrics {
  readonly registry = new Registry();
  readonly #programs = new Counter({
    name: "retort_programs_total",
    help: "Programs that got an answer, by API, language and status.",
    labelNames: ["api", "language", "status"],
    registers: [this.registry],
  });
  readonly #infrastructure = new Counter({
    name: "retort_infrastructure_total",
    help: "Programs without a verdict by our own fault.",
    registers: [this.registry],
  });
  readonly #cached = new Counter({
    name: "retort_cache_hits_total",
    help: "Verdicts given without running the program again.",
    registers: [this.registry],
  });
  readonly #calledOff = new Counter({
    name: "retort_called_off_total",
    help: "Programs that never started: client gone, deadline passed, service stopped.",
    registers: [this.registry],
  });
  readonly #rejected = new Counter({
    name: "retort_rejected_total",
    help: "Requests refused, by reason.",
    labelNames: ["reason"],
    registers: [this.registry],
  });
  readonly #waited = new Histogram({
    name: "retort_queue_wait_seconds",
    help: "Time a program waited for a sandbox.",
    buckets: RUN_BUCKETS,
    registers: [this.registry],
  });
  readonly #ran = new Histogram({
    name: "retort_program_seconds",
    help: "Time from a program's turn to its answer, compiling and all its tests included.",
    labelNames: ["language"],
    buckets: RUN_BUCKETS,
    registers: [this.registry],
  });
  readonly #requests = new Histogram({
    name: "retort_request_seconds",
    help: "Time to answer a request, by route and HTTP status.",
    labelNames: ["route", "code"],
    buckets: RUN_BUCKETS,
    registers: [this.registry],
  });

  /** @param queue - read when metrics are asked for */
  constructor(queue: { readonly waiting: number; readonly running: number }) {
    const gauge = (name: string, help: string, read: () => number): Gauge =>
      new Gauge({
        name,
        help,
        registers: [this.registry],
        collect() {
          this.set(read());
        },
      });
    gauge("retort_queue_length", "Programs that wait for a sandbox.", () => queue.waiting);
    gauge("retort_running", "Programs handed to sandboxes.", () => queue.running);
    collectDefaultMetrics({ register: this.registry });
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

  rejected(reason: RejectReason): void {
    this.#rejected.inc({ reason });
  }

  /** @param route - its pattern, not the address asked for */
  answered(route: string, code: number, seconds: number): void {
    this.#requests.observe({ route, code: String(code) }, seconds);
  }
}
