/** Prompts run part by part, on the weights as they stand: one compiled shape for prompts of any length. */

import { type DecoderConfig, decodeChunk, weightSpecs } from "../policy/index.js";
import { type CompiledFunction, compile, type TracedFunction, type Value } from "../tensor/index.js";
import type * as tf from "../tensor/tfjs.js";
import {
  cacheLengths,
  cacheNames,
  cacheOf,
  cacheSpecs,
  namedKeyValues,
  type Specs,
} from "./decode-graphs.js";
import { disposeGraphs, type KeptGraphs, keptGraph } from "./kept-graphs.js";
import { asFloats, type Prefilled, type RunnerOptions } from "./key-value-cache.js";
import { createPrefixStore } from "./prefix-store.js";

/**
 * Tokens of a part. Reading the weights once serves so many tokens that more would not be faster (measured: docs/sampling.md);
 * fewer would share shorter prefixes, and decode between parts more often.
 */
export const PART_TOKENS = 64;

/** Keys and values that are kept for prompts which begin as one before them. */
const PREFIX_BYTES = 256 * 2 ** 20;

/** One part of one prompt: ids [1, C], its start [1] and the cache before it, to the part's keys and values. */
const partFunction =
  (config: DecoderConfig, hasPast: boolean): TracedFunction =>
  (inputs) => {
    const cache = hasPast ? cacheOf(inputs, config) : null;
    const { ids, starts } = inputs;
    return namedKeyValues(
      decodeChunk(inputs, ids as tf.Tensor2D, starts as tf.Tensor1D, cache, config).keyValues,
    );
  };

const partSpecs = (config: DecoderConfig, past: number): Specs => ({
  ...weightSpecs(config),
  ...(past > 0 ? cacheSpecs(config, { slots: 1, cacheLength: past }) : {}),
  ids: { shape: [1, PART_TOKENS], dtype: "int32" },
  starts: { shape: [1], dtype: "int32" },
});

export interface Prefill {
  /** Prompts that it takes at once. */
  readonly rows: number;
  useWeights(weights: Readonly<Record<string, Value>>): void;
  /** See `KeyValueCache.prefill`. */
  run(prompts: readonly (readonly number[])[], pause: () => Promise<void>): Promise<Prefilled>;
  dispose(): Promise<void>;
}

/**
 * Prefill part by part, one prompt at a time. The last token of a prompt is left to the first decoding step, so that no
 * part needs the head. A part that another prompt began with is not computed again: the same tokens in the same compiled
 * shape give the same bits, so what is reused changes no number.
 */
export function createPartPrefill(runner: RunnerOptions): Prefill {
  const { config, shape, provider, threads, base = {} } = runner;
  const { keyValueHeads, headDim } = config;
  const names = cacheNames(config);
  const lengths = [0, ...cacheLengths(shape.promptLength)];
  const graphs: KeptGraphs<number> = new Map();
  const store = createPrefixStore(PREFIX_BYTES);
  let weights: Readonly<Record<string, Value>> = {};

  const graphAt = (past: number): Promise<CompiledFunction> =>
    keptGraph(graphs, past, () =>
      compile(partFunction(config, past > 0), partSpecs(config, past), {
        provider,
        deterministic: true,
        bound: base,
        name: `prompt part after ${past}`,
        ...(threads === undefined ? {} : { threads }),
      }),
    );

  /** Keys and values [K, C, E] of the part at `start`, for each cache tensor. */
  const compute = async (
    ids: readonly number[],
    start: number,
    before: readonly Float32Array[],
    width: number,
  ): Promise<Float32Array[]> => {
    const past = lengths.find((length) => length >= start)!;
    const graph = await graphAt(past);
    const padded = new Int32Array(PART_TOKENS);
    padded.set(ids);
    const cache =
      past === 0
        ? {}
        : Object.fromEntries(names.map((name, i) => [name, rowsOf(before[i]!, width, past, start)]));
    const outputs = await graph.run({ ...weights, ...cache, ids: padded, starts: Int32Array.of(start) });
    return names.map((name) => asFloats(outputs[name]));
  };

  /** The first `count` positions of every head, [K, width, E] to [K, length, E]. */
  const rowsOf = (from: Float32Array, width: number, length: number, count: number): Float32Array => {
    const rows = new Float32Array(keyValueHeads * length * headDim);
    for (let head = 0; head < keyValueHeads; head++) {
      const start = head * width * headDim;
      rows.set(from.subarray(start, start + count * headDim), head * length * headDim);
    }
    return rows;
  };

  const writePart = (to: Float32Array, width: number, start: number, part: Float32Array): void => {
    const size = PART_TOKENS * headDim;
    for (let head = 0; head < keyValueHeads; head++)
      to.set(part.subarray(head * size, (head + 1) * size), (head * width + start) * headDim);
  };

  return {
    rows: 1,
    useWeights: (next) => {
      const own = Object.keys(weightSpecs(config)).filter((name) => base[name] === undefined);
      weights = Object.fromEntries(own.map((name) => [name, next[name]!]));
      store.clear();
    },
    run: async ([prompt], pause) => {
      const ids = prompt!.slice(0, -1);
      const width = Math.ceil(ids.length / PART_TOKENS) * PART_TOKENS;
      const keyValues = names.map(() => new Float32Array(keyValueHeads * width * headDim));
      let before = 0;
      for (let start = 0; start < ids.length; start += PART_TOKENS) {
        const part = ids.slice(start, start + PART_TOKENS);
        const isWhole = part.length === PART_TOKENS;
        const stored = isWhole ? store.find(before, part) : undefined;
        const fresh = stored?.keyValues ?? (await compute(part, start, keyValues, width));
        fresh.forEach((values, i) => {
          writePart(keyValues[i]!, width, start, values);
        });
        if (isWhole) before = stored?.id ?? store.add(before, part, fresh);
        if (stored === undefined && start + PART_TOKENS < ids.length) await pause();
      }
      return { logits: null, lengths: [ids.length], width, keyValues, release: () => {} };
    },
    dispose: () => disposeGraphs(graphs),
  };
}
