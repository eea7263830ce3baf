import { MessageChannel, type MessagePort } from "node:worker_threads";
import { Piscina } from "piscina";
import { builtModule, InfrastructureError } from "../core/index.js";
import type { HostWeights } from "../policy/index.js";
import {
  type CompletionHandlers,
  type CompletionRequest,
  createRemoteRequests,
  type GroupRequest,
  isOurs,
  type RemoteEvent,
  type RemoteRequests,
  type RunnerShape,
  type SampledSequence,
  type SamplingOptions,
  type SamplingStats,
  type StartedRequest,
} from "../rollout/index.js";
import type { LearnerState, UpdateMetrics, UpdateRequest } from "../trainer/index.js";
import { type MemoryPeaks, type MemoryStage, watchMemory } from "./memory-watch.js";
import type * as worker from "./policy-worker.js";
import type { OpenRequest, OpenSamplerRequest } from "./policy-worker.js";
import type { StoredWeights } from "./stored-weights.js";
import { unwrapped } from "./worker-failure.js";

/**
 * The policy, in a worker thread of its own: ONNX Runtime computes synchronously, and GPU buffers cannot cross threads,
 * so one thread owns the weights and every session. The main thread stays free for the judge.
 */
export interface PolicyHost {
  /**
   * Draws completions with the current weights; `onFinished` is called as each one ends.
   * @throws NonFinitePolicyError when the weights give NaN
   */
  sample(
    shape: RunnerShape,
    groups: readonly GroupRequest[],
    options: SamplingOptions,
    onFinished: (sequence: SampledSequence) => void,
  ): Promise<SamplingStats>;
  /** One optimizer step. @throws NonFiniteUpdateError: the weights are then what they were */
  update(request: UpdateRequest): Promise<UpdateMetrics>;
  /** Everything a checkpoint needs: weights, moments, teacher, step. */
  exportState(): Promise<LearnerState>;
  importState(state: LearnerState): Promise<void>;
  /** What is learned, as it stands: all weights, or the adapter's. */
  exportWeights(): Promise<HostWeights>;
  /** What follows counts for this stage in the peaks of `memory`; the other calls tell of themselves. */
  enter(stage: MemoryStage): void;
  /** Memory of the process and of the worker's heap now, and the process's peaks since this was asked last; bytes. */
  memory(): Promise<PolicyMemory>;
  close(): Promise<void>;
}

export interface PolicyMemory {
  readonly rss: number;
  readonly heap: number;
  readonly peaks: MemoryPeaks;
}

type Worker = typeof worker;

/** What ended a pool's thread between two calls: the thread that took its place knows of nothing. */
const deaths = new WeakMap<Piscina, Error>();

/** A call of the worker. Piscina calls by name: here the type check sees that there is such a call, and what it takes and gives. */
async function call<Name extends keyof Worker>(
  pool: Piscina,
  name: Name,
  argument: Parameters<Worker[Name]>[0],
  transferList: MessagePort[] = [],
): Promise<Awaited<ReturnType<Worker[Name]>>> {
  const death = deaths.get(pool);
  if (death !== undefined) throw threadFailure(death);
  return (await pool.run(argument, { name, transferList })) as Awaited<ReturnType<Worker[Name]>>;
}

const threadFailure = (cause: unknown): InfrastructureError =>
  new InfrastructureError(`the policy's thread failed: ${String(cause)}`, { cause });

/** One thread for one policy. @throws what the worker's `open` refuses */
async function startWorker(open: (pool: Piscina) => ReturnType<Worker["open"]>): Promise<Piscina> {
  const pool = new Piscina({
    filename: builtModule("coordinator/policy-worker.js"),
    minThreads: 1,
    maxThreads: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
    atomics: "disabled", // a thread that sleeps in Atomics.wait would starve WebGPU's callbacks
  });
  // Unheard, it would end the process; one that answers requests is in no call when it dies.
  pool.on("error", (error: Error) => deaths.set(pool, error));
  try {
    unwrapped(await open(pool));
    return pool;
  } catch (error) {
    await pool.destroy();
    throw error;
  }
}

const closeWorker = async (pool: Piscina): Promise<void> => {
  if (!deaths.has(pool)) await call(pool, "close", undefined);
  await pool.destroy();
};

/** A policy that is only sampled from: its weights are all it holds. */
export interface SamplingHost extends Pick<PolicyHost, "sample" | "close"> {
  /** As `SamplingEngine.start`, on the sampler of this shape. */
  start(shape: RunnerShape, request: CompletionRequest, handlers: CompletionHandlers): StartedRequest;
  /** Other weights, those of files read by the thread itself: what has begun ends with those it began with. */
  setWeights(weights: HostWeights | StoredWeights): Promise<void>;
  /** Closes it within a call, too, which then fails after the decoding step under way. */
  stop(): Promise<void>;
}

