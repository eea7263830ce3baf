/**
 * Completions from any server that speaks OpenAI's protocol: /v1/chat/completions or /v1/completions. Requests that fail are
 * tried again with growing pauses (429, 5xx, dropped and silent connections); what still fails is our fault or the server's,
 * never the model's.
 */
import OpenAI, { APIConnectionError, APIError } from "openai";
import PQueue from "p-queue";
import { ConfigError, hash32, InfrastructureError, requestSignal } from "../core/index.js";
import type { Completion, CompletionRequest, SamplingSettings } from "./completions-file.js";
import type { CompletionSource } from "./draw-completions.js";
import { plannedId } from "./solutions.js";

export interface EndpointOptions {
  readonly url: string;
  readonly model: string;
  readonly api: "chat" | "completions";
  /** Sent as bearer token and written nowhere. */
  readonly key?: string;
  readonly concurrency: number;
  /** Tries of a failed request are counted too. */
  readonly requestsPerMinute?: number;
  /** Longest wait for one answer, to its last byte. */
  readonly timeoutS: number;
  readonly retries: number;
  /** Absent settings are the server's. */
  readonly temperature?: number;
  readonly topP?: number;
  readonly seed?: number;
  readonly maxTokens: number;
  /** Further fields of the request body. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** The answer is none: no choice in it, not JSON. */
class UnusableAnswerError extends Error {
  override readonly name = "UnusableAnswerError";
}

const MOST_REASON_CHARS = 300;
/** So many failures in a row, besides the requests that are under way together, and the endpoint is taken for down. */
const FAILURES_BEFORE_GIVING_UP = 8;

/**
 * The base address of the API: `/v1` where the address has no path, and without the path of a method.
 * @throws ConfigError for what is no address, or one with a password in it
 */
export function baseUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol))
    throw new ConfigError({ at: "--endpoint", got: text, need: "an address as http://localhost:8000/v1" });
  if (url.username !== "" || url.password !== "" || url.search !== "") {
    throw new ConfigError({
      at: "--endpoint",
      need: "an address without password or query",
      fix: "The key comes from the environment variable RETORT_API_KEY or OPENAI_API_KEY.",
    });
  }
  const path = url.pathname.replace(/\/+$/, "").replace(/\/(chat\/)?completions$/, "");
  return `${url.origin}${path === "" ? "/v1" : path}`;
}

/**
 * A fetch that waits its turn, reads the whole answer and gives up after a time: a connection that breaks within the body is
 * then one more failed request to try again.
 */
export function patientFetch({
  requestsPerMinute,
  timeoutS,
}: Pick<EndpointOptions, "requestsPerMinute" | "timeoutS">): typeof fetch {
  const turns =
    requestsPerMinute === undefined
      ? null
      : new PQueue({ intervalCap: 1, interval: 60_000 / requestsPerMinute, carryoverConcurrencyCount: true });
  return async (input, init) => {
    const caller = init?.signal ?? null;
    await turns?.add(() => {}, caller === null ? {} : { signal: caller });
    const { signal, done } = requestSignal(caller === null ? [] : [caller], timeoutS * 1000);
    try {
      const answer = await fetch(input, { ...init, signal });
      const body = await answer.arrayBuffer();
      const { status, statusText, headers } = answer;
      return new Response(body.byteLength === 0 ? null : body, { status, statusText, headers });
    } finally {
      done();
    }
  };
}

/** Opens nothing yet: the first request does. */
export function createEndpoint(options: EndpointOptions): CompletionSource {
  const client = new OpenAI({
    baseURL: baseUrl(options.url),
    apiKey: options.key ?? "none", // the client insists on one; servers without keys ignore it
    organization: null,
    project: null,
    maxRetries: options.retries,
    timeout: 2 ** 31 - 1, // patientFetch has its own
    fetch: patientFetch(options),
    logLevel: "off",
  });
  return {
    settings: settingsOf(options),
    draw: (requests, onDrawn, signal) => drawAll(client, options, requests, onDrawn, signal),
    close: async () => {},
  };
}

const settingsOf = (options: EndpointOptions): SamplingSettings => ({
  source: "endpoint",
  model: options.model,
  api: options.api,
  temperature: options.temperature ?? null,
  top_p: options.topP ?? null,
  seed: options.seed ?? null,
  max_tokens: options.maxTokens,
  body: JSON.stringify(options.body),
});

