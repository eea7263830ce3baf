/**
 * One optimizer step of a policy on a GPU whose moments and self-teacher stand in host memory: parameter by parameter its
 * gradients and weights come to the host, AdamW is taken there, and the new weights go back.
 */
import { collectGarbage, currentDryRun, placeOn, type Value } from "../../tensor/index.js";
import { type Applied, type ApplyRequest, HalfSteppedError } from "../computation.js";
import type { GraphOptions } from "../graphs.js";
import {
  type AdamwArrays,
  type AdamwBounds,
  type AdamwScalars,
  adamwInPlace,
  boundsAfter,
  sumOfSquares,
} from "../host-adamw.js";
import { boundsOf, type HostStep, isSurelyFinite, normOf, scalarsOf, sizeOf } from "../host-step.js";
import { disposeAll, hostArray } from "../learner-state.js";
import { hasTeacher } from "../objective-config.js";

type HostKind = "moment1" | "moment2" | "teacher";

/** What is known of a parameter before its step. */
interface ParameterStep {
  readonly name: string;
  readonly scalars: AdamwScalars;
  readonly size: number;
  /** Of what the step will make of it. */
  readonly bounds: AdamwBounds;
}

export function offloadedStep(options: GraphOptions): HostStep {
  const { optimizer } = options;
  const { shapes } = options.model;
  const kinds: HostKind[] = hasTeacher(options.objective)
    ? ["moment1", "moment2", "teacher"]
    : ["moment1", "moment2"];
  /** Arrays that nobody else holds. */
  const own = new WeakSet<Value>();
  /** Of the parameters that this made, by their weights. */
  const known = new WeakMap<Value, AdamwBounds>();

  const gradientNorms = async ({ gradients }: ApplyRequest): Promise<Map<string, number>> => {
    const norms = new Map<string, number>();
    for (const name of Object.keys(shapes)) {
      const gradient = await floats(gradients[`gradients/${name}`]!);
      norms.set(name, Math.sqrt(sumOfSquares(gradient)));
      await leftBehind(gradient.byteLength);
    }
    return norms;
  };

  const parameterSteps = async (
    request: ApplyRequest,
    norms: ReadonlyMap<string, number>,
  ): Promise<ParameterStep[]> => {
    const gradNorm = normOf([...norms.values()].map((norm) => norm ** 2));
    const steps: ParameterStep[] = [];
    for (const [name, shape] of Object.entries(shapes)) {
      const scalars = scalarsOf(optimizer, shape, request.scalars, gradNorm);
      const before = known.get(request.values[`weights/${name}`]!) ?? boundsOf(await arraysOf(name, request));
      steps.push({
        name,
        scalars,
        size: sizeOf(shape),
        bounds: boundsAfter(before, norms.get(name)!, scalars),
      });
    }
    return steps;
  };

  /** Steps one parameter: its new values stand in `next`, its gradients are given up. @returns the squares of its new weights */
  const stepParameter = async (
    { name, scalars, bounds }: ParameterStep,
    request: ApplyRequest,
    next: Record<string, Value>,
  ): Promise<number> => {
    const arrays = await arraysOf(name, request);
    for (const kind of kinds) {
      const key = `${kind}/${name}`;
      if (!request.inPlace || !own.has(next[key]!)) next[key] = (arrays[kind] as Float32Array).slice();
      own.add(next[key]!);
    }
    const written = Object.fromEntries(kinds.map((kind) => [kind, next[`${kind}/${name}`]]));
    const squares = adamwInPlace({ ...arrays, ...written }, scalars, true);
    const key = `weights/${name}`;
    const spec = { shape: shapes[name]!, dtype: "float32" } as const;
    const placed = await placeOn("webgpu", { [key]: arrays.weights }, { [key]: spec });
    if (request.inPlace) disposeAll([next[key]!]);
    next[key] = placed[key]!;
    known.set(next[key], { ...bounds, weights: Math.sqrt(squares) });
    disposeAll([request.gradients[`gradients/${name}`]!]);
    return squares;
  };

  return {
    apply: async (request) => {
      if (currentDryRun() !== undefined) return dryStep(request, options);
      const refused = (gradNorm: number, weightNorm: number): Applied => {
        disposeAll(Object.values(request.gradients));
        return { values: request.values, gradNorm, weightNorm };
      };
      const norms = await gradientNorms(request);
      const gradNorm = normOf([...norms.values()].map((norm) => norm ** 2));
      if (!Number.isFinite(gradNorm)) return refused(gradNorm, Number.NaN);
      const steps = await parameterSteps(request, norms);
      if (!isSurelyFinite(steps)) {
        const weightNorm = await triedNorm(steps, request);
        if (!Number.isFinite(weightNorm)) return refused(gradNorm, weightNorm);
      }
      const next = request.inPlace ? request.values : { ...request.values };
      const squares: number[] = [];
      for (const step of steps) {
        try {
          squares.push(await stepParameter(step, request, next));
        } catch (cause) {
          throw request.inPlace ? new HalfSteppedError(cause) : cause;
        }
        await leftBehind(8 * step.size);
      }
      return { values: next, gradNorm, weightNorm: normOf(squares) };
    },
    lend: (values) => {
      for (const value of values) own.delete(value);
    },
    adopt: (values) => {
      for (const value of values) own.add(value);
    },
  };
}

const floats = async (value: Value): Promise<Float32Array> => (await hostArray(value)) as Float32Array;

/** A parameter's arrays; those that stood on the GPU are copies of it. */
async function arraysOf(name: string, { values, gradients }: ApplyRequest): Promise<AdamwArrays> {
  const teacher = values[`teacher/${name}`];
  return {
    weights: await floats(values[`weights/${name}`]!),
    gradients: await floats(gradients[`gradients/${name}`]!),
    moment1: await floats(values[`moment1/${name}`]!),
    moment2: await floats(values[`moment2/${name}`]!),
    teacher: teacher === undefined ? null : await floats(teacher),
  };
}

/** Norm of the weights that the step would give; nothing is written. */
async function triedNorm(steps: readonly ParameterStep[], request: ApplyRequest): Promise<number> {
  const squares: number[] = [];
  for (const { name, scalars, size } of steps) {
    squares.push(adamwInPlace(await arraysOf(name, request), scalars, false));
    await leftBehind(8 * size);
  }
  return normOf(squares);
}

/** As `stepParameter` does to the GPU's memory; host memory is counted by the plan. */
async function dryStep(
  { values, gradients, inPlace }: ApplyRequest,
  { model }: GraphOptions,
): Promise<Applied> {
  const next = inPlace ? values : { ...values };
  for (const [name, shape] of Object.entries(model.shapes)) {
    const key = `weights/${name}`;
    const stepped = currentDryRun()!.value({ shape, dtype: "float32" }, true);
    await currentDryRun()!.swept(0);
    if (inPlace) disposeAll([next[key]!]);
    next[key] = stepped;
    disposeAll([gradients[`gradients/${name}`]!]);
  }
  return { values: next, gradNorm: 0, weightNorm: 0 };
}

/** Copies of the GPU's memory that may wait for the collector: V8 lets them stand until it is told of them. */
export const UNCOLLECTED_BYTES = 2 ** 30;
let uncollected = 0;

async function leftBehind(bytes: number): Promise<void> {
  uncollected += bytes;
  if (uncollected < UNCOLLECTED_BYTES) return;
  uncollected = 0;
  await new Promise((resolve) => setImmediate(resolve)); // what this turn has looked at cannot be collected in it
  collectGarbage();
}
