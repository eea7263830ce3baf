/** What is asked of the sampler and what it gives: the records of one request. */
import type { FinishReason } from "../core/index.js";
import type { Alternative, SamplingParameters, StreamedToken } from "./sampling.js";

export interface SamplingOptions extends SamplingParameters {
  readonly seed: number;
  /** Includes the stop token. */
  readonly maxNewTokens: number;
  readonly stopIds: readonly number[];
}

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

/** Completions of one prompt, with sampling options of their own. Plain data: it may be posted to another thread. */
export interface CompletionRequest extends SamplingOptions, Omit<GroupRequest, "group"> {
  /** Most likely tokens to report beside each drawn one, before top-k and top-p cut anything. Default: 0. */
  readonly alternatives?: number;
}

/** A finished completion. */
export interface Completion {
  readonly sample: number;
  readonly completionIds: number[];
  readonly rolloutLogProbs: number[];
  /** There when top-k or top-p cut something. */
  readonly cutLogProbs?: number[];
  /** For each token; there when the request asks for any. */
  readonly alternatives?: (readonly Alternative[])[];
  readonly finishReason: FinishReason;
}

/** A finished completion of a group, handed on the moment it ends. */
export interface SampledSequence extends Completion {
  readonly group: number;
}

/** What a request hears of. An error that one of them throws ends the request, as `onError` then tells. */
export interface CompletionHandlers {
  /** Each token as it is drawn, the last one included. Leave it out where nothing is streamed: it costs a message. */
  onToken?(sample: number, token: StreamedToken): void;
  /** Once for each sample, after its last token. */
  onFinished(completion: Completion): void;
  /** At most once; nothing is told of the request after it. */
  onError(error: Error): void;
}

/** A request under way. */
export interface StartedRequest {
  /** Ends one sample, or all of them; frees their slots before the next token and tells nothing more of them. */
  cancel(sample?: number): void;
}

export interface SamplingStats {
  readonly tokens: number;
  readonly seconds: number;
  /** Decoding steps, all lanes together. */
  readonly decodeSteps: number;
}
