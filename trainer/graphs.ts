/** The compiled functions of an update, made when first needed, the last ones kept by shape. */

import {
  type CompiledFunction,
  type CompileOptions,
  compile,
  type TensorMap,
  type TensorSpec,
  type Value,
  valueAndGradients,
} from "../tensor/index.js";
import * as tf from "../tensor/tfjs.js";
import { keepFunctions } from "./kept-functions.js";
import { tokenLogProbs, topIndices } from "./log-probs.js";
import { lossSpecs, teacherSpecs, viewed, viewSpecs } from "./loss-inputs.js";
import type { ObjectiveConfig } from "./objective-config.js";
import { hasTeacher } from "./objective-config.js";
import { optimizerSpecs, optimizerStep, squaredNorm } from "./optimizer.js";
import type { OptimizerConfig } from "./optimizer-config.js";
import type { PaddedRows } from "./pack-batch.js";
import { logitsAt, type TrainableModel } from "./trainable-model.js";
import { type TeacherView, tokenTerms, weightedLoss } from "./training-loss.js";

export interface GraphOptions {
  readonly model: TrainableModel;
  readonly objective: ObjectiveConfig;
  readonly optimizer: OptimizerConfig;
  /** Sampling temperature: log-probabilities are taken at it. */
  readonly temperature: number;
  readonly compile: Pick<CompileOptions, "provider" | "threads" | "deterministic">;
  /**
   * Values of the model's `frozenShapes`, as `CompileOptions.bound` takes them: never changed, never part of the state,
   * never disposed of.
   */
  readonly frozen?: Readonly<Record<string, Value>>;
  /** Response tokens whose logits exist at a time, layer by layer. Default: so many that they take about 64 MB. */
  readonly chunk?: number;
  /** Bytes of products kept between the passes, layer by layer. Default: as optimizer.recompute and kept_mb say. */
  readonly keptBytes?: number;
}

/** Rows and positions that a graph is compiled for. */
export interface GraphShape {
  readonly rows: number;
  readonly length: number;
  /** Computed, see `PaddedRows.ids`. */
  readonly tokens: number;
  readonly positions: number;
}

export const shapeOf = (rows: PaddedRows, positions: number): GraphShape => ({
  rows: rows.rows,
  length: rows.length,
  tokens: rows.ids.length,
  positions,
});

/** Compiled functions by what they do. Calls of one shape share one graph. */
export interface Graphs {
  readonly vocabulary: number;
  /** `log_probs` [R] of `targets`. */
  score(shape: GraphShape): Promise<CompiledFunction>;
  /** `topk_indices` [R, k]: the policy's likeliest tokens. */
  topk(shape: GraphShape, k: number): Promise<CompiledFunction>;
  /** `teacher_log_probs`: [R, V], [R, k] at `topk_indices`, or [R] at `targets`. */
  teacher(shape: GraphShape, view: TeacherView): Promise<CompiledFunction>;
  /** Gradients, loss and the terms of every token. */
  gradients(shape: GraphShape, isOnPolicy: boolean): Promise<CompiledFunction>;
  /** `zeros` of a shape, made where they stay. */
  zeros(shape: readonly number[]): Promise<CompiledFunction>;
  /** Sum of two sets of gradients. */
  accumulate(): Promise<CompiledFunction>;
  /** `norm` of all parameters' `gradients/` or `weights/`. */
  norm(kind: "gradients" | "weights"): Promise<CompiledFunction>;
  /** One optimizer step. */
  apply(): Promise<CompiledFunction>;
  dispose(): Promise<void>;
}

/** Each graph keeps the memory of its largest intermediate results; one that falls out is compiled anew when needed. */
const GRAPHS_KEPT = 24;

const float = (...shape: number[]): TensorSpec => ({ shape, dtype: "float32" });
const int = (...shape: number[]): TensorSpec => ({ shape, dtype: "int32" });

/** `frozen/` by parameter. */
const frozenSpecs = ({ frozenShapes = {}, frozenType }: TrainableModel): Record<string, TensorSpec> =>
  Object.fromEntries(
    Object.entries(frozenShapes).map(([name, shape]) => [
      `frozen/${name}`,
      { shape, dtype: shape.length === 2 ? (frozenType ?? "float32") : "float32" },
    ]),
  );

