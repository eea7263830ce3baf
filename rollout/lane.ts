import type { DecoderConfig } from "../policy/index.js";
import type { Value } from "../tensor/index.js";
import type {
  CompletionHandlers,
  CompletionRequest,
  GroupRequest,
  SampledSequence,
  SamplingOptions,
  SamplingStats,
  StartedRequest,
} from "./completion.js";
import { createDeviceCache } from "./device-cache.js";
import { createHostCache } from "./host-cache.js";
import type { RunnerShape, SamplingProvider } from "./key-value-cache.js";
import { sampleGroups } from "./sample-groups.js";
import { SlotLoop } from "./slot-loop.js";

/** Samples completions with a key/value cache in a fixed number of slots. */
export interface SamplingEngine {
  readonly shape: RunnerShape;
  /**
   * Weights of the requests that begin from now on, under their Hugging Face names. What has begun ends with the weights
   * it began with, and what comes after waits for that: a completion is drawn from one policy.
   * @throws Error for other values of the `base`
   */
  setWeights(weights: Readonly<Record<string, Value>>): void;
  /**
   * Queues a request; it is drawn beside all others, as slots come free. Requests begin in the order in which they came.
   * What a request draws depends on its own fields alone, not on its neighbours; with a `base`, or live, its neighbours may
   * change the rounding of its log-probs.
   * @throws Error before the first `setWeights`
   */
  start(request: CompletionRequest, handlers: CompletionHandlers): StartedRequest;
  /** Draws every sample of every group; `onFinished` is called as each ends, in order of ending. */
  sample(
    groups: readonly GroupRequest[],
    options: SamplingOptions,
    onFinished: (sequence: SampledSequence) => void,
  ): Promise<SamplingStats>;
  /** Decoding steps until now, all lanes together. */
  decodeSteps(): number;
  /** Requests under way fail. */
  dispose(): Promise<void>;
}

export interface EngineOptions {
  readonly config: DecoderConfig;
  readonly shape: RunnerShape;
  readonly provider: SamplingProvider;
  /** Threads on cpu; default: all. */
  readonly threads?: number;
  /**
   * The policy's own weights where they never change (an adapter is learned, or nothing is), on cpu: the sampler computes
   * on them as they stand, so that FileTensors exist once however many functions read them; `setWeights` then gives the
   * adapter. Without it a copy is laid out for the decoding step, which is faster for a small policy.
   */
  readonly base?: Readonly<Record<string, Value>>;
  /**
   * With a `base` on cpu, its matrices as int8 (`int8Weights`): decoding steps multiply by these, prompts still by the base.
   * Log-probs are then those of the rounded policy.
   */
  readonly int8?: Readonly<Record<string, Value>>;
  /**
   * Requests come one by one, as to a service: on cpu the prompts of a small policy run in parts too, not padded to the
   * longest that may come, and a step computes few slots where few are in use. Default: no.
   */
  readonly isLive?: boolean;
}

/** The sampler in this thread. */
export async function createLane(options: EngineOptions): Promise<SamplingEngine> {
  const cache = await (options.provider === "webgpu" ? createDeviceCache(options) : createHostCache(options));
  const { config, shape, base } = options;
  const loop = new SlotLoop(cache, config, shape);
  if (base !== undefined && config.lora === undefined) loop.setWeights(base); // nothing else will come
  const start: SamplingEngine["start"] = (request, handlers) => loop.start(request, handlers);
  const decodeSteps = (): number => loop.decodeSteps;
  return {
    shape,
    decodeSteps,
    setWeights: (weights) => {
      const changed = Object.keys(base ?? {}).find((name) => (weights[name] ?? base![name]) !== base![name]);
      if (changed !== undefined)
        throw new Error(`setWeights: ${changed} is of the base, which never changes`);
      loop.setWeights({ ...base, ...weights });
    },
    start,
    sample: (groups, sampling, onFinished) => sampleGroups(start, groups, sampling, onFinished, decodeSteps),
    dispose: async () => {
      await loop.stop();
      await cache.dispose();
    },
  };
}
