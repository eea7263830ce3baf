/** /v1/completions and /v1/chat/completions: a request becomes choices that the engine writes, and they an answer. */
import { randomBytes, randomInt } from "node:crypto";
import { Readable } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { ConfigError } from "../../core/index.js";
import type { ChatMessage, PolicyTokenizer } from "../../policy/index.js";
import { RequestError } from "../../verifiers/service/request-error.js";
import { RequestLife } from "../../verifiers/service/request-life.js";
import { type AnswerContext, chatShape, completionShape, type Shape, usageOf } from "./answers.js";
import type { Choice } from "./choice.js";
import type { Models, ServedModel } from "./models.js";
import {
  badField,
  type ChatBody,
  type CompletionBody,
  drawingOf,
  readChat,
  readCompletion,
} from "./request-fields.js";
import { inErrorShape } from "./server-errors.js";
import { type Prompt, Writing, type WritingParts } from "./writing.js";

/** OpenAI's, for /v1/completions; a chat may fill all the room. */
const DEFAULT_MAX_TOKENS = 16;

export interface ApiParts extends WritingParts {
  readonly models: Models;
  /** Positions of a prompt and its completion together. */
  readonly context: number;
  /** Ids below this exist. */
  readonly vocabulary: number;
  /** Completions that may wait or be written at a time. */
  readonly mostUnderWay: number;
  readonly deadlineS: number;
  /** Aborted, with an Error, when the service may wait no longer. */
  readonly enough: AbortSignal;
  /** Completions that wait or are being written; kept here. */
  readonly load: { underWay: number };
  /** All requests under way, to call them off. */
  readonly open: Set<Writing>;
}

/** A request of either API, understood. */
interface Asked {
  readonly shape: Shape;
  readonly body: CompletionBody | ChatBody;
  readonly prompts: readonly Prompt[];
  /** What stands before each completion's text. */
  readonly echoes: readonly string[];
  readonly hasLogProbs: boolean;
  readonly alternatives: number;
}

export function openaiApi(app: FastifyInstance, parts: ApiParts): void {
  app.get("/v1/models", () => ({
    object: "list",
    data: parts.models.all.map((model) => card(model, parts)),
  }));
  app.get<{ Params: { "*": string } }>("/v1/models/*", (request) => {
    const name = request.params["*"];
    const model = parts.models.all.find((each) => each.name === name);
    if (model === undefined)
      throw new RequestError(404, "model", `The model \`${name.slice(0, 200)}\` does not exist.`);
    return card(model, parts);
  });
  app.post("/v1/completions", (request, reply) => answer(parts, readsCompletion(parts, request), reply));
  app.post("/v1/chat/completions", (request, reply) => answer(parts, readsChat(parts, request), reply));
}

const card = ({ name, folder, parent }: ServedModel, { context }: ApiParts): unknown => ({
  id: name,
  object: "model",
  created: 0,
  owned_by: "retort",
  root: folder,
  parent,
  max_model_len: context,
});

function readsCompletion(parts: ApiParts, request: FastifyRequest): Asked {
  const body = readCompletion(request.body);
  const { prompt } = body;
  const { tokenizer } = parts;
  const isIds = Array.isArray(prompt) && typeof prompt[0] === "number";
  const given = (Array.isArray(prompt) && !isIds ? prompt : [prompt]) as readonly (string | number[])[];
  checkRoom(parts, given.length * (body.n ?? 1)); // before thousands of texts are made tokens
  const ids = given.map((each) => (typeof each === "string" ? tokenizer.encode(each) : each));
  const asked = body.max_tokens ?? DEFAULT_MAX_TOKENS;
  if (body.echo && body.logprobs != null)
    throw badField("echo", "is not offered together with logprobs: retort score gives those of a prompt");
  return {
    shape: completionShape,
    body,
    prompts: ids.map((each) =>
      promptOf(parts, each, body.max_tokens == null ? null : asked, asked, "prompt"),
    ),
    echoes: given.map((each, index) =>
      body.echo ? (typeof each === "string" ? each : tokenizer.decode(ids[index]!)) : "",
    ),
    hasLogProbs: body.logprobs != null,
    alternatives: body.logprobs ?? 0,
  };
}

function readsChat(parts: ApiParts, request: FastifyRequest): Asked {
  const body = readChat(request.body);
  const messages = body.messages.map(
    ({ role, content }): ChatMessage => ({
      role: role === "developer" ? "system" : role,
      content: typeof content === "string" ? content : content.map(({ text }) => text).join(""),
    }),
  );
  const asked = body.max_completion_tokens ?? body.max_tokens ?? null;
  return {
    shape: chatShape,
    body,
    prompts: [
      promptOf(parts, chatIds(parts.tokenizer, messages), asked, Number.POSITIVE_INFINITY, "messages"),
    ],
    echoes: [""],
    hasLogProbs: body.logprobs === true,
    alternatives: body.top_logprobs ?? 0,
  };
}

/** @throws FieldError where the template refuses the conversation */
function chatIds(tokenizer: PolicyTokenizer, messages: readonly ChatMessage[]): number[] {
  try {
    return tokenizer.promptIds(messages);
  } catch (error) {
    if (error instanceof ConfigError) throw badField("messages", error.message);
    throw error;
  }
}

/**
 * @param asked - room that the request wants, null where it names none
 * @param usual - most room where it names none
 */
