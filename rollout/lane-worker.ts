/** One lane of lanes.ts: a sampler in a thread of its own. */
import { parentPort, workerData } from "node:worker_threads";
import type { HostArray } from "../tensor/index.js";
import { createLane, type EngineOptions } from "./lane.js";
import type { GroupRequest, SampledSequence, SamplingOptions, SamplingStats } from "./slot-loop.js";

export type LaneRequest =
  | { readonly weights: Readonly<Record<string, HostArray>> }
  | { readonly groups: readonly GroupRequest[]; readonly options: SamplingOptions };

export type LaneAnswer = { readonly sequence: SampledSequence } | { readonly stats: SamplingStats };

const port = parentPort;
if (port === null) throw new Error("lane-worker.js runs in a worker thread");
const answer = (message: LaneAnswer): void => port.postMessage(message);
const engine = createLane(workerData as EngineOptions);

/** An error is the thread's end: lanes.ts hears of it. */
async function serve(request: LaneRequest): Promise<void> {
  const lane = await engine;
  if ("weights" in request) return lane.setWeights(request.weights);
  const stats = await lane.sample(request.groups, request.options, (sequence) => answer({ sequence }));
  answer({ stats });
}

let last: Promise<void> = Promise.resolve();
port.on("message", (request: LaneRequest) => {
  last = last.then(() => serve(request));
});
