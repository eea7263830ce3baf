/** One optimizer step of a state in host memory: AdamW in the arrays themselves. */
import { currentDryRun, type DryRun, movedArray, type Value } from "../tensor/index.js";
import type { Applied, ApplyRequest, Values } from "./computation.js";
import type { GraphOptions } from "./graphs.js";
import {
  type AdamwArrays,
  type AdamwBounds,
  type AdamwScalars,
  adamwInPlace,
  boundsAfter,
  LARGEST,
  largestOf,
  sumOfSquares,
} from "./host-adamw.js";
import { disposeAll, hostArray } from "./learner-state.js";
import { hasTeacher } from "./objective-config.js";
import { decayOf, type Shapes } from "./optimizer.js";
import type { OptimizerConfig } from "./optimizer-config.js";

/** Steps a state, and knows which of its arrays it may write to. */
export interface HostStep {
  /** Nothing is changed when the step would not be finite, and nothing can fail once the first array is written to. */
  apply(request: ApplyRequest): Promise<Applied>;
  /** Somebody else holds these values until the next step, which leaves other values in the state. */
  lend(values: Iterable<Value>): void;
  /** Nobody else holds these values. */
  adopt(values: Iterable<Value>): void;
}

/** Whether the optimizer's step can be taken in host memory: elsewhere than in buffers of a GPU, and by AdamW alone. */
export const stepsOnHost = ({ optimizer, compile }: GraphOptions): boolean =>
  optimizer.type === "adamw" && compile.provider !== "webgpu";

/**
 * Norm of all parameters' `gradients/` or `weights/`.
 * @param squares - sums of their squares by parameter, where they are known
 */
export type NormOf = (
  kind: "gradients" | "weights",
  values: Values,
  squares?: readonly number[],
) => Promise<number>;

type Kind = "weights" | "moment1" | "moment2" | "teacher";

/** One parameter before a step. */
interface Parameter {
  readonly name: string;
  readonly arrays: AdamwArrays;
  readonly size: number;
  readonly scalars: AdamwScalars;
  /** Of what the step will make of it. */
  readonly bounds: AdamwBounds;
}

/** @param norm - default: summed here, in doubles */
export function hostStep(options: GraphOptions, norm: NormOf = normHere): HostStep {
  const { shapes } = options.model;
  const kinds: Kind[] = ["weights", "moment1", "moment2"];
  if (hasTeacher(options.objective)) kinds.push("teacher");
  /** Arrays that nobody else holds. */
  const own = new WeakSet<Value>();
  /** Arrays of this step's making that somebody else holds until the next one. */
  const lent = new WeakSet<Value>();
  /** Of the parameters that this made, by their array of weights. */
  const known = new WeakMap<Value, AdamwBounds>();

  /** The record with arrays in it that may be written to. */
  const writable = (values: Record<string, Value>, inPlace: boolean): Record<string, Value> => {
    const copies: Record<string, Value> = {};
    for (const [name, shape] of Object.entries(shapes))
      for (const kind of kinds) {
        const value = values[`${kind}/${name}`]!;
        if (inPlace && own.has(value)) continue;
        copies[`${kind}/${name}`] = inPlace && lent.has(value) ? renewed(value, shape) : copyOf(value, shape);
      }
    for (const copy of Object.values(copies)) own.add(copy);
    return inPlace ? Object.assign(values, copies) : { ...values, ...copies };
  };

  return {
    apply: async ({ values, gradients, scalars, inPlace }) => {
      const dry = currentDryRun();
      if (dry !== undefined) {
        const next = writable(values, inPlace);
        await sweepDry(dry, shapes, kinds.length);
        disposeAll(Object.values(gradients));
        return { values: next, gradNorm: 0, weightNorm: 0 };
      }
      const gradNorm = await norm("gradients", gradients);
      const refused = (weightNorm: number): Applied => {
        disposeAll(Object.values(gradients));
        return { values, gradNorm, weightNorm };
      };
      if (!Number.isFinite(gradNorm)) return refused(Number.NaN);
      const before = await parametersOf({ values, gradients, scalars }, gradNorm, options, known);
      if (!isSurelyFinite(before)) {
        const weightNorm = normOf(before.map((own) => adamwInPlace(own.arrays, own.scalars, false)));
        if (!Number.isFinite(weightNorm)) return refused(weightNorm);
      }
      const next = writable(values, inPlace);
      const stepped: number[] = [];
      for (const { name, arrays, scalars, bounds } of before) {
        const mine = Object.fromEntries(kinds.map((kind) => [kind, next[`${kind}/${name}`]]));
        const newSquares = adamwInPlace({ ...arrays, ...mine }, scalars, true);
        known.set(next[`weights/${name}`]!, { ...bounds, weights: Math.sqrt(newSquares) });
        stepped.push(newSquares);
      }
      disposeAll(Object.values(gradients));
      return { values: next, gradNorm, weightNorm: await norm("weights", next, stepped) };
    },
    lend: (values) => {
      for (const value of values) if (own.delete(value)) lent.add(value);
    },
    adopt: (values) => {
      if (currentDryRun() !== undefined) return; // a plan follows what steps make
      for (const value of values) own.add(value);
    },
  };
}

