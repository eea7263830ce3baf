/**
 * What a request to the policy's service may hold: OpenAI's fields, and those of vLLM and SGLang that we have a meaning for.
 * A field that would change the answer and that we lack is refused: quietly ignored it would give other completions.
 */
import { z } from "zod";
import { hash32, nearest } from "../../core/index.js";
import { RequestError } from "../../verifiers/service/request-error.js";

const MOST_CHOICES = 128;
const MOST_STOPS = 16;
const MOST_TOP = 20;
const UINT32 = 2 ** 32;

const TokenId = z.int().nonnegative();
const Ids = z.array(TokenId);

/** Only the value that changes nothing. */
const neutral = (value: number | boolean): z.ZodType =>
  z.literal(value, { error: `is not offered here: only ${value}` }).nullish();

/** Fields of clients' own book-keeping, read and left. */
const LEFT = [
  ...["user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"],
  ...["parallel_tool_calls", "request_id", "rid", "priority", "cache_salt", "detokenize"],
] as const;

const Sampling = {
  model: z.string().optional(),
  n: z.int().min(1).max(MOST_CHOICES).nullish(),
  seed: z.int().nullish(),
  temperature: z.number().min(0).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  /** -1 and 0: all. */
  top_k: z.int().min(-1).nullish(),
  stop: z
    .union([z.string(), z.array(z.string()).max(MOST_STOPS)], {
      error: `a text, or a list of at most ${MOST_STOPS}`,
    })
    .nullish(),
  stop_token_ids: Ids.nullish(),
  include_stop_str_in_output: z.boolean().nullish(),
  ignore_eos: z.boolean().nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.looseObject({ include_usage: z.boolean().nullish() }).nullish(),
  return_token_ids: z.boolean().nullish(),
  /** Ours: names the random stream within the seed, as a training run does. */
  random_key: z.string().max(1000).nullish(),
  /** Ours: index of the first choice in that stream. */
  sample_index: z
    .int()
    .nonnegative()
    .max(UINT32 - MOST_CHOICES)
    .nullish(),
  presence_penalty: neutral(0),
  frequency_penalty: neutral(0),
  repetition_penalty: neutral(1),
  min_p: neutral(0),
  min_tokens: neutral(0),
  skip_special_tokens: neutral(true),
  spaces_between_special_tokens: z.boolean().nullish(),
  logit_bias: z.record(z.string(), z.number()).nullish().refine(isEmpty, "is not offered here"),
  response_format: z.looseObject({ type: z.literal("text", "only text is offered here") }).nullish(),
};

function isEmpty(value: object | null | undefined): boolean {
  return value === null || value === undefined || Object.keys(value).length === 0;
}

const CompletionBody = z.object({
  ...Sampling,
  prompt: z.union([z.string(), Ids.min(1), z.array(z.string()).min(1), z.array(Ids.min(1)).min(1)], {
    error: "a text, a list of token ids, or a list of either",
  }),
  max_tokens: z.int().positive().nullish(),
  /** How many of the likeliest tokens to name beside each one. */
  logprobs: z.int().min(0).max(MOST_TOP).nullish(),
  echo: z.boolean().nullish(),
  best_of: z.int().nullish(),
  suffix: z.string().max(0, "is not offered here").nullish(),
});
export type CompletionBody = z.infer<typeof CompletionBody>;

const TextPart = z.object({ type: z.literal("text", "only text parts are offered here"), text: z.string() });
const Message = z.object({
  role: z.enum(["system", "developer", "user", "assistant"]),
  content: z.union([z.string(), z.array(TextPart)], { error: "a text, or a list of text parts" }),
});

const ChatBody = z.object({
  ...Sampling,
  messages: z.array(Message).min(1),
  max_tokens: z.int().positive().nullish(),
  max_completion_tokens: z.int().positive().nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(MOST_TOP).nullish(),
  tools: z.array(z.unknown()).max(0, "are not offered here").nullish(),
  tool_choice: z.enum(["none", "auto"]).nullish(),
});
export type ChatBody = z.infer<typeof ChatBody>;

/** @throws RequestError 400 that names the field */
function parsed<T extends z.ZodObject>(schema: T, body: unknown): z.infer<T> {
  const result = schema.safeParse(body);
  if (!result.success) {
    const issue = result.error.issues[0]!;
    throw badField(issue.path.map(String).join(".") || "body", issue.message);
  }
  const known = [...Object.keys(schema.shape), ...LEFT];
  for (const key of Object.keys(body as object)) {
    if (known.includes(key)) continue;
    const guess = nearest(key, known);
    throw badField(
      key,
      `is no field that is understood here${guess === null ? "" : `; did you mean ${guess}?`}`,
    );
  }
  return result.data;
}

/** A request that says something wrong in one field. */
export class FieldError extends RequestError {
  readonly param: string;
  constructor(param: string, message: string) {
    super(400, "body", message);
    this.param = param;
  }
}

export const badField = (param: string, message: string): FieldError =>
  new FieldError(param, `${param}: ${message}`);

export function readCompletion(body: unknown): CompletionBody {
  const read = parsed(CompletionBody, body);
  if (read.best_of != null && read.best_of !== (read.n ?? 1))
    throw badField("best_of", "is not offered here: only the value of n");
  return read;
}

export function readChat(body: unknown): ChatBody {
  const read = parsed(ChatBody, body);
  if (read.top_logprobs != null && read.top_logprobs > 0 && read.logprobs !== true)
    throw badField("top_logprobs", "needs logprobs: true");
  return read;
}

/** How the choices of a request are drawn. */
export interface Drawing {
  readonly n: number;
  readonly seed: number;
  readonly randomKey: string;
  readonly firstSample: number;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly stops: readonly string[];
  readonly keepsStop: boolean;
  readonly stopIds: readonly number[];
}

/**
 * @param ownStopIds - where the policy ends its turn
 * @param freshSeed - for a request that names none
 */
export function drawingOf(
  body: CompletionBody | ChatBody,
  ownStopIds: readonly number[],
  freshSeed: number,
): Drawing {
  const stops = [body.stop ?? []].flat().filter((text) => text !== "");
  const seed = body.seed ?? freshSeed;
  const given = body.stop_token_ids ?? [];
  return {
    n: body.n ?? 1,
    // Any integer may come; the random numbers know 32 bits.
    seed: seed >= 0 && seed < UINT32 ? seed : hash32(String(seed)),
    randomKey: body.random_key ?? "completion",
    firstSample: body.sample_index ?? 0,
    temperature: body.temperature ?? 1,
    topP: body.top_p ?? 1,
    topK: Math.max(0, body.top_k ?? 0),
    stops,
    keepsStop: body.include_stop_str_in_output ?? false,
    stopIds: [...new Set([...(body.ignore_eos ? [] : ownStopIds), ...given])],
  };
}
