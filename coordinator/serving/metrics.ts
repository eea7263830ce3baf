/** What Prometheus may read of the policy's service. */
import { FrameMetrics } from "../../verifiers/service/frame-metrics.js";

export class PolicyMetrics extends FrameMetrics {
  readonly #promptTokens = this.counter("retort_prompt_tokens_total", "Tokens of prompts.");
  readonly #tokens = this.counter("retort_generation_tokens_total", "Tokens that the policy wrote.");
  readonly #cancelled = this.counter(
    "retort_cancelled_total",
    "Requests given up: client gone, deadline passed, service stopped.",
  );
  readonly #weights = this.counter("retort_weight_updates_total", "Weights and adapters taken from disk.");
  readonly #finished = this.counter("retort_completions_total", "Completions written, by why they ended.", [
    "finish_reason",
  ]);
  readonly #firstToken = this.histogram(
    "retort_first_token_seconds",
    "From a request to the first token of a choice.",
  );

  /** @param underWay - completions that wait or are being written, read when metrics are asked for */
  constructor(underWay: () => number) {
    super();
    this.gauge(
      "retort_completions_under_way",
      "Completions that wait for a slot or are being written.",
      underWay,
    );
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
}
