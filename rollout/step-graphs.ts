/** The decoding step on cpu, compiled for few shapes. */
import { type WeightLayout, weightSpecs } from "../policy/index.js";
import {
  type CompiledFunction,
  compile,
  isFileTensor,
  type TracedFunction,
  type Value,
} from "../tensor/index.js";
import {
  FEW_SLOTS,
  layoutFor,
  type Specs,
  standingStepFunction,
  standingStepSpecs,
  stepFunction,
  stepSpecs,
} from "./decode-graphs.js";
import { disposeGraphs, type KeptGraphs, keptGraph } from "./kept-graphs.js";
import type { RunnerOptions, RunnerShape } from "./key-value-cache.js";
import { laidOutWeights } from "./laid-out-weights.js";

/** Columns that a CPU multiplies at once: up to here a step of more slots takes hardly longer. */
export const VECTOR = 16;

/** Graphs of an int8 base that stay open: each holds a packed copy of it. */
export const MOST_PACKED = 2;

type Values = Readonly<Record<string, Value>>;

export interface StepGraphs {
  useWeights(weights: Values): Promise<void>;
  /** How many slots a step computes, from the first on, so that the last one that is in use is among them. */
  slots(inUse: number): number;
  /** One step of the first `slots` slots at a cache of this length; `feeds` are ids, positions and the cache. */
  run(slots: number, length: number, feeds: Values): Promise<Record<string, Value>>;
  dispose(): Promise<void>;
}

/** Graphs by slots and cache length, compiled when they are first needed. @param most - that stay open; default: all */
function graphsByShape(
  { provider, threads, base = {}, int8 = {}, shape }: RunnerOptions,
  fn: TracedFunction,
  specsOf: (shape: RunnerShape) => Specs,
  most = Number.POSITIVE_INFINITY,
): { at(slots: number, cacheLength: number): Promise<CompiledFunction>; dispose(): Promise<void> } {
  const graphs: KeptGraphs<string> = new Map();
  return {
    at: async (slots, cacheLength) => {
      const key = `decode ${slots} x ${cacheLength}`;
      if (!graphs.has(key) && graphs.size >= most) {
        const [oldest, unused] = [...graphs][0]!;
        graphs.delete(oldest);
        await (await unused).dispose();
      }
      return keptGraph(graphs, key, () =>
        compile(fn, specsOf({ ...shape, slots, cacheLength }), {
          provider,
          deterministic: true,
          bound: { ...base, ...int8 },
          name: key,
          ...(threads === undefined ? {} : { threads }),
        }),
      );
    },
    dispose: () => disposeGraphs(graphs),
  };
}

/** Steps on a copy of the weights in one layout. */
interface LaidOutGraphs extends Pick<StepGraphs, "run" | "dispose"> {
  /** Lays them out. */
  useWeights(weights: Values): Promise<void>;
}

async function laidOutGraphs(runner: RunnerOptions, layout: WeightLayout): Promise<LaidOutGraphs> {
  const { config } = runner;
  const graphs = graphsByShape(runner, stepFunction(config, layout), (own) => stepSpecs(config, own, layout));
  const weights = await laidOutWeights(runner, layout);
  let laidOut: Values = {};
  return {
    useWeights: async (next) => {
      laidOut = {}; // or the old ones would stand beside the new
      laidOut = await weights.layOut(next);
    },
    run: async (slots, length, feeds) => (await graphs.at(slots, length)).run({ ...laidOut, ...feeds }),
    dispose: async () => {
      await weights.dispose();
      await graphs.dispose();
    },
  };
}

/** Steps on a copy of the weights that is laid out for them, always of all slots: the fastest, for a policy that is small. */
export async function laidOutSteps(runner: RunnerOptions): Promise<StepGraphs> {
  const { provider, shape } = runner;
  return {
    ...(await laidOutGraphs(runner, layoutFor(provider, shape.slots))),
    slots: () => shape.slots,
  };
}

/** As `laidOutSteps`, but of few slots where few are in use: those on a copy of their own, made when it is first needed. */
export async function liveSteps(runner: RunnerOptions): Promise<StepGraphs> {
  const { provider, shape } = runner;
  const whole = await laidOutGraphs(runner, layoutFor(provider, shape.slots));
  const layouts = new Map([[layoutFor(provider, shape.slots), whole]]);
  /** Of those that have the weights that are in use. */
  let current = new Set<LaidOutGraphs>();
  let weights: Values = {};
  const graphsFor = async (slots: number): Promise<LaidOutGraphs> => {
    const layout = layoutFor(provider, slots);
    const graphs = layouts.get(layout) ?? (await laidOutGraphs(runner, layout));
    layouts.set(layout, graphs);
    if (!current.has(graphs)) await graphs.useWeights(weights);
    current.add(graphs);
    return graphs;
  };
  return {
    useWeights: async (next) => {
      weights = next;
      current = new Set();
    },
    slots: (inUse) => fewSlots(inUse, [1, FEW_SLOTS, VECTOR], shape.slots),
    run: async (slots, length, feeds) => (await graphsFor(slots)).run(slots, length, feeds),
    dispose: async () => {
      for (const graphs of layouts.values()) await graphs.dispose();
    },
  };
}

/** The first of the counts, or of the doubles of the last, that holds so many. */
function fewSlots(inUse: number, counts: readonly number[], most: number): number {
  let slots = counts.find((count) => count >= inUse) ?? counts.at(-1)!;
  while (slots < inUse) slots *= 2;
  return Math.min(slots, most);
}

/** In the place of the base's own: those inputs are the int8 matrices. */
const specsOfMatrices = (int8: Values): Specs =>
  Object.fromEntries(
    Object.entries(int8).flatMap(([name, value]) => (isFileTensor(value) ? [[name, value.spec]] : [])),
  );

/**
 * Steps on the base as it stands, with what is learned beside it: no second copy of anything. A step of a large policy takes
 * long, so where few slots are in use it computes few: by 1, by 16, and by twice that. Their kernels may round differently.
 */
export function standingSteps(runner: RunnerOptions): StepGraphs {
  const { config, shape, base = {}, int8 = {} } = runner;
  const graphs = graphsByShape(
    runner,
    standingStepFunction(config),
    (own) => ({ ...standingStepSpecs(config, own), ...specsOfMatrices(int8) }),
    Object.keys(int8).length > 0 ? MOST_PACKED : undefined,
  );
  const own = Object.keys(weightSpecs(config)).filter((name) => base[name] === undefined);
  let weights: Values = {};
  return {
    useWeights: async (next) => {
      weights = Object.fromEntries(own.map((name) => [name, next[name]!]));
    },
    slots: (inUse) => fewSlots(inUse, [1, VECTOR], shape.slots),
    run: async (slots, length, feeds) => (await graphs.at(slots, length)).run({ ...weights, ...feeds }),
    dispose: () => graphs.dispose(),
  };
}
