/** How a policy's weights get from its files to what computes with them, without standing in this process twice. */
import { ConfigError } from "../core/index.js";
import {
  type DecoderConfig,
  type HostWeights,
  int8Weights,
  isLargePolicy,
  loadWeights,
  mappedWeights,
  NonFinitePolicyError,
  readAdapter,
  type WeightSource,
  type WideningProgress,
  weightSpecs,
} from "../policy/index.js";
import type { RolloutConfig } from "../rollout/config.js";
import { type FileTensor, type Provider, placeOn, type Value } from "../tensor/index.js";

/** Weights in files. Plain data, so that it can be posted to the thread that computes. */
export interface StoredWeights {
  readonly source: WeightSource;
  /** Of a large policy that stays as it is: its weights, to be mapped. null: to be read into memory, an adapter added in. */
  readonly base: Readonly<Record<string, FileTensor>> | null;
  /** The base's matrices for the sampler's decoding steps, where they are asked for in int8. */
  readonly int8?: Readonly<Record<string, FileTensor>>;
}

/** In what the sampler holds the base, and what computes it. */
export interface BasePrecision {
  readonly type: RolloutConfig["base_precision"];
  readonly provider: Provider;
  /** The key, or the option, that said so. */
  readonly at: string;
}

const ON_STDERR: WideningProgress = { note: (line) => process.stderr.write(`${line}\n`) };

/**
 * Large weights that nothing changes are mapped, and widened before where they are published in 16 bits; small ones, and
 * those that are learned, are read by who computes with them.
 * @param isFrozen - no training changes them: it learns an adapter, or there is none
 * @param precision - default: float32
 * @throws ConfigError when the cache for widened weights cannot be written, or for int8 where it has no use
 */
export async function storedWeights(
  source: WeightSource,
  isFrozen: boolean,
  progress: WideningProgress = ON_STDERR,
  precision: BasePrecision | null = null,
): Promise<StoredWeights> {
  const isMapped = isFrozen && isLargePolicy(source.config);
  const isInt8 = precision?.type === "int8";
  if (isInt8) checkInt8(precision, isMapped);
  return {
    source,
    base: isMapped ? await mappedWeights(source.places, progress) : null,
    ...(isInt8 ? { int8: await int8Weights(source.places, progress) } : {}),
  };
}

function checkInt8({ at, type, provider }: BasePrecision, isMapped: boolean): void {
  const refuse = (need: string, fix: string): never => {
    throw new ConfigError({ at, got: type, need, fix });
  };
  if (provider !== "cpu")
    refuse(`float32 on ${provider}: int8 is for cpu alone`, "Leave it out, or choose the device cpu.");
  if (!isMapped)
    refuse(
      "float32 for a policy of fewer than 64 million parameters: it is sampled on a copy laid out for that, which is faster",
      "Leave it out.",
    );
}

/** Weights where the provider computes. */
export interface PlacedWeights {
  /** With the adapter of the files, where it is not added into the weights. */
  readonly config: DecoderConfig;
  /** To be bound when a function is compiled: they never change, and all functions share them. */
  readonly base?: Readonly<Record<string, Value>>;
  /** Beside the base, for decoding steps. */
  readonly int8?: Readonly<Record<string, Value>>;
  /** All other weights; all, where there is no base. */
  readonly weights: Readonly<Record<string, Value>>;
}

/** In the thread that computes; a base on webgpu is disposed of by the caller. @throws ConfigError for an adapter of another policy */
export async function placeWeights(
  { source, base, int8 }: StoredWeights,
  provider: Provider,
): Promise<PlacedWeights> {
  const { config, adapter } = source;
  if (base === null) return { config, weights: loadWeights(source) };
  const placed = {
    base: await placeOn(provider, base, weightSpecs(config)),
    ...(int8 === undefined ? {} : { int8 }),
  };
  if (adapter === null) return { config, ...placed, weights: {} };
  const adapted = { ...config, lora: adapter.lora };
  return { config: adapted, ...placed, weights: readAdapter(adapter.folder, adapted) };
}

/**
 * What graphs that are compiled already can take in place of what they have: all weights with the adapter added in, or the
 * adapter alone where the rest is mapped. Reading 49 million parameters takes 0.5 to 0.6 s of a thread (measured): not of the one that answers requests.
 * @throws NonFinitePolicyError, so that those in use stay
 */
export function exchangeableWeights({ base, source }: StoredWeights): HostWeights {
  const { config, adapter } = source;
  if (base !== null && adapter === null) throw new Error("mapped weights are part of the graphs");
  const weights =
    base === null ? loadWeights(source) : readAdapter(adapter!.folder, { ...config, lora: adapter!.lora });
  const broken = Object.keys(weights).find((name) => !weights[name]!.every(Number.isFinite));
  if (broken !== undefined) throw new NonFinitePolicyError(`${broken} is not finite`);
  return weights;
}
