/** One lane of lanes.ts: a sampler in a thread of its own. */
import { parentPort, workerData } from "node:worker_threads";
import type { Value } from "../tensor/index.js";
import { createLane, type EngineOptions } from "./lane.js";
import { answerRequests, type RemoteCall, type RemoteEvent } from "./remote-requests.js";
import { failureOf, type ThreadFailure } from "./thread-failure.js";

export type LaneCall = "close" | { readonly weights: Readonly<Record<string, Value>> } | RemoteCall;

/** `failed` without a request's number: the lane itself. */
export type LaneEvent = RemoteEvent | { readonly failed: ThreadFailure };

const port = parentPort;
if (port === null) throw new Error("lane-worker.js runs in a worker thread");
const answer = (event: LaneEvent): void => port.postMessage(event);
const opening = createLane(workerData as EngineOptions).then((engine) => ({
  engine,
  call: answerRequests(engine, answer),
}));

async function serve(call: LaneCall): Promise<void> {
  if (call === "close") return close();
  const lane = await opening;
  if ("weights" in call) lane.engine.setWeights(call.weights);
  else lane.call(call);
}

// Told, not thrown: a thread that dies takes ONNX Runtime's sessions down under it, and at times the whole process.
port.on("message", (call: LaneCall) => {
  serve(call).catch((error: unknown) => answer({ failed: failureOf(error) }));
});

/** Ends the thread of itself, with nothing of ONNX Runtime left in it. */
async function close(): Promise<void> {
  await opening.then(({ engine }) => engine.dispose()).catch(() => {}); // one that never opened has nothing to close
  port?.close();
}
