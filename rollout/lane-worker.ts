/** One lane of lanes.ts: a sampler in a thread of its own. */
import { parentPort, workerData } from "node:worker_threads";
import type { HostArray } from "../tensor/index.js";
import { createLane, type EngineOptions } from "./lane.js";
import type { GroupRequest, SampledSequence, SamplingOptions, SamplingStats } from "./slot-loop.js";

export type LaneRequest =
  | "close"
  | { readonly weights: Readonly<Record<string, HostArray>> }
  | { readonly groups: readonly GroupRequest[]; readonly options: SamplingOptions };

export type LaneAnswer =
  | { readonly sequence: SampledSequence }
  | { readonly stats: SamplingStats }
  | { readonly failed: string };

const port = parentPort;
if (port === null) throw new Error("lane-worker.js runs in a worker thread");
const answer = (message: LaneAnswer): void => port.postMessage(message);
const engine = createLane(workerData as EngineOptions);

async function serve(request: Exclude<LaneRequest, "close">): Promise<void> {
  const lane = await engine;
  if ("weights" in request) return lane.setWeights(request.weights);
  const stats = await lane.sample(request.groups, request.options, (sequence) => answer({ sequence }));
  answer({ stats });
}

let last: Promise<void> = Promise.resolve();
port.on("message", (request: LaneRequest) => {
  last = last.then(() => (request === "close" ? close() : serve(request))).catch(fail);
});

/** Told, not thrown: a thread that dies takes ONNX Runtime's sessions down under it, and at times the whole process. */
function fail(error: unknown): void {
  answer({ failed: String(error) });
}

/** Ends the thread of itself, with nothing of ONNX Runtime left in it. */
async function close(): Promise<void> {
  await engine.then((lane) => lane.dispose()).catch(() => {}); // a lane that never opened has nothing to close
  port?.close();
}
