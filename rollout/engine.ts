import { availableParallelism } from "node:os";
import { createLane, type EngineOptions, type SamplingEngine } from "./lane.js";
import { laneShares } from "./lane-shares.js";
import { createLanes } from "./lanes.js";

/** The sampler for fixed shapes, in one thread or several. */
export async function createEngine(options: EngineOptions): Promise<SamplingEngine> {
  const shares = laneShares(options, options.threads ?? availableParallelism());
  return shares.slots.length > 1 ? createLanes(options, shares) : createLane(options);
}
