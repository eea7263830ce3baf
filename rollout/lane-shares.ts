/** How the slots of a sampler are divided among threads. */
import type { Provider } from "../tensor/index.js";

/** Below this a lane's matrix products are too small to be worth a thread. */
const LEAST_SLOTS_OF_A_LANE = 4;

/** Slots of each lane, and the threads that each computes with; one lane means the caller's own thread. */
export interface LaneShares {
  readonly slots: readonly number[];
  readonly threads: number;
}

/**
 * On cpu the slots are divided among lanes of one thread each: a decoding step is a few hundred small ops, which gain
 * little from two threads for each op and double from one thread for each half of the slots. A policy that is large enough
 * to be sampled on its base as it stands has one lane with all threads: each would read all its weights for every token.
 */
export function laneShares(provider: Provider, slots: number, threads: number, hasBase: boolean): LaneShares {
  const lanes = Math.min(threads, Math.floor(slots / LEAST_SLOTS_OF_A_LANE));
  if (provider !== "cpu" || hasBase || lanes <= 1) return { slots: [slots], threads };
  const share = (lane: number): number =>
    Math.floor(((lane + 1) * slots) / lanes) - Math.floor((lane * slots) / lanes);
  return {
    slots: Array.from({ length: lanes }, (_, lane) => share(lane)),
    threads: Math.floor(threads / lanes),
  };
}
