import type { DecoderConfig } from "../policy/index.js";
import type { Value } from "../tensor/index.js";
import type { CompletionHandlers, CompletionRequest, StartedRequest } from "./completion.js";
import type { KeyValueCache, Prefilled, RunnerShape } from "./key-value-cache.js";
import { LiveRequest, type LiveSequence } from "./live-request.js";
import { drawSlot, type SlotDraw, type StreamedToken } from "./sampling.js";

type Weights = Readonly<Record<string, Value>>;

/** A prefilled prompt whose samples still wait for slots. */
interface WaitingPrompt {
  readonly live: LiveRequest;
  readonly prefilled: Prefilled;
  readonly row: number;
}

/**
 * The sampler's loop: fill free slots from prefilled prompts, prefill more when none wait, decode one token of every slot,
 * hand on and free what ended. It runs while there is anything to draw, and takes requests as it runs.
 */
export class SlotLoop {
  /** Decoding steps until now. */
  decodeSteps = 0;
  private readonly slots: (LiveSequence | null)[];
  /** Requests whose prompts have not been prefilled. */
  private queue: LiveRequest[] = [];
  /** Those whose prompts are being prefilled. */
  private prefilling: readonly LiveRequest[] = [];
  private waiting: WaitingPrompt[] = [];
  private nextWeights: Weights | null = null;
  private hasWeights = false;
  private running: Promise<void> | null = null;

  constructor(
    private readonly cache: KeyValueCache,
    private readonly config: DecoderConfig,
    private readonly shape: RunnerShape,
  ) {
    this.slots = Array.from({ length: shape.slots }, () => null);
  }

  /** Requests that have begun end with the weights that they began with; those after them start with these. */
  setWeights(weights: Weights): void {
    this.nextWeights = weights;
    this.hasWeights = true;
  }

  /** @throws RangeError for a prompt that does not fit the shape or the vocabulary */
  start(request: CompletionRequest, handlers: CompletionHandlers): StartedRequest {
    if (!this.hasWeights) throw new Error("setWeights before the first request");
    checkPrompt(request.promptIds, this.shape, this.config);
    const live = new LiveRequest(request, handlers);
    this.queue.push(live);
    this.wake();
    return { cancel: (sample) => this.cancel(live, sample) };
  }

  /** Fails what is under way and resolves when nothing runs. */
  async stop(): Promise<void> {
    for (const live of this.allLive()) live.fail(new Error("the sampler was closed"));
    while (this.running !== null) await this.running;
  }

  private cancel(live: LiveRequest, sample?: number): void {
    if (sample === undefined) {
      live.end();
      return;
    }
    const place = live.samples.indexOf(sample);
    if (place >= 0) live.samples.splice(place, 1);
    for (const sequence of this.slots) {
      if (sequence?.of === live && sequence.sample === sample) sequence.cancel();
    }
  }

  private wake(): void {
    // Not at once: requests that are started together are prefilled together.
    this.running ??= Promise.resolve()
      .then(() => this.run())
      .catch((error: unknown) => this.failAll(error))
      .then(() => {
        this.running = null;
        if (!this.isIdle()) this.wake();
      });
  }

  private isIdle(): boolean {
    return this.queue.length === 0 && this.waiting.length === 0 && !this.hasLiveSlot();
  }

  private hasLiveSlot = (): boolean => this.slots.some((sequence) => sequence !== null);

  private async run(): Promise<void> {
    while (!this.isIdle()) {
      this.dropEnded();
      await this.takeWeights();
      await this.fill();
      while (this.mayPrefill()) {
        await this.prefill();
        await this.fill();
      }
      await this.decode();
    }
  }

  /** Frees what cancelled requests held. */
  private dropEnded(): void {
    this.queue = this.queue.filter((live) => live.samples.length > 0);
    this.slots.forEach((sequence, slot) => {
      if (sequence?.isOver) this.slots[slot] = null;
    });
  }

  /** New weights wait until what has begun has ended: a completion is drawn from one policy. */
  private async takeWeights(): Promise<void> {
    const weights = this.nextWeights;
    if (weights === null || this.waiting.length > 0 || this.hasLiveSlot()) return;
    await this.cache.useWeights(weights);
    // Only now: what failed is tried again, and nothing is drawn from a part of the old weights and a part of the new.
    if (this.nextWeights === weights) this.nextWeights = null;
  }

