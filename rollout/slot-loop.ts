import type { FinishReason } from "../core/index.js";
import { hash32, uniformAt } from "../core/index.js";
import type { DecoderConfig } from "../policy/index.js";
import { type KeyValueCache, PREFILL_ROWS, type Prefilled, type RunnerShape } from "./key-value-cache.js";
import { drawToken, type SamplingParameters } from "./sampling.js";

/** One prompt and how many completions of it are wanted. */
export interface GroupRequest {
  /** Position in draw order; echoed in the sequences. */
  readonly group: number;
  /** Names the random stream: task id and epoch. With the seed, the sample index and the position it fixes every draw. */
  readonly randomKey: string;
  readonly promptIds: readonly number[];
  /** Sample indices to draw, usually 0 to G - 1. */
  readonly samples: readonly number[];
}

export interface SamplingOptions extends SamplingParameters {
  readonly seed: number;
  /** Includes the stop token. */
  readonly maxNewTokens: number;
  readonly stopIds: readonly number[];
}

/** A finished completion, handed on the moment it ends. */
export interface SampledSequence {
  readonly group: number;
  readonly sample: number;
  readonly completionIds: number[];
  readonly rolloutLogProbs: number[];
  readonly cutLogProbs?: number[];
  readonly finishReason: FinishReason;
}

export interface SamplingStats {
  readonly tokens: number;
  readonly seconds: number;
  /** Decoding steps, all lanes together. */
  readonly decodeSteps: number;
}

/** A sequence in the making. */
interface LiveSequence {
  readonly request: GroupRequest;
  /** Hash of the request's `randomKey`. */
  readonly stream: number;
  readonly sample: number;
  readonly ids: number[];
  readonly logProbs: number[];
  readonly cutLogProbs: number[];
}

/** A prefilled prompt whose samples still wait for slots. */
interface WaitingPrompt {
  readonly request: GroupRequest;
  readonly prefilled: Prefilled;
  readonly row: number;
  readonly samples: number[];
}

/**
 * The slot loop: fill free slots from prefilled prompts, prefill more when none wait, decode one token of every slot,
 * hand on and free what ended.
 */
export async function runSlots(
  cache: KeyValueCache,
  { config, shape }: { config: DecoderConfig; shape: RunnerShape },
  groups: readonly GroupRequest[],
  options: SamplingOptions,
  onFinished: (sequence: SampledSequence) => void,
): Promise<SamplingStats> {
  const started = performance.now();
  const slots: (LiveSequence | null)[] = Array.from({ length: shape.slots }, () => null);
  const queue = groups.filter((group) => group.samples.length > 0);
  const waiting: WaitingPrompt[] = [];
  let next = 0;
  let tokens = 0;
  let decodeSteps = 0;

  /** Draws the next token of a sequence; true when it ended and was handed on. */
  const advance = (live: LiveSequence, logits: Float32Array, row: number): boolean => {
    const position = live.ids.length;
    const uniform = uniformAt(options.seed, "sample", live.stream, live.sample, position);
    const drawn = drawToken(logits, row * config.vocabulary, config.vocabulary, options, uniform);
    live.ids.push(drawn.id);
    live.logProbs.push(drawn.logProb);
    live.cutLogProbs.push(drawn.cutLogProb);
    tokens++;
    const stopped = options.stopIds.includes(drawn.id);
    const room = Math.min(options.maxNewTokens, shape.cacheLength - live.request.promptIds.length);
    if (!stopped && live.ids.length < room) return false;
    onFinished(finished(live, stopped ? "stop" : "length", options));
    return true;
  };

  /** Moves waiting samples into free slots; each draws its first token from the prefill's logits. */
  const fill = async (): Promise<void> => {
    for (;;) {
      const free = slots.flatMap((slot, index) => (slot === null ? [index] : []));
      const prompt = waiting[0];
      if (prompt === undefined || free.length === 0) return;
      const placed: number[] = [];
      while (prompt.samples.length > 0 && placed.length < free.length) {
        const live: LiveSequence = {
          request: prompt.request,
          stream: hash32(prompt.request.randomKey),
          sample: prompt.samples.shift()!,
          ids: [],
          logProbs: [],
          cutLogProbs: [],
        };
        if (advance(live, prompt.prefilled.logits, prompt.row)) continue;
        const slot = free[placed.length]!;
        slots[slot] = live;
        placed.push(slot);
      }
      if (placed.length > 0) await cache.assign(prompt.prefilled, prompt.row, placed);
      if (prompt.samples.length > 0) return;
      waiting.shift();
      if (!waiting.some((other) => other.prefilled === prompt.prefilled)) prompt.prefilled.release();
    }
  };

  const prefillMore = async (): Promise<void> => {
    const batch = queue.slice(next, next + PREFILL_ROWS);
    next += batch.length;
    const prefilled = await cache.prefill(batch.map((request) => request.promptIds));
    batch.forEach((request, row) => {
      waiting.push({ request, prefilled, row, samples: [...request.samples] });
    });
  };

  for (;;) {
    await fill();
    while (slots.includes(null) && waiting.length === 0 && next < queue.length) {
      await prefillMore();
      await fill();
    }
    if (slots.every((slot) => slot === null)) break;
    const ids = Int32Array.from(slots, (live) => live?.ids.at(-1) ?? 0);
    const positions = Int32Array.from(slots, (live) =>
      live ? live.request.promptIds.length + live.ids.length - 1 : 0,
    );
    const logits = await cache.step(ids, positions);
    decodeSteps++;
    slots.forEach((live, slot) => {
      if (live !== null && advance(live, logits, slot)) slots[slot] = null;
    });
  }
  return { tokens, seconds: (performance.now() - started) / 1000, decodeSteps };
}

function finished(live: LiveSequence, finishReason: FinishReason, options: SamplingOptions): SampledSequence {
  const isCut = options.topP < 1 || options.topK > 0;
  return {
    group: live.request.group,
    sample: live.sample,
    completionIds: live.ids,
    rolloutLogProbs: live.logProbs,
    ...(isCut ? { cutLogProbs: live.cutLogProbs } : {}),
    finishReason,
  };
}
