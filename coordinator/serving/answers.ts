/** Answers in OpenAI's shapes, with vLLM's names for token ids and SGLang's for the version of the weights. */
import type { PolicyTokenizer } from "../../policy/index.js";
import type { StreamedToken } from "../../rollout/index.js";
import type { Choice } from "./choice.js";

/** What all answers of a request say alike. */
export interface AnswerContext {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
  readonly weightVersion: string;
  readonly tokenizer: PolicyTokenizer;
  readonly hasLogProbs: boolean;
  readonly returnsIds: boolean;
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

export const usageOf = (promptTokens: number, completionTokens: number): Usage => ({
  prompt_tokens: promptTokens,
  completion_tokens: completionTokens,
  total_tokens: promptTokens + completionTokens,
});

type Json = Record<string, unknown>;

const head = ({ id, created, model }: AnswerContext, object: string): Json => ({
  id,
  object,
  created,
  model,
});

/** The end of the last chunk, or of the whole answer. */
export const metadata = ({ weightVersion }: AnswerContext): Json => ({
  metadata: { weight_version: weightVersion },
});

const ending = (choice: Choice): Json => ({ finish_reason: choice.finish, stop_reason: choice.stopReason });

/** Log-probabilities as /v1/completions has them. @param offset - of the first token's text in the choice's */
function completionLogProbs(context: AnswerContext, tokens: readonly StreamedToken[], offset: number): Json {
  const { tokenizer } = context;
  const texts = tokens.map(({ id }) => tokenizer.tokenText(id));
  let at = offset;
  const offsets = tokens.map(({ id }) => {
    const start = at;
    at += tokenizer.decode([id]).length;
    return start;
  });
  return {
    tokens: texts,
    token_logprobs: tokens.map(({ logProb }) => logProb),
    top_logprobs: tokens.map(({ alternatives = [] }, index) =>
      // The drawn token is always among them, as in OpenAI's answers.
      Object.fromEntries([
        ...alternatives.map(({ id, logProb }) => [tokenizer.tokenText(id), logProb] as const),
        [texts[index]!, tokens[index]!.logProb] as const,
      ]),
    ),
    text_offset: offsets,
  };
}

/** Log-probabilities as /v1/chat/completions has them. */
function chatLogProbs({ tokenizer }: AnswerContext, tokens: readonly StreamedToken[]): Json {
  const entry = (id: number, logprob: number): Json => {
    const token = tokenizer.tokenText(id);
    // A token may be part of a character: then its text is none, and neither are its bytes.
    return { token, logprob, bytes: token.includes("\uFFFD") ? null : [...Buffer.from(token, "utf8")] };
  };
  return {
    content: tokens.map(({ id, logProb, alternatives = [] }) => ({
      ...entry(id, logProb),
      top_logprobs: alternatives.map((other) => entry(other.id, other.logProb)),
    })),
    refusal: null,
  };
}

/** How the two APIs differ. */
export interface Shape {
  readonly prefix: string;
  whole(
    context: AnswerContext,
    choices: readonly {
      readonly choice: Choice;
      readonly promptIds: readonly number[];
      readonly echo: string;
    }[],
    usage: Usage,
  ): Json;
  /** @param first - present in the first chunk of a choice */
  chunk(
    context: AnswerContext,
    choice: Choice,
    part: { readonly text: string; readonly tokens: readonly StreamedToken[]; readonly offset: number },
    first: { readonly promptIds: readonly number[]; readonly echo: string } | null,
  ): Json;
  lastChunk(context: AnswerContext, usage: Usage): Json;
}

export const completionShape: Shape = {
  prefix: "cmpl-",
  whole: (context, choices, usage) => ({
    ...head(context, "text_completion"),
    choices: choices.map(({ choice, promptIds, echo }) => ({
      index: choice.index,
      text: echo + choice.text,
      logprobs: context.hasLogProbs ? completionLogProbs(context, choice.tokens, echo.length) : null,
      ...ending(choice),
      ...(context.returnsIds
        ? { token_ids: choice.tokens.map(({ id }) => id), prompt_token_ids: promptIds }
        : {}),
    })),
    usage,
    ...metadata(context),
  }),
  chunk: (context, choice, { text, tokens, offset }, first) => ({
    ...head(context, "text_completion"),
    choices: [
      {
        index: choice.index,
        text: (first?.echo ?? "") + text,
        logprobs: context.hasLogProbs ? completionLogProbs(context, tokens, offset) : null,
        ...ending(choice),
        ...(context.returnsIds ? { token_ids: tokens.map(({ id }) => id) } : {}),
        ...(context.returnsIds && first !== null ? { prompt_token_ids: first.promptIds } : {}),
      },
    ],
  }),
  lastChunk: (context, usage) => ({
    ...head(context, "text_completion"),
    choices: [],
    usage,
    ...metadata(context),
  }),
};

export const chatShape: Shape = {
  prefix: "chatcmpl-",
  whole: (context, choices, usage) => ({
    ...head(context, "chat.completion"),
    choices: choices.map(({ choice }) => ({
      index: choice.index,
      message: { role: "assistant", content: choice.text, refusal: null },
      logprobs: context.hasLogProbs ? chatLogProbs(context, choice.tokens) : null,
      ...ending(choice),
      ...(context.returnsIds ? { token_ids: choice.tokens.map(({ id }) => id) } : {}),
    })),
    usage,
    ...(context.returnsIds ? { prompt_token_ids: choices[0]!.promptIds } : {}),
    ...metadata(context),
  }),
  chunk: (context, choice, { text, tokens }, first) => ({
    ...head(context, "chat.completion.chunk"),
    choices: [
      {
        index: choice.index,
        delta: { ...(first === null ? {} : { role: "assistant" }), content: text },
        logprobs: context.hasLogProbs ? chatLogProbs(context, tokens) : null,
        ...ending(choice),
        ...(context.returnsIds ? { token_ids: tokens.map(({ id }) => id) } : {}),
      },
    ],
    ...(context.returnsIds && first !== null ? { prompt_token_ids: first.promptIds } : {}),
  }),
  lastChunk: (context, usage) => ({
    ...head(context, "chat.completion.chunk"),
    choices: [],
    usage,
    ...metadata(context),
  }),
};
