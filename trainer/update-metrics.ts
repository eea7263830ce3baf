import type { Microbatch } from "./pack-batch.js";
import { LOSS_TERMS } from "./training-loss.js";

/** What one update shows; a row of metrics.jsonl. Losses are weighted as they entered the total. */
export interface UpdateMetrics {
  readonly loss: number;
  readonly policy_loss: number;
  readonly distill_loss: number;
  readonly imitate_loss: number;
  readonly kl_loss: number;
  /** Mean over the trained tokens, nats. */
  readonly entropy: number;
  /** Share of trained tokens whose policy gradient was clipped away. */
  readonly clip_fraction: number;
  /** Mean of rollout minus trainer log-probability over the trained tokens. */
  readonly rollout_kl: number;
  /** Largest difference between the sampler's and the trainer's log-probability of a token, before the update. */
  readonly max_log_prob_gap: number;
  /** Before clipping; the mean over the optimizer steps. */
  readonly grad_norm: number;
  readonly weight_norm: number;
  /** Peak learning rate x schedule, of the matrices. */
  readonly lr: number;
  /** Response tokens and sequences that went through the model. */
  readonly trained_tokens: number;
  readonly trained_sequences: number;
  /** Sequences without a signal: not run, though they may count in a denominator. */
  readonly skipped_sequences: number;
  /** Tokens that are padding over real ones, of all that were computed, the teacher's too. */
  readonly padding: number;
  /** The same of the response tokens, which are projected onto the vocabulary. */
  readonly position_padding: number;
  /** Optimizer steps made: 0 when nothing in the batch had a signal. */
  readonly optimizer_steps: number;
}

/** Sums that metrics are made of. */
export interface MetricSums {
  loss: number;
  terms: Record<(typeof LOSS_TERMS)[number], number>;
  entropy: number;
  clipped: number;
  rolloutGap: number;
  maxGap: number;
  tokens: number;
  sampledTokens: number;
  sequences: number;
  /** Of rows: tokens, and what they were padded to. */
  real: number;
  padded: number;
  positions: number;
}

export const noSums = (): MetricSums => ({
  loss: 0,
  terms: { policy: 0, distill: 0, imitate: 0, kl: 0 },
  entropy: 0,
  clipped: 0,
  rolloutGap: 0,
  maxGap: 0,
  tokens: 0,
  sampledTokens: 0,
  sequences: 0,
  real: 0,
  padded: 0,
  positions: 0,
});

/**
 * Adds one microbatch's outputs to the sums, in float64.
 * @param trainerLogProbs - [R] under the weights before the update: what the sampler should have recorded too
 */
export function addMicrobatch(
  sums: MetricSums,
  microbatch: Microbatch,
  outputs: Readonly<Record<string, Float32Array | undefined>>,
  trainerLogProbs: Float32Array,
): void {
  sums.loss += outputs.loss![0]!;
  sums.tokens += microbatch.tokens;
  sums.sequences += microbatch.sequences;
  sums.positions += microbatch.positions.length;
  for (const rows of [microbatch, ...(microbatch.teacher ? [microbatch.teacher] : [])]) {
    sums.real += rows.real;
    sums.padded += rows.ids.length;
  }
  for (let token = 0; token < microbatch.tokens; token++) {
    for (const term of LOSS_TERMS) {
      const weight = microbatch.weights[term][token]!;
      if (weight !== 0) sums.terms[term] += weight * (outputs[term]?.[token] ?? 0);
    }
    sums.entropy += outputs.entropy![token]!;
    sums.clipped += outputs.is_clipped?.[token] ?? 0;
    if (!microbatch.isSampled[token]) continue;
    const gap = microbatch.rolloutLogProbs[token]! - trainerLogProbs[token]!;
    sums.sampledTokens++;
    sums.rolloutGap += gap;
    sums.maxGap = Math.max(sums.maxGap, Math.abs(gap));
  }
}

/** The metrics of an update from its sums. */
export function metricsOf(
  sums: MetricSums,
  steps: { gradNorms: readonly number[]; weightNorm: number; lr: number; sequences: number },
): UpdateMetrics {
  const perToken = (sum: number, tokens = sums.tokens): number => (tokens === 0 ? 0 : sum / tokens);
  const count = steps.gradNorms.length;
  return {
    loss: perStep(sums.loss, count),
    policy_loss: perStep(sums.terms.policy, count),
    distill_loss: perStep(sums.terms.distill, count),
    imitate_loss: perStep(sums.terms.imitate, count),
    kl_loss: perStep(sums.terms.kl, count),
    entropy: perToken(sums.entropy),
    clip_fraction: perToken(sums.clipped),
    rollout_kl: perToken(sums.rolloutGap, sums.sampledTokens),
    max_log_prob_gap: sums.maxGap,
    grad_norm: perStep(
      steps.gradNorms.reduce((a, b) => a + b, 0),
      count,
    ),
    weight_norm: steps.weightNorm,
    lr: steps.lr,
    trained_tokens: sums.tokens,
    trained_sequences: sums.sequences,
    skipped_sequences: steps.sequences - sums.sequences,
    padding: perToken(sums.padded - sums.real, sums.real),
    position_padding: perToken(sums.positions - sums.tokens),
    optimizer_steps: count,
  };
}

const perStep = (sum: number, steps: number): number => (steps === 0 ? 0 : sum / steps);
