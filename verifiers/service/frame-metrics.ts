/** What Prometheus may read of every service. Labels come from bounded sets, never from a request's text. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { RejectReason } from "./request-error.js";

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

export class FrameMetrics {
  readonly registry = new Registry();
  readonly #rejected = this.counter("retort_rejected_total", "Requests refused, by reason.", ["reason"]);
  readonly #requests = this.histogram(
    "retort_request_seconds",
    "Time to answer a request, by route and HTTP status.",
    ["route", "code"],
  );

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  protected counter(name: string, help: string, labelNames: readonly string[] = []): Counter {
    return new Counter({ name, help, labelNames: [...labelNames], registers: [this.registry] });
  }

  protected histogram(name: string, help: string, labelNames: readonly string[] = []): Histogram {
    const registers = [this.registry];
    return new Histogram({ name, help, labelNames: [...labelNames], buckets: SECONDS, registers });
  }

  /** @param read - asked when metrics are */
  protected gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }

  rejected(reason: RejectReason): void {
    this.#rejected.inc({ reason });
  }

  /** @param route - its pattern, not the address asked for */
  answered(route: string, code: number, seconds: number): void {
    this.#requests.observe({ route, code: String(code) }, seconds);
  }
}
