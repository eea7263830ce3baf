/** The update: samples in, new weights out. */
import { ConfigError, type Sample } from "../core/index.js";
import type { Value } from "../tensor/index.js";
import { type Computation, HalfSteppedError, type Values } from "./computation.js";
import type { GraphOptions } from "./graphs.js";
import { layeredComputation } from "./layered/computation.js";
import {
  disposeAll,
  hostState,
  initialState,
  type LearnerState,
  type LiveState,
  liveState,
  type StateParts,
  stateShapes,
} from "./learner-state.js";
import { learningRateScale } from "./learning-rate.js";
import type { Packing } from "./microbatch-sizes.js";
import { hasTeacher, type ObjectiveConfig } from "./objective-config.js";
import { sampleWeights } from "./objective-parts.js";
import { stepScalars } from "./optimizer.js";
import { type Microbatch, packBatch } from "./pack-batch.js";
import { isOffloaded, placedState } from "./place-state.js";
import type { TrainableModel } from "./trainable-model.js";
import { type MetricSums, metricsOf, noSums, type UpdateMetrics } from "./update-metrics.js";
import { wholeComputation } from "./whole-computation.js";

export interface LearnerOptions extends GraphOptions {
  /** Initial weights under their names, float32; also the first teacher and the frozen reference. */
  readonly weights: Readonly<Record<string, Float32Array>>;
  /** Updates of the whole run: where the learning-rate schedule ends. */
  readonly totalSteps: number;
}

/** The initial weights are let go of: the first update replaces them. */
type UpdateOptions = Omit<LearnerOptions, "weights">;

export interface UpdateRequest {
  /** One training batch, in draw order. */
  readonly samples: readonly Sample[];
}

export interface Learner {
  /**
   * One update of the policy. Samples without a signal are not run; a batch without any leaves the weights as they are.
   * @throws NonFiniteUpdateError: the state is then what it was
   * @throws HalfSteppedError: the state is lost, and everything but `importState` throws it again
   */
  update(request: UpdateRequest): Promise<UpdateMetrics>;
  /** Trainer log-probabilities of each sample's completion under the current weights, at the sampling temperature. */
  score(samples: readonly Sample[]): Promise<number[][]>;
  /** Current weights by name, on the device they live on; valid until the next update. */
  weights(): Readonly<Record<string, Value>>;
  /** A copy: the caller may give its buffers away. */
  exportState(): Promise<LearnerState>;
  /** @throws ConfigError when the state belongs to another policy, objective or optimizer */
  importState(state: LearnerState): void;
  dispose(): Promise<void>;
}

/** A loss or gradient became NaN or infinite. Nothing was changed: the last good weights are still there. */
export class NonFiniteUpdateError extends Error {
  override readonly name = "NonFiniteUpdateError";
}

/** Compiles nothing yet: graphs are compiled when a batch first needs their shape. */
export function createLearner({ weights, ...options }: LearnerOptions): Learner {
  const { objective, optimizer, model } = options;
  const parts: StateParts = {
    shapes: model.shapes,
    optimizer,
    withTeacher: hasTeacher(objective),
    withReference: "kl_coefficient" in objective && objective.kl_coefficient > 0,
  };
  checkOffload(options);
  checkFrozen(options);
  const computation = isLayered(options) ? layeredComputation(options) : wholeComputation(options);
  let state = initialState(weights, parts);
  computation.adopt(Object.entries(state.values).flatMap(([key, value]) => (isMoment(key) ? [value] : [])));
  let lost: HalfSteppedError | null = null;
  const checkState = (): void => {
    if (lost !== null) throw lost;
  };
  const place = async (): Promise<void> => {
    checkState();
    state = await placedState(state, stateShapes(parts), options);
  };
  return {
    update: async ({ samples }) => {
      await place();
      const { next, metrics } = await updatedState(state, samples, options, computation).catch((error) => {
        if (error instanceof HalfSteppedError) lost = error;
        throw error;
      });
      const kept = new Set(Object.values(next.values));
      disposeAll(Object.values(state.values).filter((value) => !kept.has(value)));
      state = next;
      computation.tidy();
      return metrics;
    },
    score: async (samples) => {
      await place();
      return scoreSamples(state, samples, options, computation);
    },
    weights: () => {
      checkState();
      const current = valuesUnder("weights", state.values);
      computation.lend(Object.values(current));
      return current;
    },
    exportState: async () => {
      checkState();
      return hostState(state, parts);
    },
    importState: (saved) => {
      const next = liveState(saved, parts);
      disposeAll(replaced(state, next));
      state = next;
      lost = null;
    },
    dispose: async () => {
      disposeAll(Object.values(state.values));
      await computation.dispose();
    },
  };
}

