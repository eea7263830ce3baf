/** How the slots of a sampler are divided among threads. */
import { isLargePolicy, parameterCount } from "../policy/index.js";
import type { EngineOptions } from "./lane.js";
import { VECTOR } from "./step-graphs.js";

/** Below this a lane's matrix products are too small to be worth a thread. */
const LEAST_SLOTS_OF_A_LANE = 4;
/** Parameters from which two threads share a product with one vector of columns well. */
const SHARED_PRODUCTS_FROM = 1e6;

/** Slots of each lane, and the threads that each computes with; one lane means the caller's own thread. */
export interface LaneShares {
  readonly slots: readonly number[];
  readonly threads: number;
}

/**
 * On cpu the slots of a small policy are divided among lanes of one thread each: a decoding step is a few hundred small ops,
 * which gain little from two threads for each op and double from one thread for each half of the slots. One lane with all
 * threads, which reads all weights once for all slots and holds the only copies of them:
 * - a large policy. CPU time of 512 tokens of 100M parameters, two lanes and one: 16 slots 4.3 to 5.7 and 3.4 to 3.8 s, 32 slots
 *   3.6 and 3.5 s; peak of memory (16 slots) 3.5 and 1.7 GB
 * - no more slots than a CPU multiplies at once: each lane would take hardly less time for its share. 1,024 tokens in 16 slots,
 *   10M parameters: 1.4 and 1.0 s; 1M: 0.45 and 0.28 s. 8,192 tokens in 128 slots, 10M: 6.0 and 6.4 s
 */
export function laneShares(
  { provider, config, shape: { slots }, base }: Pick<EngineOptions, "provider" | "config" | "shape" | "base">,
  threads: number,
): LaneShares {
  const lanes = Math.min(threads, Math.floor(slots / LEAST_SLOTS_OF_A_LANE));
  const isShared = slots <= VECTOR && parameterCount(config) >= SHARED_PRODUCTS_FROM;
  if (provider !== "cpu" || base !== undefined || isLargePolicy(config) || isShared || lanes <= 1)
    return { slots: [slots], threads };
  const share = (lane: number): number =>
    Math.floor(((lane + 1) * slots) / lanes) - Math.floor((lane * slots) / lanes);
  return {
    slots: Array.from({ length: lanes }, (_, lane) => share(lane)),
    threads: Math.floor(threads / lanes),
  };
}
