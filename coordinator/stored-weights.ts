/** How a policy's weights get from its files to what computes with them, without standing in this process twice. */
import {
  type DecoderConfig,
  isLargePolicy,
  loadWeights,
  mappedWeights,
  readAdapter,
  type WeightSource,
  type WideningProgress,
  weightSpecs,
} from "../policy/index.js";
import { type FileTensor, type Provider, placeOn, type Value } from "../tensor/index.js";

/** Weights in files. Plain data, so that it can be posted to the thread that computes. */
export interface StoredWeights {
  readonly source: WeightSource;
  /** Of a large policy that stays as it is: its weights, to be mapped. null: to be read into memory, an adapter added in. */
  readonly base: Readonly<Record<string, FileTensor>> | null;
}

const ON_STDERR: WideningProgress = { note: (line) => process.stderr.write(`${line}\n`) };

/**
 * Large weights that nothing changes are mapped, and widened before where they are published in 16 bits; small ones, and
 * those that are learned, are read by who computes with them.
 * @param isFrozen - no training changes them: it learns an adapter, or there is none
 * @throws ConfigError when the cache for widened weights cannot be written
 */
export async function storedWeights(
  source: WeightSource,
  isFrozen: boolean,
  progress: WideningProgress = ON_STDERR,
): Promise<StoredWeights> {
  const isMapped = isFrozen && isLargePolicy(source.config);
  return { source, base: isMapped ? await mappedWeights(source.places, progress) : null };
}

/** Weights where the provider computes. */
export interface PlacedWeights {
  /** With the adapter of the files, where it is not added into the weights. */
  readonly config: DecoderConfig;
  /** To be bound when a function is compiled: they never change, and all functions share them. */
  readonly base?: Readonly<Record<string, Value>>;
  /** All other weights; all, where there is no base. */
  readonly weights: Readonly<Record<string, Value>>;
}

/** In the thread that computes; a base on webgpu is disposed of by the caller. @throws ConfigError for an adapter of another policy */
export async function placeWeights(
  { source, base }: StoredWeights,
  provider: Provider,
): Promise<PlacedWeights> {
  const { config, adapter } = source;
  if (base === null) return { config, weights: loadWeights(source) };
  const placed = { base: await placeOn(provider, base, weightSpecs(config)) };
  if (adapter === null) return { config, ...placed, weights: {} };
  const adapted = { ...config, lora: adapter.lora };
  return { config: adapted, ...placed, weights: readAdapter(adapter.folder, adapted) };
}
