import { InfrastructureError } from "../core/index.js";
import type { Value } from "../tensor/index.js";
import type { Microbatch } from "./pack-batch.js";
import type { MetricSums } from "./update-metrics.js";

export type Values = Readonly<Record<string, Value>>;

/** A copy of the parameters within the state. */
export type WeightsCopy = "weights" | "teacher" | "reference";

/** How an update is computed: one graph for a whole microbatch, or the policy's parts one after the other. */
export interface Computation {
  /** Log-probabilities [R] of a microbatch's tokens under one copy of the weights. */
  score(copy: WeightsCopy, microbatch: Microbatch, values: Values): Promise<Float32Array>;
  /**
   * Sum of the gradients of all microbatches; each carries its share of the whole batch's denominators.
   * @param old - log-probs before the first optimizer step of the batch; null when this is it
   * @param sums - added to
   * @returns `gradients/` by parameter
   */
  gradients(
    microbatches: readonly Microbatch[],
    values: Values,
    old: ReadonlyMap<Microbatch, Float32Array> | null,
    sums: MetricSums,
  ): Promise<Record<string, Value>>;
  /** One optimizer step. The gradients are given up. */
  apply(request: ApplyRequest): Promise<Applied>;
  /** Somebody else holds these values until the next step, which gives other values in their place. */
  lend(values: Iterable<Value>): void;
  /** Nobody else holds these values: a step may write to them. */
  adopt(values: Iterable<Value>): void;
  /** An update is over: what it left behind need not wait for the collector. */
  tidy(): void;
  dispose(): Promise<void>;
}

/** A step failed when some of the state was replaced and some was not: no step can follow. */
export class HalfSteppedError extends InfrastructureError {
  constructor(cause: unknown) {
    super(
      "the optimizer's step failed half-way, so the weights in memory are of two steps and are not used any more. " +
        `Resume from the last checkpoint: --resume. (${String(cause)})`,
      { cause },
    );
  }
}

export interface ApplyRequest {
  readonly values: Record<string, Value>;
  readonly gradients: Values;
  /** See `stepScalars`. */
  readonly scalars: Readonly<Record<string, number>>;
  /**
   * Nobody goes back to these values: they may be replaced in their own record, or written to where nobody else holds
   * them, so that no second copy is made.
   */
  readonly inPlace: boolean;
}

export interface Applied {
  /** The state after the step. */
  readonly values: Record<string, Value>;
  /** Before clipping. */
  readonly gradNorm: number;
  /** Of the new weights; when one of the two norms is not finite, so may be `values`. */
  readonly weightNorm: number;
}
