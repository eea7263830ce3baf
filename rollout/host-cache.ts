import { cacheLengths, cacheNames, fewCacheLengths } from "./decode-graphs.js";
import { asFloats, type KeyValueCache, type RunnerOptions } from "./key-value-cache.js";
import { createPartPrefill } from "./prompt-parts.js";
import { createSlotRows, type SlotRows } from "./slot-rows.js";
import { laidOutSteps, liveSteps, standingSteps } from "./step-graphs.js";
import { createWholePrefill } from "./whole-prompts.js";

/** Prompts up to this length run whole; a small policy is then faster, and holds little for it. */
const LONGEST_WHOLE = 512;

/**
 * A cache in JavaScript arrays, read by the graph without a copy. The graph returns only each new token's keys and values,
 * which are written in here: returning the whole cache would copy it every token.
 */
export async function createHostCache(runner: RunnerOptions): Promise<KeyValueCache> {
  const { config, shape, base, int8, isLive = false } = runner;
  const { slots, promptLength, cacheLength } = shape;
  const { keyValueHeads, headDim } = config;
  const isWhole = base === undefined && promptLength <= LONGEST_WHOLE && !isLive;
  const prefill = isWhole ? await createWholePrefill(runner) : createPartPrefill(runner);
  const laidOut = isLive ? liveSteps : laidOutSteps;
  const steps = base === undefined ? await laidOut(runner) : standingSteps(runner);
  const lengths = (int8 === undefined ? cacheLengths : fewCacheLengths)(cacheLength);
  const names = cacheNames(config);
  const rows: SlotRows[] = names.map(() => createSlotRows(slots * keyValueHeads, lengths[0]!, headDim));

  /** Positions below this hold what some slot has written. */
  let used = 0;

  /** Makes room for positions below `needed`, and no more. */
  const resize = (needed: number): number => {
    const length = lengths.find((candidate) => candidate >= needed)!;
    for (const cache of rows) cache.resize(length, used);
    return length;
  };

  return {
    prefillRows: prefill.rows,
    useWeights: async (next) => {
      prefill.useWeights(next);
      await steps.useWeights(next);
    },
    prefill: (prompts, pause) => prefill.run(prompts, pause),
    assign: async ({ lengths: filled, width, keyValues }, row, targets) => {
      const length = filled[row]!;
      if (length > rows[0]!.length) resize(length);
      used = Math.max(used, length);
      rows.forEach((cache, index) => {
        const source = asFloats(keyValues[index]); // [N, K, width, E]
        for (let head = 0; head < keyValueHeads; head++) {
          const start = (row * keyValueHeads + head) * width * headDim;
          const entries = source.subarray(start, start + length * headDim);
          for (const slot of targets) cache.write(slot * keyValueHeads + head, entries);
        }
      });
    },
    step: async (ids, positions, draws) => {
      const longest = positions.reduce((a, b) => Math.max(a, b));
      const length = resize(longest + 1);
      used = longest + 1;
      const count = steps.slots(draws.findLastIndex((draw) => draw !== null) + 1);
      const [firstIds, firstPositions] = [ids.subarray(0, count), positions.subarray(0, count)];
      const size = count * keyValueHeads * length * headDim;
      const cache = Object.fromEntries(
        names.map((name, index) => [name, rows[index]!.data().subarray(0, size)]),
      );
      const outputs = await steps.run(count, length, { ...cache, ids: firstIds, positions: firstPositions });
      rows.forEach((entries, index) => {
        entries.writeColumn(asFloats(outputs[names[index]!]), firstPositions, keyValueHeads); // [S, K, E]
      });
      return { logits: asFloats(outputs.logits) };
    },
    dispose: async () => {
      await prefill.dispose();
      await steps.dispose();
    },
  };
}
