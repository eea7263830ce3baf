import { type DecoderConfig, decodingSpecs, weightSpecs } from "../policy/index.js";
import { type CompiledFunction, compile, type Value } from "../tensor/index.js";
import {
  keyName,
  layOutFunction,
  prefillFunction,
  prefillSpecs,
  stepFunction,
  stepSpecs,
  valueName,
} from "./decode-graphs.js";
import {
  asFloats,
  type KeyValueCache,
  PREFILL_ROWS,
  type Prefilled,
  padPrompts,
  type RunnerOptions,
  releaseAll,
} from "./key-value-cache.js";
import { createSlotRows, type SlotRows } from "./slot-rows.js";

/**
 * Cache lengths that the decoding step is compiled for: a step reads as much cache as it is compiled for, so it runs in
 * the shortest that holds its longest sequence. All but the longest are multiples of 32, whole vectors of any CPU.
 * @returns ascending; the last is `longest`
 */
export function cacheLengths(longest: number): number[] {
  const lengths: number[] = [];
  for (let length = 32; length < longest; length += length < 128 ? 32 : length < 512 ? 64 : length / 4)
    lengths.push(Math.floor(length / 32) * 32);
  return [...lengths, longest];
}

/** The step's graph for each cache length, compiled when it is first needed. */
function stepGraphs(options: RunnerOptions): {
  at(length: number): Promise<CompiledFunction>;
  dispose(): Promise<void>;
} {
  const { config, shape, provider, threads } = options;
  const graphs = new Map<number, Promise<CompiledFunction>>();
  return {
    at: (length) => {
      const graph =
        graphs.get(length) ??
        compile(stepFunction(config), stepSpecs(config, { ...shape, cacheLength: length }), {
          provider,
          deterministic: true,
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

const cacheNames = (config: DecoderConfig): string[] =>
  Array.from({ length: config.layers }, (_, layer) => [keyName(layer), valueName(layer)]).flat();

/**
 * A cache in JavaScript arrays, read by the graph without a copy. The graph returns only each new token's keys and values,
 * which are written in here: returning the whole cache would copy it every token.
 */
export async function createHostCache(runner: RunnerOptions): Promise<KeyValueCache> {
  const { config, shape, provider, threads } = runner;
  const { slots, promptLength, cacheLength } = shape;
  const { keyValueHeads, headDim } = config;
  const options = { provider, deterministic: true, ...(threads === undefined ? {} : { threads }) };
  const prefillGraph = await compile(prefillFunction(config), prefillSpecs(config, shape), {
    ...options,
    name: "prefill",
  });
  const layOut = await compile(layOutFunction(config), weightSpecs(config), {
    ...options,
    name: "lay out weights",
    keepOnDevice: Object.keys(decodingSpecs(config)),
  });
  const steps = stepGraphs(runner);
  const lengths = cacheLengths(cacheLength);
  const names = cacheNames(config);
  const rows: SlotRows[] = names.map(() => createSlotRows(slots * keyValueHeads, cacheLength, headDim));
  let weights: Readonly<Record<string, Value>> = {};
  let laidOut: Readonly<Record<string, Value>> = {};

  /** Positions below this hold what some slot has written. */
  let used = 0;

  /** Makes room for positions below `needed`, and no more. */
  const resize = (needed: number): number => {
    const length = lengths.find((candidate) => candidate >= needed)!;
    for (const cache of rows) cache.resize(length, used);
    return length;
  };

  return {
    prefillRows: PREFILL_ROWS,
    useWeights: async (next) => {
      releaseAll(laidOut);
      weights = next;
      laidOut = await layOut.run({ ...next });
    },
    prefill: async (prompts): Promise<Prefilled> => {
      const { ids, last, lengths: used } = padPrompts(prompts, promptLength);
      const outputs = await prefillGraph.run({ ...weights, ids, last });
      const keyValues = names.map((name) => outputs[name] as Value);
      return { logits: asFloats(outputs.logits), lengths: used, keyValues, release: () => {} };
    },
    assign: async (prefilled, row, targets) => {
      const length = prefilled.lengths[row]!;
      if (length > rows[0]!.length) resize(length);
      used = Math.max(used, length);
      rows.forEach((cache, index) => {
        const source = asFloats(prefilled.keyValues[index]); // [N, K, P, E]
        for (let head = 0; head < keyValueHeads; head++) {
          const start = (row * keyValueHeads + head) * promptLength * headDim;
          const entries = source.subarray(start, start + length * headDim);
          for (const slot of targets) cache.write(slot * keyValueHeads + head, entries);
        }
      });
    },
    step: async (ids, positions) => {
      const longest = positions.reduce((a, b) => Math.max(a, b));
      const graph = await steps.at(resize(longest + 1));
      used = longest + 1;
      const cache = Object.fromEntries(names.map((name, index) => [name, rows[index]!.data()]));
      const outputs = await graph.run({ ...laidOut, ...cache, ids, positions });
      rows.forEach((entries, index) => {
        entries.writeColumn(asFloats(outputs[names[index]!]), positions, keyValueHeads); // [S, K, E]
      });
      return { logits: asFloats(outputs.logits) };
    },
    dispose: async () => {
      releaseAll(laidOut);
      await prefillGraph.dispose();
      await layOut.dispose();
      await steps.dispose();
    },
  };
}
