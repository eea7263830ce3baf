import { Worker } from "node:worker_threads";
import { builtModule, InfrastructureError } from "../core/index.js";
import { type HostArray, readValue, type Value } from "../tensor/index.js";
import type { EngineOptions, SamplingEngine } from "./lane.js";
import type { LaneAnswer, LaneRequest } from "./lane-worker.js";
import type { GroupRequest, SampledSequence, SamplingOptions, SamplingStats } from "./slot-loop.js";

/** One thread with a share of the slots. */
interface Lane {
  readonly slots: number;
  setWeights(weights: Readonly<Record<string, HostArray>>): void;
  sample(
    groups: readonly GroupRequest[],
    options: SamplingOptions,
    onFinished: (sequence: SampledSequence) => void,
  ): Promise<SamplingStats>;
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
  const { config, provider } = options;
  const shape = { ...options.shape, slots };
  const worker = new Worker(builtModule(import.meta.url, "./lane-worker.js"), {
    workerData: { config, provider, shape, threads },
  });
  let failure: InfrastructureError | null = null;
  let waiting: { onAnswer(answer: LaneAnswer): void; onError(error: Error): void } | null = null;
  const post = (request: LaneRequest): void => worker.postMessage(request);
  const fail = (cause: unknown): void => {
    failure ??= new InfrastructureError(`a sampling thread failed: ${String(cause)}`, { cause });
    waiting?.onError(failure);
  };
  worker.on("message", (answer: LaneAnswer) => waiting?.onAnswer(answer));
  worker.on("error", fail);
  worker.on("exit", (code) => fail(`it ended with ${code}`));
  worker.unref(); // a lane that nobody waits for keeps no process alive
  return {
    slots,
    setWeights: (weights) => post({ weights }),
    sample: (groups, sampling, onFinished) =>
      new Promise((resolve, reject) => {
        const settle = (finish: () => void): void => {
          waiting = null;
          worker.unref();
          finish();
        };
        if (failure !== null) return reject(failure);
        worker.ref();
        waiting = {
          onAnswer: (answer) => {
            if ("sequence" in answer) onFinished(answer.sequence);
            else if ("stats" in answer) settle(() => resolve(answer.stats));
            else settle(() => reject(new InfrastructureError(`a sampling thread failed: ${answer.failed}`)));
          },
          onError: (error) => settle(() => reject(error)),
        };
        post({ groups, options: sampling });
      }),
    // Not terminate(): it may cut ONNX Runtime off within a call, which aborts the process.
    dispose: () =>
      new Promise((resolve) => {
        if (failure !== null) return resolve();
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
 * @param threads - of each lane
 */
export function createLanes(options: EngineOptions, lanes: number, threads: number): SamplingEngine {
  const { slots } = options.shape;
  const share = (lane: number): number =>
    Math.floor(((lane + 1) * slots) / lanes) - Math.floor((lane * slots) / lanes);
  const all = Array.from({ length: lanes }, (_, lane) => startLane(options, share(lane), threads));
  let weights: Readonly<Record<string, Value>> | null = null;
  let isInUse = false;
  return {
    shape: options.shape,
    setWeights: (next) => {
      weights = next;
      isInUse = false;
    },
    sample: async (groups, sampling, onFinished) => {
      if (weights === null) throw new Error("setWeights before sample");
      if (!isInUse) {
        const copy = await onHost(weights);
        for (const lane of all) lane.setWeights(copy);
        isInUse = true;
      }
      const started = performance.now();
      // What the caller throws at a sequence must not leave a lane half-way: it is thrown when all have ended.
      const errors: unknown[] = [];
      const hand = (sequence: SampledSequence): void => {
        try {
          if (errors.length === 0) onFinished(sequence);
        } catch (error) {
          errors.push(error);
        }
      };
      const shares = divideGroups(groups, lanes);
      const calls = all.map((lane, index) => lane.sample(shares[index]!, sampling, hand));
      await Promise.allSettled(calls); // a lane that failed must not leave another at work
      const stats = await Promise.all(calls);
      if (errors.length > 0) throw errors[0];
      return {
        tokens: stats.reduce((sum, { tokens }) => sum + tokens, 0),
        decodeSteps: stats.reduce((sum, { decodeSteps }) => sum + decodeSteps, 0),
        seconds: (performance.now() - started) / 1000,
      };
    },
    dispose: async () => {
      await Promise.all(all.map((lane) => lane.dispose()));
    },
  };
}
