/** What Prometheus may read of the policy's service. Labels come from bounded sets, never from a request's text. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import type { RejectReason } from "../../verifiers/service/request-error.js";

const BUCKETS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

export class PolicyMetrics {
  readonly registry = new Registry();
  readonly #promptTokens = this.#counter("retort_prompt_tokens_total", "Tokens of prompts.");
  readonly #tokens = this.#counter("retort_generation_tokens_total", "Tokens that the policy wrote.");
  readonly #cancelled = this.#counter(
    "retort_cancelled_total",
    "Requests given up: client gone, deadline passed, service stopped.",
  );
  readonly #weights = this.#counter("retort_weight_updates_total", "Weights and adapters taken from disk.");
  readonly #finished = new Counter({
    name: "retort_completions_total",
    help: "Completions written, by why they ended.",
    labelNames: ["finish_reason"],
    registers: [this.registry],
  });
  readonly #rejected = new Counter({
    name: "retort_rejected_total",
    help: "Requests refused, by reason.",
    labelNames: ["reason"],
    registers: [this.registry],
  });
  readonly #firstToken = new Histogram({
    name: "retort_first_token_seconds",
    help: "From a request to the first token of a choice.",
    buckets: BUCKETS,
    registers: [this.registry],
  });
  readonly #requests = new Histogram({
    name: "retort_request_seconds",
    help: "Time to answer a request, by route and HTTP status.",
    labelNames: ["route", "code"],
    buckets: BUCKETS,
    registers: [this.registry],
  });

  /** @param underWay - completions that wait or are being written, read when metrics are asked for */
  constructor(underWay: () => number) {
    new Gauge({
      name: "retort_completions_under_way",
      help: "Completions that wait for a slot or are being written.",
      registers: [this.registry],
      collect() {
        this.set(underWay());
      },
    });
    collectDefaultMetrics({ register: this.registry });
  }

  #counter(name: string, help: string): Counter {
    return new Counter({ name, help, registers: [this.registry] });
  }

  asked(promptTokens: number): void {
    this.#promptTokens.inc(promptTokens);
  }

  wrote(tokens: number, finishReason: string): void {
    this.#tokens.inc(tokens);
    this.#finished.inc({ finish_reason: finishReason });
  }

  firstToken(seconds: number): void {
    this.#firstToken.observe(seconds);
  }

  cancelled(): void {
    this.#cancelled.inc();
  }

  tookWeights(): void {
    this.#weights.inc();
  }

  rejected(reason: RejectReason): void {
    this.#rejected.inc({ reason });
  }

  answered(route: string, code: number, seconds: number): void {
    this.#requests.observe({ route, code: String(code) }, seconds);
  }
}
