/**
 * The compiled side of sampling: prompts are prefilled in fixed batches, then every slot decodes one token a step.
 * Two ways to hold the key/value cache: in JavaScript arrays (cpu: an output is a copy, so only the new token's keys and
 * values leave the graph) or in device buffers that never cross (webgpu).
 */
import type { DecoderConfig } from "../policy/index.js";
import { disposeValues, type HostArray, type Provider, type Value } from "../tensor/index.js";
import type { SlotDraw, StreamedToken } from "./sampling.js";

/** Most prompts prefilled in one call. */
export const PREFILL_ROWS = 4;

export interface RunnerShape {
  /** Sequences decoded at once. */
  readonly slots: number;
  /** Longest prompt, tokens. */
  readonly promptLength: number;
  /** Cache length: longest prompt plus longest completion, tokens. */
  readonly cacheLength: number;
}

/**
 * What can sample: not cuda, for onnxruntime-node keeps outputs on the device for webgpu alone, and the whole cache would
 * cross with every token.
 */
export type SamplingProvider = Exclude<Provider, "cuda">;

export interface RunnerOptions {
  readonly config: DecoderConfig;
  readonly shape: RunnerShape;
  readonly provider: SamplingProvider;
  readonly threads?: number;
  /** Weights that never change, see `EngineOptions`. */
  readonly base?: Readonly<Record<string, Value>>;
  readonly int8?: Readonly<Record<string, Value>>;
  /** See `EngineOptions`. */
  readonly isLive?: boolean;
}

/** The key/value cache of the slots, wherever it lives. */
export interface KeyValueCache {
  /** Weights of the calls that follow, under their Hugging Face names; must stay valid that long. */
  useWeights(weights: Readonly<Record<string, Value>>): Promise<void>;
  /** Prompts that `prefill` takes at once. */
  readonly prefillRows: number;
  /**
   * Runs prompts. @param pause - a cache that runs long prompts in parts awaits it between two parts; it may step, and
   * step alone
   */
  prefill(prompts: readonly (readonly number[])[], pause: () => Promise<void>): Promise<Prefilled>;
  /** Copies a prefilled prompt's keys and values into slots. */
  assign(prefilled: Prefilled, row: number, slots: readonly number[]): Promise<void>;
  /**
   * Feeds one token to every slot and stores its keys and values.
   * @param draws - how each slot draws the token after it; null: nobody looks at the slot
   */
  step(ids: Int32Array, positions: Int32Array, draws: readonly (SlotDraw | null)[]): Promise<Step>;
  dispose(): Promise<void>;
}

/** What a step gives: logits [S, V] to draw from; or each slot's token, drawn where the logits stay, on a GPU. */
export type Step = { readonly logits: Float32Array } | { readonly drawn: readonly StreamedToken[] };

export interface Prefilled {
  /** [rows, V], of each prompt's next token. null: the first step feeds a prompt's last token, and gives them. */
  readonly logits: Float32Array | null;
  /** Positions of each row that hold a token. */
  readonly lengths: readonly number[];
  /** Positions of each row. */
  readonly width: number;
  /** Per cache tensor, [rows, K, width, E]. */
  readonly keyValues: readonly Value[];
  release(): void;
}

/** Pads prompts to [rows, P] and finds where each one's last token stands in the flattened rows. */
export function padPrompts(
  prompts: readonly (readonly number[])[],
  promptLength: number,
  rows = PREFILL_ROWS,
): { ids: Int32Array; last: Int32Array; lengths: number[] } {
  const ids = new Int32Array(rows * promptLength);
  const last = new Int32Array(PREFILL_ROWS);
  prompts.forEach((prompt, row) => {
    if (prompt.length === 0 || prompt.length > promptLength) {
      throw new RangeError(`a prompt of ${prompt.length} tokens does not fit 1 to ${promptLength}`);
    }
    ids.set(prompt, row * promptLength);
    last[row] = row * promptLength + prompt.length - 1;
  });
  return { ids, last, lengths: prompts.map((prompt) => prompt.length) };
}

/** A value that is known to have crossed to the host. */
export const asFloats = (value: Value | undefined): Float32Array => value as HostArray as Float32Array;

/** Gives device memory back; host arrays need nothing. */
export const releaseAll = (values: Readonly<Record<string, Value>>): void =>
  disposeValues(Object.values(values));