export async function openSamplingHost(request: OpenSamplerRequest): Promise<SamplingHost> {
  const pool = await startWorker((opening) => call(opening, "openSampler", request));
  const requests = requestsByShape(pool);
  const calls = new Set<MessagePort>();
  let stopped: Promise<void> | null = null;
  return {
    sample: (shape, groups, options, onFinished) =>
      sampleThrough(pool, { shape, groups, options }, onFinished, calls),
    start: (shape, completion, handlers) => requests(shape).start(completion, handlers),
    setWeights: async (weights) => unwrapped(await call(pool, "setWeights", weights)),
    close: () => closeWorker(pool),
    // Asked, not cut off: a thread that ends within a call of ONNX Runtime takes the process with it.
    stop: () => {
      for (const port of calls) port.postMessage("stop");
      stopped ??= closeWorker(pool).catch(() => pool.destroy());
      return stopped;
    },
  };
}

/** A port to the sampler of each shape, opened when it is first asked for. */
function requestsByShape(pool: Piscina): (shape: RunnerShape) => RemoteRequests {
  const byShape = new Map<string, RemoteRequests>();
  const open = (shape: RunnerShape): RemoteRequests => {
    const { port1, port2 } = new MessageChannel();
    const remote = createRemoteRequests(
      (call) => port1.postMessage(call),
      () => port1.unref(), // nobody waits
    );
    const fail = (cause: unknown): void =>
      remote.fail(isOurs(cause) ? cause : threadFailure(deaths.get(pool) ?? cause));
    port1.on("message", (event: RemoteEvent) => remote.onEvent(event));
    port1.on("close", () => fail("it was closed"));
    call(pool, "listen", { shape, port: port2 }, [port2]).then(unwrapped).catch(fail);
    return {
      ...remote,
      start: (request, handlers) => {
        port1.ref();
        return remote.start(request, handlers);
      },
    };
  };
  return (shape) => {
    const key = JSON.stringify(shape);
    const requests = byShape.get(key) ?? open(shape);
    byShape.set(key, requests);
    return requests;
  };
}

/** Starts the worker and compiles nothing yet: graphs are compiled when first used. */
export async function openPolicyHost(request: OpenRequest): Promise<PolicyHost> {
  const pool = await startWorker((opening) => call(opening, "open", request));
  const watch = watchMemory();
  return {
    sample: (shape, groups, options, onFinished) => {
      watch.enter("sample");
      return sampleThrough(pool, { shape, groups, options }, onFinished);
    },
    update: async (update) => {
      watch.enter("update");
      return unwrapped(await call(pool, "update", update));
    },
    exportState: async () => {
      watch.enter("save"); // until the next call: what was exported is written meanwhile
      return unwrapped(await call(pool, "exportState", undefined));
    },
    importState: async (state) => unwrapped(await call(pool, "importState", state)),
    exportWeights: async () => unwrapped(await call(pool, "exportWeights", undefined)),
    enter: watch.enter,
    memory: async () => {
      return { ...(await call(pool, "memory", undefined)), peaks: watch.peaks() };
    },
    close: () => {
      watch.stop();
      return closeWorker(pool);
    },
  };
}

/**
 * Runs the sampler; resolves when the last sequence has arrived here, which may be after the call returned.
 * @param calls - holds the call's port while it runs: any message to it stops the call
 */
async function sampleThrough(
  pool: Piscina,
  request: { shape: RunnerShape; groups: readonly GroupRequest[]; options: SamplingOptions },
  onFinished: (sequence: SampledSequence) => void,
  calls: Set<MessagePort> = new Set(),
): Promise<SamplingStats> {
  const { port1, port2 } = new MessageChannel();
  calls.add(port1);
  const drained = new Promise<void>((resolve, reject) => {
    port1.on("message", (message: SampledSequence | "end") => {
      if (message === "end") return resolve();
      try {
        onFinished(message);
      } catch (error) {
        reject(error);
      }
    });
    port1.on("close", () => reject(threadFailure(deaths.get(pool) ?? "it was closed")));
  });
  drained.catch(() => {}); // it may reject while the call still runs; it is awaited, with its error, below
  try {
    const stats = unwrapped(await call(pool, "sample", { ...request, port: port2 }, [port2]));
    await drained;
    return stats;
  } finally {
    calls.delete(port1);
    port1.close();
  }
}