/** Of the values that a learner makes for itself, whose beginning is zeros. */
const isMoment = (key: string): boolean => key.startsWith("moment");

/** @throws ConfigError when one graph of everything is asked for, which needs the whole state where it computes */
function checkOffload(options: GraphOptions): void {
  if (!isOffloaded(options) || options.optimizer.recompute !== "none") return;
  throw new ConfigError({
    at: "optimizer.recompute",
    got: "none",
    need: "layers or auto with optimizer.offload",
    fix: "Without offload everything is on the device: --set optimizer.offload=false.",
  });
}

/** @throws ConfigError when a frozen parameter is missing or of another size */
function checkFrozen({ model, frozen = {} }: GraphOptions): void {
  for (const [name, shape] of Object.entries(model.frozenShapes ?? {})) {
    const [value, need] = [frozen[name], product(shape)];
    const got = value === undefined ? null : "spec" in value ? product(value.spec.shape) : value.length;
    if (got !== need) throw new ConfigError({ at: `frozen: ${name}`, got, need: `${need} numbers` });
  }
}

const product = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** From this many parameters on, `auto` trains layer by layer: one graph of everything would hold all activations. */
const LAYERED_FROM = 64e6;
/** From this many on, a graph is compiled in less time than the padding of coarse sizes takes to compute, over a run. */
const FINE_FROM = 16e6;

const parameterCount = ({ shapes, frozenShapes = {} }: TrainableModel): number =>
  Object.values({ ...shapes, ...frozenShapes }).reduce((sum, shape) => sum + product(shape), 0);

function isLayered(options: GraphOptions): boolean {
  const { optimizer, model } = options;
  if (isOffloaded(options)) return true;
  return optimizer.recompute === "auto"
    ? parameterCount(model) >= LAYERED_FROM
    : optimizer.recompute === "layers";
}

/** How batches of a learner are packed. */
export function packingOf(options: GraphOptions): Packing {
  const isFine = isLayered(options) || parameterCount(options.model) >= FINE_FROM;
  return { maxTokens: options.optimizer.microbatch_tokens, grain: isFine ? "fine" : "coarse" };
}

const valuesUnder = (prefix: string, values: Readonly<Record<string, Value>>): Record<string, Value> =>
  Object.fromEntries(
    Object.entries(values).flatMap(([key, value]) =>
      key.startsWith(`${prefix}/`) ? [[key.slice(prefix.length + 1), value]] : [],
    ),
  );

/** The batch in `minibatches` parts, in draw order, so that groups stay together where the sizes allow. */
function minibatchesOf(samples: readonly Sample[], options: UpdateOptions): Microbatch[][] {
  const { objective } = options;
  const parts = "minibatches" in objective ? objective.minibatches : 1;
  const size = Math.ceil(samples.length / parts);
  return Array.from({ length: Math.ceil(samples.length / Math.max(size, 1)) }, (_, part) => {
    const own = samples.slice(part * size, (part + 1) * size);
    return packBatch(own, sampleWeights(own, objective), packingOf(options));
  }).filter((microbatches) => microbatches.length > 0);
}