async function drawAll(
  client: OpenAI,
  options: EndpointOptions,
  requests: readonly CompletionRequest[],
  onDrawn: Parameters<CompletionSource["draw"]>[1],
  signal: AbortSignal,
): Promise<void> {
  const queue = new PQueue({ concurrency: options.concurrency });
  const stop = new AbortController();
  const both = AbortSignal.any([signal, stop.signal]);
  let failuresInARow = 0;
  const drawOne = async (request: CompletionRequest): Promise<void> => {
    if (both.aborted) return;
    // A signal of its own: the client never takes its listeners away again.
    const own = requestSignal([both]);
    try {
      const drawn = await complete(client, options, request, own.signal).catch((error: unknown) => {
        if (both.aborted || isHopeless(error)) throw error;
        if (!isAboutRequest(error)) failuresInARow++;
        return { failure: reasonOf(error, options) };
      });
      onDrawn(request, drawn);
      if (!("failure" in drawn)) failuresInARow = 0;
      else if (failuresInARow >= options.concurrency + FAILURES_BEFORE_GIVING_UP)
        throw downError(options, drawn.failure);
    } catch (error) {
      queue.clear();
      if (!both.aborted) stop.abort(isHopeless(error) ? refusedError(options, error) : error);
    } finally {
      own.done();
    }
  };
  for (const request of requests) void queue.add(() => drawOne(request));
  await queue.onIdle(); // not the promises of `add`: those that `clear` removes stay open for ever
  if (stop.signal.aborted) throw stop.signal.reason;
}

/** One completion. @throws APIError, UnusableAnswerError */
async function complete(
  client: OpenAI,
  options: EndpointOptions,
  request: CompletionRequest,
  signal: AbortSignal,
): Promise<Completion> {
  const { model, api, temperature, topP, maxTokens, seed } = options;
  const sampling = {
    model,
    max_tokens: maxTokens,
    ...(temperature === undefined ? {} : { temperature }),
    ...(topP === undefined ? {} : { top_p: topP }),
    // One seed for all would make the samples of a task equal.
    ...(seed === undefined ? {} : { seed: hash32(`${seed} ${plannedId(request)}`) >>> 1 }),
    ...options.body,
  };
  if (api === "completions") {
    const prompt = request.messages.map(({ content }) => content).join("\n\n");
    return fromChoice(await client.completions.create({ prompt, ...sampling }, { signal }), "text");
  }
  const messages = request.messages.map(({ role, content }) => ({ role, content }) as never);
  return fromChoice(await client.chat.completions.create({ messages, ...sampling }, { signal }), "message");
}

/** Reads an answer as what it is, not as what its type promises: servers answer pages, and objects of their own. */
function fromChoice(answer: unknown, key: "text" | "message"): Completion {
  if (typeof answer !== "object" || answer === null) {
    const start = String(answer).trim().slice(0, 80);
    throw new UnusableAnswerError(`the endpoint answered no JSON object but ${JSON.stringify(start)}`);
  }
  const choice = (answer as { choices?: { finish_reason?: unknown; [key: string]: unknown }[] }).choices?.[0];
  const said = choice?.[key];
  if (choice === undefined || said === undefined || said === null) {
    const start = JSON.stringify(answer).slice(0, 120);
    throw new UnusableAnswerError(`the endpoint answered without a choice: ${start}`);
  }
  // A refusal, a tool call or a thought that took all the room leaves no text: the model wrote no program.
  const text = key === "text" ? said : (said as { content?: unknown }).content;
  return { completion: typeof text === "string" ? text : "", isTruncated: choice.finish_reason === "length" };
}

const HOPELESS = new Set([401, 403, 404]);
const isHopeless = (error: unknown): boolean =>
  error instanceof APIError && HOPELESS.has(Number(error.status));

/** Says nothing of the next request: a prompt too long for the model, for one. */
const isAboutRequest = (error: unknown): boolean =>
  error instanceof APIError && Number(error.status) >= 400 && Number(error.status) < 429;

/** One line without the key, which some servers repeat. */
function reasonOf(error: unknown, { key, timeoutS, retries }: EndpointOptions): string {
  const { message, cause } = error as Error;
  const isTimeout = /timed? ?out|timeout/i.test(`${message} ${(cause as Error | undefined)?.message ?? ""}`);
  const inner = error instanceof APIConnectionError && cause instanceof Error ? ` (${deepest(cause)})` : "";
  const tries = retries > 0 ? `, ${retries + 1} tries` : "";
  const said = isTimeout ? `no answer within ${timeoutS} s${tries}` : `${message}${inner}`;
  const line = said.replace(/\s+/g, " ").trim().slice(0, MOST_REASON_CHARS);
  const clean = key === undefined ? line : line.replaceAll(key, "[key]");
  return `endpoint: ${clean}`;
}

/** undici hides the reason two causes deep. */
const deepest = (error: Error): string =>
  error.cause instanceof Error ? deepest(error.cause) : error.message;

function refusedError(options: EndpointOptions, error: unknown): ConfigError {
  const status = Number((error as APIError).status);
  return new ConfigError({
    at: `--endpoint ${baseUrl(options.url)}`,
    need: `an endpoint that answers for model ${options.model}, but ${reasonOf(error, options)}`,
    fix:
      status === 404
        ? "Is the address right, and the model's name as the server spells it?"
        : "The key comes from the environment variable RETORT_API_KEY or OPENAI_API_KEY.",
  });
}

const downError = (options: EndpointOptions, reason: string): InfrastructureError =>
  new InfrastructureError(
    `${baseUrl(options.url)} has answered none of the last requests (${reason}). The same command goes on from here once it does: what is there is kept.`,
  );
