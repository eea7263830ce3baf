import { ConfigError } from "../core/index.js";
import { disposeValues, isHostArray, readValue, type Value } from "../tensor/index.js";
import { momentNames, type Shapes } from "./optimizer.js";
import type { OptimizerConfig } from "./optimizer-config.js";

/** Everything an update needs besides its batch: what a checkpoint saves. */
export interface LearnerState {
  /** Updates made; also those whose batch had no signal. */
  readonly step: number;
  /** Optimizer steps made: AdamW's t. */
  readonly optimizerSteps: number;
  /** `weights/`, `moment1/`, `moment2/`, `momentum/`, `teacher/` (SDPO), `reference/` (KL term), each by parameter. */
  readonly tensors: Readonly<Record<string, StateTensor>>;
}

export interface StateTensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/**
 * The state while it is in use: values may live on a device. Replaced as a whole; only an update that cannot be taken
 * back may replace values in their record.
 */
export interface LiveState {
  readonly step: number;
  readonly optimizerSteps: number;
  readonly values: Record<string, Value>;
}

export interface StateParts {
  readonly shapes: Shapes;
  readonly optimizer: OptimizerConfig;
  readonly withTeacher: boolean;
  readonly withReference: boolean;
}

/** Names and shapes of all tensors of the state. */
export function stateShapes({ shapes, optimizer, withTeacher, withReference }: StateParts): Shapes {
  const parameter = (key: string): string => key.slice(key.indexOf("/") + 1);
  const copies = ["weights", ...(withTeacher ? ["teacher"] : []), ...(withReference ? ["reference"] : [])];
  const keys = [
    ...copies.flatMap((copy) => Object.keys(shapes).map((name) => `${copy}/${name}`)),
    ...momentNames(optimizer, shapes),
  ];
  return Object.fromEntries(keys.map((key) => [key, shapes[parameter(key)]!]));
}

const elements = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** The state before the first update: moments 0; teacher and reference are the initial weights. */
export function initialState(weights: Readonly<Record<string, Float32Array>>, parts: StateParts): LiveState {
  const values: Record<string, Value> = {};
  for (const [key, shape] of Object.entries(stateShapes(parts))) {
    const [kind, name] = [key.slice(0, key.indexOf("/")), key.slice(key.indexOf("/") + 1)];
    if (kind === "moment1" || kind === "moment2" || kind === "momentum") {
      values[key] = new Float32Array(elements(shape));
      continue;
    }
    const weight = weights[name];
    if (weight?.length !== elements(shape))
      throw new ConfigError({
        at: `weights: ${name}`,
        got: weight?.length ?? null,
        need: `${elements(shape)} numbers`,
      });
    values[key] = weight;
  }
  return { step: 0, optimizerSteps: 0, values };
}

/** A copy of the state in host memory, each tensor in a buffer of its own: nobody else holds it. */
export async function hostState(state: LiveState, parts: StateParts): Promise<LearnerState> {
  const tensors: Record<string, StateTensor> = {};
  for (const [key, shape] of Object.entries(stateShapes(parts))) {
    const value = state.values[key]!;
    const data = (await hostArray(value)) as Float32Array;
    const isLive = isHostArray(value) || "data" in value;
    tensors[key] = { shape, data: isLive ? data.slice() : data };
  }
  return { step: state.step, optimizerSteps: state.optimizerSteps, tensors };
}

/** @throws ConfigError that names the tensor which is missing or has another shape: a checkpoint of another run */
export function liveState(state: LearnerState, parts: StateParts): LiveState {
  const values: Record<string, Value> = {};
  for (const [key, shape] of Object.entries(stateShapes(parts))) {
    const found = state.tensors[key];
    if (found === undefined || found.shape.join() !== shape.join()) {
      throw new ConfigError({
        at: `checkpoint: ${key}`,
        got: found?.shape ?? null,
        need: `a tensor of shape [${shape.join(", ")}]`,
        fix: "The checkpoint belongs to another policy, objective or optimizer.",
      });
    }
    values[key] = found.data;
  }
  return { step: state.step, optimizerSteps: state.optimizerSteps, values };
}

/** A value's elements in host memory. */
export const hostArray = readValue;

/** Gives back the device memory of values that are no longer in use. */
export const disposeAll = disposeValues;