  private mayPrefill(): boolean {
    const isWanted = this.queue.length > 0 && this.nextWeights === null;
    return isWanted && this.waiting.length === 0 && this.slots.includes(null);
  }

  /** Prefills the next prompts; a long one leaves room between its parts, in which the others decode. */
  private async prefill(): Promise<void> {
    const batch = this.queue.splice(0, this.cache.prefillRows);
    this.prefilling = batch;
    const prompts = batch.map(({ request }) => request.promptIds);
    const prefilled = await this.cache.prefill(prompts, () => this.decode());
    this.waiting.push(...batch.map((live, row) => ({ live, prefilled, row })));
    this.prefilling = [];
    this.dropEnded();
  }

  /** Moves waiting samples into free slots. */
  private async fill(): Promise<void> {
    for (;;) {
      const prompt = this.waiting[0];
      if (prompt === undefined) return;
      const { live, prefilled, row } = prompt;
      const placed = this.place(prompt);
      if (placed.length > 0) await this.cache.assign(prefilled, row, placed);
      if (live.samples.length > 0) return;
      this.waiting.shift();
      if (!this.waiting.some((other) => other.prefilled === prefilled)) prefilled.release();
    }
  }

  /** Gives a prompt's samples the free slots; those whose only token the prefill's logits give need none. */
  private place({ live, prefilled, row }: WaitingPrompt): number[] {
    const free = this.slots.flatMap((slot, index) => (slot === null ? [index] : []));
    const placed: number[] = [];
    while (live.samples.length > 0 && placed.length < free.length) {
      const sequence = live.begin();
      if (
        prefilled.logits !== null &&
        !this.advance(sequence, this.drawn(prefilled.logits, row, sequence.draw()))
      )
        continue;
      const slot = free[placed.length]!;
      this.slots[slot] = sequence;
      placed.push(slot);
    }
    return placed;
  }

  private async decode(): Promise<void> {
    this.dropEnded();
    if (!this.hasLiveSlot()) return;
    const ids = Int32Array.from(this.slots, (sequence) => sequence?.lastId ?? 0);
    const positions = Int32Array.from(this.slots, (sequence) => sequence?.position ?? 0);
    const draws = this.slots.map((sequence) => sequence?.draw() ?? null);
    const step = await this.cache.step(ids, positions, draws);
    this.decodeSteps++;
    this.slots.forEach((sequence, slot) => {
      if (sequence === null || sequence.isOver) return;
      const token = "drawn" in step ? step.drawn[slot]! : this.drawn(step.logits, slot, draws[slot]!);
      if (!this.advance(sequence, token)) this.slots[slot] = null;
    });
  }

  private drawn(logits: Float32Array, row: number, draw: SlotDraw): StreamedToken {
    return drawSlot(logits, row, this.config.vocabulary, draw);
  }

  private advance(sequence: LiveSequence, token: StreamedToken): boolean {
    return sequence.advance(token, this.shape.cacheLength - sequence.of.request.promptIds.length);
  }

  private allLive(): LiveRequest[] {
    const drawing = this.slots.flatMap((sequence) => (sequence === null ? [] : [sequence.of]));
    return [...drawing, ...this.waiting.map(({ live }) => live), ...this.prefilling, ...this.queue];
  }

  /** A call of the cache failed: so has everything that was under way. */
  private failAll(error: unknown): void {
    const [all, waiting] = [this.allLive(), this.waiting];
    [this.queue, this.waiting, this.prefilling] = [[], [], []];
    this.slots.fill(null);
    for (const prefilled of new Set(waiting.map((prompt) => prompt.prefilled))) prefilled.release();
    for (const live of all) live.fail(error);
  }
}

function checkPrompt(
  prompt: readonly number[],
  { promptLength }: RunnerShape,
  { vocabulary }: DecoderConfig,
): void {
  if (prompt.length === 0 || prompt.length > promptLength)
    throw new RangeError(`a prompt of ${prompt.length} tokens does not fit 1 to ${promptLength}`);
  const bad = prompt.find((id) => !Number.isInteger(id) || id < 0 || id >= vocabulary);
  if (bad !== undefined) throw new RangeError(`prompt: ${bad} is no id of a vocabulary of ${vocabulary}`);
}
