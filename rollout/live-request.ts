/** One request in the slot loop: which of its samples still wait, which are under way, and what it has been told. */
import { hash32, uniformAt } from "../core/index.js";
import type { Completion, CompletionHandlers, CompletionRequest } from "./completion.js";
import type { Alternative, SlotDraw, StreamedToken } from "./sampling.js";

export class LiveRequest {
  /** Samples that have not begun. */
  readonly samples: number[];
  /** Cancelled or failed: nothing is told of it any more. */
  isOver = false;
  private readonly stream: number;

  constructor(
    readonly request: CompletionRequest,
    private readonly handlers: CompletionHandlers,
  ) {
    this.samples = [...request.samples];
    this.stream = hash32(request.randomKey);
  }

  /** Begins a sample that waits. */
  begin(): LiveSequence {
    return new LiveSequence(this, this.samples.shift()!);
  }

  /** In [0, 1): what fixes the draw at a position of a sample's completion. */
  uniform(sample: number, position: number): number {
    return uniformAt(this.request.seed, "sample", this.stream, sample, position);
  }

  /** Calls a handler; what it throws ends the request. */
  tell(what: (handlers: CompletionHandlers) => void): void {
    if (this.isOver) return;
    try {
      what(this.handlers);
    } catch (error) {
      this.fail(error);
    }
  }

  end(): void {
    this.isOver = true;
    this.samples.length = 0;
  }

  fail(error: unknown): void {
    if (this.isOver) return;
    this.end();
    this.handlers.onError(error instanceof Error ? error : new Error(String(error)));
  }
}

/** A completion in the making. */
export class LiveSequence {
  private readonly ids: number[] = [];
  private readonly logProbs: number[] = [];
  private readonly cutLogProbs: number[] = [];
  private readonly alternatives: (readonly Alternative[])[] = [];
  private isCancelled = false;

  constructor(
    readonly of: LiveRequest,
    readonly sample: number,
  ) {}

  /** Position of the last token so far. */
  get position(): number {
    return this.of.request.promptIds.length + this.ids.length - 1;
  }

  /** The last token so far: drawn, or the prompt's. */
  get lastId(): number {
    return this.ids.at(-1) ?? this.of.request.promptIds.at(-1)!;
  }

  get isOver(): boolean {
    return this.isCancelled || this.of.isOver;
  }

  cancel(): void {
    this.isCancelled = true;
  }

  /** How the next token is drawn. */
  draw(): SlotDraw {
    const { temperature, topP, topK, alternatives = 0 } = this.of.request;
    return { temperature, topP, topK, alternatives, uniform: this.of.uniform(this.sample, this.ids.length) };
  }

  /**
   * Takes the next token and hands it on; the completion too, when it is the last.
   * @param room - tokens that the cache has left for the completion
   * @returns whether it goes on
   */
  advance(token: StreamedToken, room: number): boolean {
    const { request } = this.of;
    this.ids.push(token.id);
    this.logProbs.push(token.logProb);
    this.cutLogProbs.push(token.cutLogProb);
    if (token.alternatives !== undefined) this.alternatives.push(token.alternatives);
    const isStopped = request.stopIds.includes(token.id);
    const isEnd = isStopped || this.ids.length >= Math.min(request.maxNewTokens, room);
    this.of.tell(({ onToken }) => onToken?.(this.sample, token));
    if (isEnd && !this.isOver) this.of.tell(({ onFinished }) => onFinished(this.completion(isStopped)));
    return !isEnd && !this.isOver;
  }

  private completion(isStopped: boolean): Completion {
    const { topP, topK, alternatives = 0 } = this.of.request;
    return {
      sample: this.sample,
      completionIds: this.ids,
      rolloutLogProbs: this.logProbs,
      ...(topP < 1 || topK > 0 ? { cutLogProbs: this.cutLogProbs } : {}),
      ...(alternatives > 0 ? { alternatives: this.alternatives } : {}),
      finishReason: isStopped ? "stop" : "length",
    };
  }
}
