import { Worker } from "node:worker_threads";
import { builtModule, InfrastructureError } from "../core/index.js";
import { type HostArray, readValue, type Value } from "../tensor/index.js";
import type { GroupRequest } from "./completion.js";
import type { EngineOptions, SamplingEngine } from "./lane.js";
import type { LaneShares } from "./lane-shares.js";
import type { LaneCall, LaneEvent } from "./lane-worker.js";
import { createRemoteRequests, type RemoteRequests } from "./remote-requests.js";
import { sampleGroups } from "./sample-groups.js";
import { errorOf, isOurs } from "./thread-failure.js";

/** One thread with a share of the slots. */
interface Lane extends Pick<RemoteRequests, "start" | "pending" | "decodeSteps"> {
  setWeights(weights: Promise<Readonly<Record<string, HostArray>>>): void;
  dispose(): Promise<void>;
}

/**
 * Divides groups among lanes: each goes whole to the lane with the least work, so that its samples share their prefill;
 * where there are fewer groups than lanes, the samples of each are divided.
 */
export function divideGroups(groups: readonly GroupRequest[], lanes: number): GroupRequest[][] {
  const shares = Array.from({ length: lanes }, (): GroupRequest[] => []);
  if (groups.length < lanes) {
    for (const group of groups) {
      shares.forEach((share, lane) => {
        const samples = group.samples.filter((_, index) => index % lanes === lane);
        if (samples.length > 0) share.push({ ...group, samples });
      });
    }
    return shares;
  }
  const work = shares.map(() => 0);
  for (const group of groups) {
    const least = work.indexOf(Math.min(...work));
    shares[least]!.push(group);
    work[least]! += group.samples.length;
  }
  return shares;
}

/** Starts a lane's thread; it compiles its graphs while the caller goes on. */
function startLane(options: EngineOptions, slots: number, threads: number): Lane {
  const workerData: EngineOptions = { ...options, shape: { ...options.shape, slots }, threads };
  const worker = new Worker(builtModule("rollout/lane-worker.js"), { workerData });
  let isGone = false;
  const fail = (cause: unknown): void =>
    requests.fail(
      isOurs(cause)
        ? cause
        : new InfrastructureError(`a sampling thread failed: ${String(cause)}`, { cause }),
    );
  const gone = (cause: unknown): void => {
    isGone = true;
    fail(cause);
  };
  let last: Promise<void> = Promise.resolve();
  const post = (call: LaneCall | Promise<LaneCall>): void => {
    last = last.then(async () => worker.postMessage(await call)).catch(fail);
  };
  const requests = createRemoteRequests(post, () => worker.unref());
  worker.on("message", (event: LaneEvent) => {
    if ("id" in event) requests.onEvent(event);
    else fail(errorOf(event.failed));
  });
  worker.on("error", gone);
  worker.on("exit", (code) => gone(`it ended with ${code}`));
  worker.unref(); // a lane that nobody waits for keeps no process alive
  return {
    ...requests,
    setWeights: (weights) => post(weights.then((values) => ({ weights: values }))),
    start: (request, handlers) => {
      worker.ref();
      return requests.start(request, handlers);
    },
    // Not terminate(): it may cut ONNX Runtime off within a call, which aborts the process.
    dispose: () =>
      new Promise((resolve) => {
        if (isGone) return resolve();
        worker.ref();
        worker.once("exit", () => resolve());
        post("close");
      }),
  };
}

const onHost = async (weights: Readonly<Record<string, Value>>): Promise<Record<string, HostArray>> =>
  Object.fromEntries(
    await Promise.all(Object.entries(weights).map(async ([name, value]) => [name, await readValue(value)])),
  );

/**
 * A sampler of several threads, each with its share of the slots and its own copy of the weights.
 */
export function createLanes(options: EngineOptions, { slots, threads }: LaneShares): SamplingEngine {
  const all = slots.map((share) => startLane(options, share, threads));
  let weights: Readonly<Record<string, Value>> | null = null;
  let areSent = false;
  const sendWeights = (): void => {
    if (weights === null) throw new Error("setWeights before the first request");
    if (areSent) return;
    const copy = onHost(weights);
    for (const lane of all) lane.setWeights(copy);
    areSent = true;
  };
  const decodeSteps = (): number => all.reduce((sum, lane) => sum + lane.decodeSteps(), 0);
  return {
    shape: options.shape,
    decodeSteps,
    setWeights: (next) => {
      weights = next;
      areSent = false;
    },
    start: (request, handlers) => {
      sendWeights();
      const work = all.map((lane) => lane.pending());
      return all[work.indexOf(Math.min(...work))]!.start(request, handlers);
    },
    sample: (groups, sampling, onFinished) => {
      sendWeights();
      const shares = divideGroups(groups, all.length);
      const ofLane = shares.flatMap((share, lane) => share.map(() => lane));
      let next = 0;
      const start: SamplingEngine["start"] = (request, handlers) =>
        all[ofLane[next++]!]!.start(request, handlers);
      return sampleGroups(start, shares.flat(), sampling, onFinished, decodeSteps);
    },
    dispose: async () => {
      await Promise.all(all.map((lane) => lane.dispose()));
    },
  };
}
