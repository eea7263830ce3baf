/**
 * A completion asked of a server by token ids and read back as token ids with their log-probabilities.
 * `completions`: vLLM's /v1/completions from 0.10.2 on (`return_token_ids`), which `retort serve` speaks too.
 * `generate`: SGLang's own /generate, whose log-probabilities name the ids.
 */
import { z } from "zod";
import { type FinishReason, hash32 } from "../../core/index.js";
import type { SamplingOptions } from "../completion.js";

/** One completion that is wanted. */
export interface Wanted {
  readonly group: number;
  readonly randomKey: string;
  readonly promptIds: readonly number[];
  readonly sample: number;
}

/** What came back. */
export interface RemoteCompletion {
  readonly ids: number[];
  readonly logProbs: number[];
  readonly finishReason: FinishReason;
  /** As the server names its weights; null where it does not say. */
  readonly weightVersion: string | null;
}

/** The server's answer lacks what training needs, whatever is asked again: the ids that it drew. */
export class NoTokenIdsError extends Error {
  override readonly name = "NoTokenIdsError";
}

/** An answer that is none; asking again may give one. */
export class UnusableAnswerError extends Error {
  override readonly name = "UnusableAnswerError";
}

export interface Protocol {
  readonly path: string;
  body(model: string, wanted: Wanted, options: SamplingOptions, isOurs: boolean): unknown;
  /** @throws NoTokenIdsError, UnusableAnswerError */
  read(text: string): RemoteCompletion;
}

/** A server of ours is told the stream of random numbers, so that it draws what the local sampler would; others get a number. */
const seedFields = ({ seed }: SamplingOptions, { randomKey, sample }: Wanted, isOurs: boolean): object =>
  isOurs
    ? { seed, random_key: randomKey, sample_index: sample }
    : { seed: hash32(`${seed} ${randomKey} ${sample}`) >>> 1 }; // some keep it in 32 bits with a sign

/** Servers fill what is absent from the model's generation_config.json: so everything that bends the distribution is said. */
const plainSampling = (options: SamplingOptions): object => ({
  temperature: options.temperature,
  top_p: options.topP,
  top_k: options.topK === 0 ? -1 : options.topK,
  min_p: 0,
  repetition_penalty: 1,
  presence_penalty: 0,
  frequency_penalty: 0,
});

const Completions = z.object({
  choices: z
    .array(
      z.looseObject({
        finish_reason: z.string().nullish(),
        token_ids: z.array(z.int()).nullish(),
        logprobs: z.looseObject({ token_logprobs: z.array(z.number().nullable()) }).nullish(),
      }),
    )
    .min(1),
  metadata: z.looseObject({ weight_version: z.string().nullish() }).nullish(),
});

const completions: Protocol = {
  path: "/completions",
  body: (model, wanted, options, isOurs) => ({
    model,
    prompt: wanted.promptIds,
    n: 1,
    max_tokens: options.maxNewTokens,
    ...plainSampling(options),
    ...seedFields(options, wanted, isOurs),
    stop_token_ids: options.stopIds,
    logprobs: 1, // 0 would do for vLLM; some servers take it for none
    return_token_ids: true,
  }),
  read: (text) => {
    const { choices, metadata } = parsed(Completions, text);
    const { token_ids: ids, logprobs, finish_reason } = choices[0]!;
    const finish = ended(finish_reason);
    if (ids == null)
      throw new NoTokenIdsError("its answer has no token_ids beside the text, and decoding is no way back");
    if (logprobs == null) throw new NoTokenIdsError("its answer has no log-probabilities of the tokens");
    return checked(ids, logprobs.token_logprobs, finish, metadata?.weight_version ?? null);
  },
};

const Generated = z.looseObject({
  meta_info: z.looseObject({
    finish_reason: z.looseObject({ type: z.string() }).nullish(),
    /** [log-probability, id, text or null] of each token. */
    output_token_logprobs: z.array(z.tuple([z.number(), z.int()], z.unknown())).nullish(),
    weight_version: z.string().nullish(),
  }),
});

const generate: Protocol = {
  path: "/generate",
  body: (model, wanted, options, isOurs) => {
    const { seed: samplingSeed, ...stream } = seedFields(options, wanted, isOurs) as { seed: number };
    return {
      model, // ours: which adapter; SGLang leaves it
      input_ids: wanted.promptIds,
      sampling_params: {
        max_new_tokens: options.maxNewTokens,
        ...plainSampling(options),
        stop_token_ids: options.stopIds,
        sampling_seed: samplingSeed,
        ...stream,
      },
      return_logprob: true,
      stream: false,
    };
  },
  read: (text) => {
    const {
      finish_reason,
      output_token_logprobs: tokens,
      weight_version,
    } = parsed(Generated, text).meta_info;
    const finish = ended(finish_reason?.type);
    if (tokens == null) throw new NoTokenIdsError("its answer has no output_token_logprobs");
    const ids = tokens.map(([, id]) => id);
    return checked(
      ids,
      tokens.map(([logProb]) => logProb),
      finish,
      weight_version ?? null,
    );
  },
};

export const PROTOCOLS = { completions, generate } as const;

function parsed<T extends z.ZodType>(schema: T, text: string): z.infer<T> {
  const start = text.replace(/\s+/g, " ").trim().slice(0, 120);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new UnusableAnswerError(`it answered no JSON but ${JSON.stringify(start)}`);
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw new UnusableAnswerError(`its answer has no usable ${issue.path.join(".")}: ${start}`);
}

/** Told before anything else is looked for: what was broken off may lack it. @throws UnusableAnswerError */
function ended(finish: string | null | undefined): FinishReason {
  if (finish === "stop" || finish === "length") return finish;
  throw new UnusableAnswerError(`the completion ended by ${JSON.stringify(finish)}, not by stop or length`);
}

/** @throws UnusableAnswerError for an answer whose parts do not belong together */
function checked(
  ids: number[],
  logProbs: readonly (number | null)[],
  finishReason: FinishReason,
  weightVersion: string | null,
): RemoteCompletion {
  if (ids.length === 0) throw new UnusableAnswerError("the completion has no token");
  if (ids.length !== logProbs.length)
    throw new UnusableAnswerError(`${ids.length} token ids came with ${logProbs.length} log-probabilities`);
  const numbers = logProbs.map((value) => value ?? Number.NaN);
  if (!numbers.every(Number.isFinite))
    throw new UnusableAnswerError("a log-probability of the completion is no number");
  return { ids, logProbs: numbers, finishReason, weightVersion };
}
