import type { DecoderConfig } from "../policy/index.js";
import type { Provider, Value } from "../tensor/index.js";
import { createDeviceCache } from "./device-cache.js";
import { createHostCache } from "./host-cache.js";
import type { RunnerShape } from "./key-value-cache.js";
import {
  type GroupRequest,
  runSlots,
  type SampledSequence,
  type SamplingOptions,
  type SamplingStats,
} from "./slot-loop.js";

/** Samples completions with a key/value cache in a fixed number of slots. */
export interface SamplingEngine {
  readonly shape: RunnerShape;
  setWeights(weights: Readonly<Record<string, Value>>): void;
  /** Draws every sample of every group; `onFinished` is called as each ends, in order of ending. */
  sample(
    groups: readonly GroupRequest[],
    options: SamplingOptions,
    onFinished: (sequence: SampledSequence) => void,
  ): Promise<SamplingStats>;
  dispose(): Promise<void>;
}

export interface EngineOptions {
  readonly config: DecoderConfig;
  readonly shape: RunnerShape;
  readonly provider: Provider;
  /** Threads on cpu; default: all. */
  readonly threads?: number;
}

/** The sampler in this thread. */
export async function createLane(options: EngineOptions): Promise<SamplingEngine> {
  const onDevice = options.provider === "webgpu" || options.provider === "cuda";
  const cache = await (onDevice ? createDeviceCache(options) : createHostCache(options));
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
      if (!isInUse) await cache.useWeights(weights);
      isInUse = true;
      return runSlots(cache, options, groups, sampling, onFinished);
    },
    dispose: () => cache.dispose(),
  };
}