/** As a sum in float32 would have it: beyond that range it is Infinity. */
export function normOf(squares: readonly number[]): number {
  const sum = squares.reduce((a, b) => a + b, 0);
  return sum <= LARGEST ? Math.sqrt(sum) : Number.isNaN(sum) ? Number.NaN : Number.POSITIVE_INFINITY;
}

/** As `clipFactor` of the graph: each op rounded to float32. */
function clipFactor(gradNorm: number, clipNorm: number): number {
  const { fround } = Math;
  return Math.min(fround(fround(clipNorm) / fround(fround(gradNorm) + fround(1e-6))), 1);
}

export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

function copyOf(value: Value, shape: readonly number[]): Value {
  const dry = currentDryRun();
  if (dry !== undefined) return dry.value({ shape, dtype: "float32" }, true);
  const data = "data" in value ? (value.data as Float32Array) : (value as Float32Array);
  return data.slice();
}

/**
 * Another array with the memory of one that is not valid any more: whoever still reads that one finds it empty. A plan counts a
 * copy here: the first step makes one, of weights that were given.
 */
const renewed = (value: Value, shape: readonly number[]): Value =>
  currentDryRun() === undefined ? movedArray(value as Float32Array) : copyOf(value, shape);

async function normHere(
  kind: "gradients" | "weights",
  values: Values,
  squares: readonly number[] = [],
): Promise<number> {
  if (squares.length > 0) return normOf(squares);
  const sums: number[] = [];
  for (const [key, value] of Object.entries(values))
    if (key.startsWith(`${kind}/`)) sums.push(sumOfSquares((await hostArray(value)) as Float32Array));
  return normOf(sums);
}

/** @param given - see `stepScalars` */
export function scalarsOf(
  optimizer: OptimizerConfig,
  shape: readonly number[],
  given: Readonly<Record<string, number>>,
  gradNorm: number,
): AdamwScalars {
  return {
    lr: given.adamw_lr!,
    betas: optimizer.betas,
    correction1: given.correction1!,
    correction2: given.correction2!,
    clip: optimizer.clip_norm === null ? 1 : clipFactor(gradNorm, optimizer.clip_norm),
    decay: decayOf(optimizer, shape),
    teacherRate: given.teacher_rate ?? 0,
  };
}

async function parametersOf(
  { values, gradients, scalars }: Omit<ApplyRequest, "inPlace">,
  gradNorm: number,
  { model, optimizer }: GraphOptions,
  known: WeakMap<Value, AdamwBounds>,
): Promise<Parameter[]> {
  const largest = 2 * gradNorm; // twice: it may have been summed in float32
  const parameters: Parameter[] = [];
  for (const [name, shape] of Object.entries(model.shapes)) {
    const read = async (key: string): Promise<Float32Array> =>
      (await hostArray(values[key] ?? gradients[key]!)) as Float32Array;
    const arrays = {
      weights: await read(`weights/${name}`),
      gradients: await read(`gradients/${name}`),
      moment1: await read(`moment1/${name}`),
      moment2: await read(`moment2/${name}`),
      teacher: values[`teacher/${name}`] === undefined ? null : await read(`teacher/${name}`),
    };
    const own = scalarsOf(optimizer, shape, scalars, gradNorm);
    const before = known.get(values[`weights/${name}`]!) ?? boundsOf(arrays);
    parameters.push({
      name,
      arrays,
      size: sizeOf(shape),
      scalars: own,
      bounds: boundsAfter(before, largest, own),
    });
  }
  return parameters;
}

export const boundsOf = ({ weights, moment1, moment2 }: AdamwArrays): AdamwBounds => ({
  weights: largestOf(weights),
  moment1: largestOf(moment1),
  moment2: largestOf(moment2),
});

/** Told from bounds of each parameter's elements alone; a step that is not sure to be finite has to be tried. */
export const isSurelyFinite = (
  parameters: readonly { readonly size: number; readonly bounds: AdamwBounds }[],
): boolean =>
  parameters.reduce((sum, { size, bounds }) => sum + size * bounds.weights ** 2, 0) <= LARGEST &&
  parameters.every(({ bounds }) => bounds.moment1 <= LARGEST && bounds.moment2 <= LARGEST);

/** Bytes that a step moves: gradients read for their norm, then all read and the state written. */
function sweepDry(dry: DryRun, shapes: Shapes, kinds: number): Promise<void> {
  const elements = Object.values(shapes).reduce((sum, shape) => sum + sizeOf(shape), 0);
  return dry.swept(4 * elements * (1 + (kinds + 1) + kinds));
}
