/** The decoding step on cpu: one graph for each cache length, compiled when it is first needed. */
import { decodingSpecs, weightSpecs } from "../policy/index.js";
import { type CompiledFunction, compile, type TracedFunction, type Value } from "../tensor/index.js";
import {
  layOutFunction,
  type Specs,
  standingStepFunction,
  standingStepSpecs,
  stepFunction,
  stepSpecs,
} from "./decode-graphs.js";
import { type RunnerOptions, releaseAll } from "./key-value-cache.js";

type Values = Readonly<Record<string, Value>>;

export interface StepGraphs {
  useWeights(weights: Values): Promise<void>;
  /** One step at a cache of this length; `feeds` are ids, positions and the cache. */
  run(length: number, feeds: Values): Promise<Record<string, Value>>;
  dispose(): Promise<void>;
}

function graphsByLength(
  { provider, threads, base = {} }: RunnerOptions,
  fn: TracedFunction,
  specsAt: (cacheLength: number) => Specs,
): { at(length: number): Promise<CompiledFunction>; dispose(): Promise<void> } {
  const graphs = new Map<number, Promise<CompiledFunction>>();
  return {
    at: (length) => {
      const graph =
        graphs.get(length) ??
        compile(fn, specsAt(length), {
          provider,
          deterministic: true,
          bound: base,
          name: `decode ${length}`,
          ...(threads === undefined ? {} : { threads }),
        });
      graphs.set(length, graph);
      return graph;
    },
    dispose: async () => {
      for (const graph of graphs.values()) await (await graph).dispose();
    },
  };
}

/** Steps on a copy of the weights that is laid out for them: the fastest, for a policy that is small. */
export async function laidOutSteps(runner: RunnerOptions): Promise<StepGraphs> {
  const { config, shape, provider, threads } = runner;
  const graphs = graphsByLength(runner, stepFunction(config), (cacheLength) =>
    stepSpecs(config, { ...shape, cacheLength }),
  );
  const layOut = await compile(layOutFunction(config), weightSpecs(config), {
    provider,
    deterministic: true,
    name: "lay out weights",
    keepOnDevice: Object.keys(decodingSpecs(config)),
    ...(threads === undefined ? {} : { threads }),
  });
  let laidOut: Values = {};
  return {
    useWeights: async (weights) => {
      releaseAll(laidOut);
      laidOut = await layOut.run({ ...weights });
    },
    run: async (length, feeds) => (await graphs.at(length)).run({ ...laidOut, ...feeds }),
    dispose: async () => {
      releaseAll(laidOut);
      await layOut.dispose();
      await graphs.dispose();
    },
  };
}

/** Steps on the base as it stands, with what is learned beside it: no second copy of anything. */
export function standingSteps(runner: RunnerOptions): StepGraphs {
  const { config, shape, base = {} } = runner;
  const graphs = graphsByLength(runner, standingStepFunction(config), (cacheLength) =>
    standingStepSpecs(config, { ...shape, cacheLength }),
  );
  const own = Object.keys(weightSpecs(config)).filter((name) => base[name] === undefined);
  let weights: Values = {};
  return {
    useWeights: async (next) => {
      weights = Object.fromEntries(own.map((name) => [name, next[name]!]));
    },
    run: async (length, feeds) => (await graphs.at(length)).run({ ...weights, ...feeds }),
    dispose: () => graphs.dispose(),
  };
}
