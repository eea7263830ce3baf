import { availableParallelism } from "node:os";
import { createLane, type EngineOptions, type SamplingEngine } from "./lane.js";
import { createLanes } from "./lanes.js";

/** Below this a lane's matrix products are too small to be worth a thread. */
const LEAST_SLOTS_OF_A_LANE = 4;

/**
 * The sampler for fixed shapes. On cpu the slots are divided among lanes of one thread each: a decoding step is a few
 * hundred small ops, which gain little from two threads for each op and double from one thread for each half of the slots.
 */
export async function createEngine(options: EngineOptions): Promise<SamplingEngine> {
  const threads = options.threads ?? availableParallelism();
  const lanes = Math.min(threads, Math.floor(options.shape.slots / LEAST_SLOTS_OF_A_LANE));
  if (options.provider === "cpu" && lanes > 1)
    return createLanes(options, lanes, Math.floor(threads / lanes));
  return createLane(options);
}
