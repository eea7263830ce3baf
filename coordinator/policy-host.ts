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
import { type MemoryPeaks, watchMemory } from "./memory-watch.js";
import type { OpenRequest, OpenSamplerRequest } from "./policy-worker.js";
import { type Answer, unwrapped } from "./worker-failure.js";

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
  /** Memory of the process and of the worker's heap now, and the process's peaks since this was asked last; bytes. */
  memory(): Promise<PolicyMemory>;
  close(): Promise<void>;
}

export interface PolicyMemory {
  readonly rss: number;
  readonly heap: number;
  readonly peaks: MemoryPeaks;
}

/** One thread for one policy. @throws what the worker's `open` refuses */
async function startWorker(open: "open" | "openSampler", request: OpenSamplerRequest): Promise<Piscina> {
  const pool = new Piscina({
    filename: builtModule(import.meta.url, "./policy-worker.js"),
    minThreads: 1,
    maxThreads: 1,
    idleTimeout: Number.POSITIVE_INFINITY,
    atomics: "disabled", // a thread that sleeps in Atomics.wait would starve WebGPU's callbacks
  });
  try {
    unwrapped((await pool.run(request, { name: open })) as Answer<void>);
    return pool;
  } catch (error) {
    await pool.destroy();
    throw error;
  }
}

const closeWorker = async (pool: Piscina): Promise<void> => {
  await pool.run(undefined, { name: "close" });
  await pool.destroy();
};

/** A policy that is only sampled from: its weights are all it holds. */
export interface SamplingHost extends Pick<PolicyHost, "sample" | "close"> {
  /** As `SamplingEngine.start`, on the sampler of this shape. */
  start(shape: RunnerShape, request: CompletionRequest, handlers: CompletionHandlers): StartedRequest;
  /** Other weights: what has begun ends with those it began with. */
  setWeights(weights: HostWeights): Promise<void>;
  /** Closes it within a call, too, which then fails after the decoding step under way. */
  stop(): Promise<void>;
}

export async function openSamplingHost(request: OpenSamplerRequest): Promise<SamplingHost> {
  const pool = await startWorker("openSampler", request);
  const requests = requestsByShape(pool);
  const calls = new Set<MessagePort>();
  let stopped: Promise<void> | null = null;
  return {
    sample: (shape, groups, options, onFinished) =>
      sampleThrough(pool, { shape, groups, options }, onFinished, calls),
    start: (shape, completion, handlers) => requests(shape).start(completion, handlers),
    setWeights: async (weights) =>
      unwrapped((await pool.run(weights, { name: "setWeights" })) as Answer<void>),
    close: () => closeWorker(pool),
    // Asked, not cut off: a thread that ends within a call of ONNX Runtime takes the process with it.
    stop: () => {
      for (const call of calls) call.postMessage("stop");
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
      remote.fail(
        isOurs(cause)
          ? cause
          : new InfrastructureError(`the policy's thread failed: ${String(cause)}`, { cause }),
      );
    port1.on("message", (event: RemoteEvent) => remote.onEvent(event));
    port1.on("close", () => fail("it was closed"));
    const listening = pool.run({ shape, port: port2 }, { name: "listen", transferList: [port2] });
    listening.then((answer: Answer<void>) => unwrapped(answer)).catch(fail);
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
  const pool = await startWorker("open", request);
  const watch = watchMemory();
  const ask = async <T>(name: string, argument?: unknown): Promise<T> =>
    unwrapped((await pool.run(argument, { name })) as Answer<T>);
  return {
    sample: (shape, groups, options, onFinished) => {
      watch.enter("sample");
      return sampleThrough(pool, { shape, groups, options }, onFinished);
    },
    update: (update) => {
      watch.enter("update");
      return ask("update", update);
    },
    exportState: () => {
      watch.enter("save"); // until the next call: what was exported is written meanwhile
      return ask("exportState");
    },
    importState: (state) => ask("importState", state),
    exportWeights: () => ask("exportWeights"),
    memory: async () => {
      const now = (await pool.run(undefined, { name: "memory" })) as Omit<PolicyMemory, "peaks">;
      return { ...now, peaks: watch.peaks() };
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
  });
  drained.catch(() => {}); // it may reject while the call still runs; it is awaited, with its error, below
  try {
    const call = { ...request, port: port2 };
    const answer: Answer<SamplingStats> = await pool.run(call, { name: "sample", transferList: [port2] });
    const stats = unwrapped(answer);
    await drained;
    return stats;
  } finally {
    calls.delete(port1);
    port1.close();
  }
}