function promptOf(
  { context, vocabulary }: ApiParts,
  ids: readonly number[],
  asked: number | null,
  usual: number,
  field: string,
): Prompt {
  if (ids.length === 0) throw badField(field, "needs at least one token");
  const strange = ids.find((id) => id >= vocabulary);
  if (strange !== undefined) throw badField(field, `${strange} is no id of a vocabulary of ${vocabulary}`);
  const room = context - ids.length;
  if (room < 1 || (asked !== null && asked > room)) {
    const wants = asked === null ? "" : ` and ${asked} for the completion`;
    throw new RequestError(
      400,
      "context",
      `This model has ${context} positions, but the request wants ${ids.length} for the prompt${wants}.`,
    );
  }
  return { ids, maxNewTokens: Math.min(asked ?? usual, room) };
}

function checkRoom({ load: { underWay }, mostUnderWay }: ApiParts, count: number): void {
  if (underWay + count <= mostUnderWay) return;
  const text = `${count} completions are asked for, ${underWay} are under way, and ${mostUnderWay} fit at a time.`;
  throw new RequestError(429, "queue", text, 1);
}

async function answer(parts: ApiParts, asked: Asked, reply: FastifyReply): Promise<unknown> {
  const { body, prompts } = asked;
  const drawing = drawingOf(body, parts.ownStopIds, randomInt(2 ** 32));
  const count = prompts.length * drawing.n;
  checkRoom(parts, count);
  parts.load.underWay += count;
  const over: (() => void)[] = [
    () => {
      parts.load.underWay -= count;
    },
  ];
  const finish = (): void => {
    for (const each of over.splice(0)) each();
  };
  let writing: Writing | null = null;
  const callOff = (): void => {
    parts.metrics.cancelled();
    writing?.cancel();
  };
  const life = new RequestLife({ callOff }, reply, parts.deadlineS, parts.enough);
  over.push(() => life.over());
  try {
    const entered = parts.models.enter(body.model);
    // Given up while it waited for new weights: it must not stay inside.
    entered.then(({ leave }) => (over.length === 0 ? leave() : over.push(leave))).catch(() => {});
    const { model } = await life.inTime(entered);
    parts.metrics.asked(prompts.reduce((sum, { ids }) => sum + ids.length, 0));
    const { alternatives } = asked;
    const started = new Writing(parts, { model: model.name, prompts, drawing, alternatives });
    writing = started;
    parts.open.add(started);
    over.push(() => {
      parts.open.delete(started);
    });
    const context = contextOf(parts, asked, model);
    if (body.stream) return await streamed(asked, context, started, life, reply, finish);
    await life.inTime(started.done);
    const result = whole(asked, context, started, drawing.n);
    finish();
    return result;
  } catch (error) {
    finish();
    throw error;
  }
}

const contextOf = ({ tokenizer }: ApiParts, asked: Asked, model: ServedModel): AnswerContext => ({
  id: `${asked.shape.prefix}${randomBytes(12).toString("hex")}`,
  created: Math.floor(Date.now() / 1000),
  model: model.name,
  weightVersion: model.version,
  tokenizer,
  hasLogProbs: asked.hasLogProbs,
  returnsIds: asked.body.return_token_ids ?? false,
});

const promptTokens = ({ prompts }: Asked): number => prompts.reduce((sum, { ids }) => sum + ids.length, 0);

function whole(asked: Asked, context: AnswerContext, { choices, tokens }: Writing, n: number): unknown {
  const withPrompts = choices.map((choice) => {
    const prompt = Math.floor(choice.index / n);
    return { choice, promptIds: asked.prompts[prompt]!.ids, echo: asked.echoes[prompt]! };
  });
  return asked.shape.whole(context, withPrompts, usageOf(promptTokens(asked), tokens));
}

const event = (value: unknown): string => `data: ${JSON.stringify(value)}\n\n`;

/** Server-sent events: a chunk whenever a choice has new text, then `[DONE]`. */
async function streamed(
  asked: Asked,
  context: AnswerContext,
  writing: Writing,
  life: RequestLife,
  reply: FastifyReply,
  finish: () => void,
): Promise<unknown> {
  const stream = new Readable({ read: () => {} });
  const perPrompt = writing.choices.length / asked.prompts.length;
  const told = writing.choices.map(() => ({ text: 0, isFirst: true }));
  writing.onProgress = (choice: Choice): void => {
    const state = told[choice.index]!;
    const part = choice.part(state.text);
    if (part === null) return;
    const prompt = Math.floor(choice.index / perPrompt);
    const first = state.isFirst
      ? { promptIds: asked.prompts[prompt]!.ids, echo: asked.echoes[prompt]! }
      : null;
    const offset = state.text + asked.echoes[prompt]!.length;
    stream.push(event(asked.shape.chunk(context, choice, { ...part, offset }, first)));
    state.text += part.text.length;
    state.isFirst = false;
  };
  life
    .inTime(writing.done)
    .then(() => {
      const usage = usageOf(promptTokens(asked), writing.tokens);
      if (asked.body.stream_options?.include_usage) stream.push(event(asked.shape.lastChunk(context, usage)));
      stream.push("data: [DONE]\n\n");
    })
    .catch((error: unknown) => stream.push(event(inErrorShape(toRefusal(error)))))
    .finally(() => {
      stream.push(null);
      finish();
    });
  reply.header("content-type", "text/event-stream; charset=utf-8").header("cache-control", "no-cache");
  return reply.send(stream);
}

const toRefusal = (error: unknown): RequestError =>
  error instanceof RequestError ? error : new RequestError(500, "invalid", (error as Error).message);