export function createGraphs(options: GraphOptions): Graphs {
  const { model, objective } = options;
  const kept = keepFunctions<CompiledFunction>(GRAPHS_KEPT);
  const once = (
    kind: string,
    key: unknown,
    make: (name: string) => Promise<CompiledFunction>,
  ): Promise<CompiledFunction> => {
    const name = `${kind} ${JSON.stringify(key)}`;
    return kept.once(name, () => make(name));
  };
  const parameters = (prefix: string, shapes = model.shapes): Record<string, TensorSpec> =>
    Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [`${prefix}/${name}`, float(...shape)]));
  const rowSpecs = ({ rows, length, tokens, positions }: GraphShape): Record<string, TensorSpec> => ({
    ...parameters("weights"),
    ...frozenSpecs(model),
    ...(tokens === rows * length
      ? { ids: int(rows, length) }
      : { ids: int(tokens), token_at: int(rows, length), place_of: int(tokens) }),
    positions: int(positions),
  });
  const logits = (inputs: TensorMap, weights = under("weights", inputs)): tf.Tensor2D =>
    logitsAt(model, { ...under("frozen", inputs), ...weights }, inputs, options.temperature);
  const gradientNames = Object.keys(model.shapes).map((name) => `gradients/${name}`);
  const common = {
    ...options.compile,
    bound: prefixed("frozen", options.frozen ?? {}),
    memoryPattern: false, // its block would be a second copy of all activations
  };
  return {
    vocabulary: model.vocabulary,
    score: (shape) =>
      once("score", shape, (name) =>
        compile(
          (inputs) => ({ log_probs: tokenLogProbs(logits(inputs), inputs.targets as tf.Tensor1D) }),
          { ...rowSpecs(shape), targets: int(shape.positions) },
          { ...common, name },
        ),
      ),
    topk: (shape, k) =>
      once("topk", [shape, k], (name) =>
        compile((inputs) => ({ topk_indices: topIndices(logits(inputs), k) }), rowSpecs(shape), {
          ...common,
          name,
          keepOnDevice: ["topk_indices"],
        }),
      ),
    teacher: (shape, view) =>
      once("teacher", [shape, view], (name) =>
        compile(
          (inputs) => ({ teacher_log_probs: viewed(logits(inputs), inputs, view) }),
          { ...rowSpecs(shape), ...viewSpecs(shape.positions, view) },
          { ...common, name, keepOnDevice: ["teacher_log_probs"] },
        ),
      ),
    gradients: (shape, isOnPolicy) =>
      once("gradients", [shape, isOnPolicy], (name) =>
        compile(
          (inputs) => {
            const loss = (weights: TensorMap): { loss: tf.Scalar; extras: Record<string, tf.Tensor> } => {
              const terms = tokenTerms(logits(inputs, weights), inputs, objective);
              return { loss: weightedLoss(terms, inputs), extras: { ...terms } };
            };
            const { value, gradients, extras } = valueAndGradients(loss, under("weights", inputs));
            return { loss: value, ...extras, ...prefixed("gradients", gradients) };
          },
          {
            ...rowSpecs(shape),
            inverse: int(shape.tokens),
            ...lossSpecs(shape.positions, objective, isOnPolicy),
            ...teacherSpecs(shape.positions, objective, model.vocabulary),
          },
          { ...common, name, keepOnDevice: gradientNames },
        ),
      ),
    zeros: (shape) =>
      once("zeros", shape, (name) =>
        compile(
          ({ zero }) => ({ zeros: tf.broadcastTo(zero!, [...shape]) }),
          { zero: float(...shape.map(() => 1)) },
          { ...options.compile, name, keepOnDevice: ["zeros"] },
        ),
      ),
    accumulate: () =>
      once("accumulate", 0, (name) =>
        compile(
          (inputs) =>
            Object.fromEntries(
              gradientNames.map((key) => [key, tf.add(inputs[`sum/${key}`]!, inputs[key]!)]),
            ),
          Object.fromEntries(
            Object.entries(parameters("gradients")).flatMap(([key, spec]) => [
              [`sum/${key}`, spec],
              [key, spec],
            ]),
          ),
          { ...common, name, keepOnDevice: gradientNames },
        ),
      ),
    norm: (kind) =>
      once("norm", kind, (name) =>
        compile((inputs) => ({ norm: tf.sqrt(squaredNorm(Object.values(inputs))) }), parameters(kind), {
          ...common,
          name,
        }),
      ),
    apply: () =>
      once("apply", 0, (name) => {
        const specs = optimizerSpecs(options.optimizer, model.shapes, hasTeacher(objective));
        return compile(
          (inputs) => optimizerStep(inputs, options.optimizer, model.shapes, hasTeacher(objective)),
          specs,
          { ...common, name, keepOnDevice: Object.keys(specs).filter((key) => key.includes("/")) },
        );
      }),
    dispose: () => kept.dispose(),
  };
}

/** The tensors under a prefix, without it. */
export function under(prefix: string, inputs: TensorMap): TensorMap {
  const own = Object.entries(inputs).filter(([key]) => key.startsWith(`${prefix}/`));
  return Object.fromEntries(own.map(([key, tensor]) => [key.slice(prefix.length + 1), tensor]));
}

export const prefixed = <T>(prefix: string, record: Readonly<Record<string, T>>): Record<string, T> =>
  Object.fromEntries(Object.entries(record).map(([name, value]) => [`${prefix}/${name}`, value]));