async function updatedState(
  before: LiveState,
  samples: readonly Sample[],
  options: UpdateOptions,
  computation: Computation,
): Promise<{ next: LiveState; metrics: UpdateMetrics }> {
  checkSamples(samples, options.objective);
  const step = before.step + 1;
  const lrScale = learningRateScale(options.optimizer, step, options.totalSteps);
  const minibatches = minibatchesOf(samples, options);
  // One optimizer step: the old log-probs are the policy's own. More: they must be taken before the first.
  const old =
    minibatches.length > 1 ? await oldLogProbs(minibatches.flat(), before.values, computation) : null;
  const sums = noSums();
  const gradNorms: number[] = [];
  let weightNorm = 0;
  let now = before;
  for (const [index, microbatches] of minibatches.entries()) {
    const isLast = index === minibatches.length - 1;
    const previous = now;
    const applied = await optimizerUpdate(
      previous,
      { microbatches, old, lrScale, isLast, isOnly: minibatches.length === 1, sums },
      options,
      computation,
    );
    if (previous !== before) disposeAll(replaced(previous, applied.next));
    if (!Number.isFinite(applied.gradNorm + applied.weightNorm + sums.loss)) {
      disposeAll(replaced(applied.next, before));
      throw new NonFiniteUpdateError(
        `update ${step} is not finite: loss ${sums.loss}, gradient norm ${applied.gradNorm}, weight norm ` +
          `${applied.weightNorm}; the weights before it are kept. Lower optimizer.lr or optimizer.clip_norm.`,
      );
    }
    now = applied.next;
    gradNorms.push(applied.gradNorm);
    weightNorm = applied.weightNorm;
  }
  const lr = options.optimizer.lr * lrScale;
  const metrics = metricsOf(sums, { gradNorms, weightNorm, lr, sequences: samples.length });
  return { next: { ...now, step }, metrics };
}

/** Values of one state that another does not share. */
const replaced = (from: LiveState, to: LiveState): Value[] => {
  const kept = new Set(Object.values(to.values));
  return Object.values(from.values).filter((value) => !kept.has(value));
};

interface OptimizerUpdate {
  readonly microbatches: readonly Microbatch[];
  readonly old: ReadonlyMap<Microbatch, Float32Array> | null;
  readonly lrScale: number;
  readonly isLast: boolean;
  /** Of the batch: no later step can fail, after which these values would be wanted again. */
  readonly isOnly: boolean;
  readonly sums: MetricSums;
}

async function optimizerUpdate(
  state: LiveState,
  { microbatches, old, lrScale, isLast, isOnly, sums }: OptimizerUpdate,
  { objective, optimizer }: UpdateOptions,
  computation: Computation,
): Promise<{ next: LiveState; gradNorm: number; weightNorm: number }> {
  const gradients = await computation.gradients(microbatches, state.values, old, sums);
  const optimizerSteps = state.optimizerSteps + 1;
  const teacherRate = isLast && hasTeacher(objective) ? objective.teacher_rate : 0;
  const scalars = stepScalars(optimizer, lrScale, optimizerSteps, teacherRate);
  const inPlace = isOnly && Number.isFinite(sums.loss);
  const applied = await computation.apply({ values: state.values, gradients, scalars, inPlace });
  const { values, gradNorm, weightNorm } = applied;
  return { next: { ...state, optimizerSteps, values }, gradNorm, weightNorm };
}

/** Log-probabilities [R] of every microbatch's tokens under the current weights. */
async function oldLogProbs(
  microbatches: readonly Microbatch[],
  values: Values,
  computation: Computation,
): Promise<Map<Microbatch, Float32Array>> {
  const scores = new Map<Microbatch, Float32Array>();
  for (const microbatch of microbatches)
    scores.set(microbatch, await computation.score("weights", microbatch, values));
  return scores;
}

/** Importance weights of tokens without a record of how they were sampled would be silently wrong. */
function checkSamples(samples: readonly Sample[], objective: ObjectiveConfig): void {
  if (objective.type === "sft" || objective.type === "raft") return;
  for (const { rolloutId, completionIds, rolloutLogProbs } of samples) {
    if (rolloutLogProbs.length !== completionIds.length) {
      throw new ConfigError({
        at: `sample ${rolloutId}: rolloutLogProbs`,
        got: rolloutLogProbs.length,
        need: `${completionIds.length}, one for each completion token`,
      });
    }
  }
}

async function scoreSamples(
  state: LiveState,
  samples: readonly Sample[],
  options: UpdateOptions,
  computation: Computation,
): Promise<number[][]> {
  const everything = samples.map(() => ({ policy: 0, distill: 0, imitate: 1, kl: 0 }));
  const scores = samples.map((): number[] => []);
  for (const [index, sample] of samples.entries()) {
    const [microbatch] = packBatch([sample], [everything[index]!], packingOf(options));
    if (!microbatch) continue;
    const logProbs = await computation.score("weights", microbatch, state.values);
    scores[index] = [...logProbs.subarray(0, microbatch.tokens)];
  }
  return scores;
}
