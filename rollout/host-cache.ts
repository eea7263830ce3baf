import { compile, type Value } from "../tensor/index.js";
import {
  cacheSpecs,
  keyName,
  prefillFunction,
  prefillSpecs,
  stepFunction,
  stepSpecs,
  valueName,
} from "./decode-graphs.js";
import {
  asFloats,
  type KeyValueCache,
  type Prefilled,
  padPrompts,
  type RunnerOptions,
} from "./key-value-cache.js";

/**
 * A cache in JavaScript arrays, read by the graph without a copy. The graph returns only each new token's keys and values,
 * which are written in here: returning the whole cache would copy it every token.
 */
export async function createHostCache({
  config,
  shape,
  provider,
  threads,
}: RunnerOptions): Promise<KeyValueCache> {
  const { slots, promptLength, cacheLength } = shape;
  const { keyValueHeads, headDim } = config;
  const options = { provider, deterministic: true, ...(threads === undefined ? {} : { threads }) };
  const prefillGraph = await compile(prefillFunction(config), prefillSpecs(config, shape), {
    ...options,
    name: "prefill",
  });
  const stepGraph = await compile(stepFunction(config), stepSpecs(config, shape), {
    ...options,
    name: "decode",
  });
  const names = Array.from({ length: config.layers }, (_, layer) => [
    keyName(layer),
    valueName(layer),
  ]).flat();
  const size = slots * keyValueHeads * cacheLength * headDim;
  const cache = Object.fromEntries(
    Object.keys(cacheSpecs(config, shape)).map((name) => [name, new Float32Array(size)]),
  );

  /** Copies one token's heads [K, E] into a slot. */
  const writeToken = (
    name: string,
    slot: number,
    position: number,
    source: Float32Array,
    from: number,
  ): void => {
    const target = cache[name]!;
    for (let head = 0; head < keyValueHeads; head++) {
      const at = ((slot * keyValueHeads + head) * cacheLength + position) * headDim;
      const start = from + head * headDim;
      for (let i = 0; i < headDim; i++) target[at + i] = source[start + i]!;
    }
  };

  return {
    prefill: async (weights, prompts): Promise<Prefilled> => {
      const { ids, last, lengths } = padPrompts(prompts, promptLength);
      const outputs = await prefillGraph.run({ ...weights, ids, last });
      const keyValues = names.map((name) => outputs[name] as Value);
      return { logits: asFloats(outputs.logits), lengths, keyValues, release: () => {} };
    },
    assign: async (prefilled, row, targets) => {
      const length = prefilled.lengths[row]!;
      names.forEach((name, index) => {
        const source = asFloats(prefilled.keyValues[index]); // [N, K, P, E]
        for (let head = 0; head < keyValueHeads; head++) {
          const start = (row * keyValueHeads + head) * promptLength * headDim;
          const heads = source.subarray(start, start + length * headDim);
          for (const slot of targets)
            cache[name]!.set(heads, (slot * keyValueHeads + head) * cacheLength * headDim);
        }
      });
    },
    step: async (weights, ids, positions) => {
      const outputs = await stepGraph.run({ ...weights, ...cache, ids, positions });
      for (const name of names) {
        const source = asFloats(outputs[name]); // [S, K, E]
        for (let slot = 0; slot < slots; slot++)
          writeToken(name, slot, positions[slot]!, source, slot * keyValueHeads * headDim);
      }
      return asFloats(outputs.logits);
    },
    dispose: async () => {
      await prefillGraph.dispose();
      await stepGraph.dispose();
    },
  };
}
