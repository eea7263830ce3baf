/** A language model behind OpenAI's protocol: one conversation in, one reply out, patient with a server that is busy. */
import OpenAI, { APIError } from "openai";
import { ConfigError } from "../../core/index.js";
import { baseUrl, patientFetch } from "../endpoint.js";
import type { Message } from "./conversation.js";

export interface EndpointOptions {
  readonly url: string;
  readonly model: string;
  /** Sent as bearer token and written nowhere. */
  readonly key?: string;
  readonly requestsPerMinute?: number;
  /** Longest wait for one answer, to its last byte. */
  readonly timeoutS: number;
  readonly retries: number;
  /** Absent: the server's own. */
  readonly temperature?: number;
  readonly maxTokens?: number;
}

export interface Reply {
  readonly text: string;
  /** Cut at its longest length. */
  readonly isTruncated: boolean;
  readonly promptTokens: number;
  readonly completionTokens: number;
}

/** No reply, after every retry: nobody's fault here, and asked again by the next run. */
export class EndpointError extends Error {
  override readonly name = "EndpointError";
}

export interface Endpoint {
  /**
   * @throws EndpointError after the last retry
   * @throws ConfigError where no request can succeed: a wrong key, model or address
   */
  ask(messages: readonly Message[]): Promise<Reply>;
  /** Requests sent, those tried again included. */
  readonly requests: () => number;
}

/** Answers that no repetition changes: the key, the address or the model's name is wrong. */
const HOPELESS = new Set([401, 403, 404]);

/** The last cause: undici hides the reason two causes deep. */
const deepest = (error: Error): Error => (error.cause instanceof Error ? deepest(error.cause) : error);

/** Opens nothing yet: the first request does. */
export function createEndpoint(options: EndpointOptions): Endpoint {
  const baseURL = baseUrl(options.url);
  let requests = 0;
  const { key, model } = options;
  const patient = patientFetch(options);
  const client = new OpenAI({
    baseURL,
    apiKey: key ?? "none", // the client insists on one; servers without keys ignore it
    organization: null,
    project: null,
    maxRetries: options.retries,
    timeout: 2 ** 31 - 1, // patientFetch has its own
    fetch: (input, init) => {
      requests++;
      return patient(input, init);
    },
    logLevel: "off",
  });
  const reasonOf = (error: unknown): string => {
    const said =
      error instanceof APIError && error.status !== undefined
        ? error.message
        : deepest(error as Error).message;
    const line = said.replace(/\s+/g, " ").slice(0, 300);
    return key === undefined ? line : line.replaceAll(key, "[key]");
  };
  return {
    requests: () => requests,
    async ask(messages) {
      const { temperature, maxTokens } = options;
      try {
        const answer: unknown = await client.chat.completions.create({
          model,
          messages: messages.map(({ role, content }) => ({ role, content })),
          ...(temperature === undefined ? {} : { temperature }),
          ...(maxTokens === undefined ? {} : { max_tokens: maxTokens }),
        });
        return replyOf(answer);
      } catch (error) {
        if (error instanceof APIError && HOPELESS.has(Number(error.status))) {
          throw new ConfigError({
            at: `--endpoint ${baseURL}`,
            need: `an endpoint that answers for model ${model}, but: ${reasonOf(error)}`,
            fix: "The key comes from RETORT_API_KEY or OPENAI_API_KEY; the model is named as the server spells it.",
            cause: error,
          });
        }
        throw new EndpointError(reasonOf(error), { cause: error });
      }
    },
  };
}

/** Reads an answer as what it is, not as what its type promises: servers answer pages, and objects of their own. */
function replyOf(answer: unknown): Reply {
  const { choices, usage } = (typeof answer === "object" && answer !== null ? answer : {}) as {
    choices?: { message?: { content?: unknown }; finish_reason?: unknown }[];
    usage?: { prompt_tokens?: unknown; completion_tokens?: unknown };
  };
  const choice = Array.isArray(choices) ? choices[0] : undefined;
  if (choice?.message === undefined) {
    throw new EndpointError(`an answer without a choice: ${(JSON.stringify(answer) ?? "").slice(0, 120)}`);
  }
  const { content } = choice.message;
  const count = (tokens: unknown): number => (typeof tokens === "number" && tokens > 0 ? tokens : 0);
  return {
    text: typeof content === "string" ? content : "",
    isTruncated: choice.finish_reason === "length",
    promptTokens: count(usage?.prompt_tokens),
    completionTokens: count(usage?.completion_tokens),
  };
}
