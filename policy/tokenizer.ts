import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import { ConfigError } from "../core/index.js";
import { withinMs } from "./time-limit.js";

/** One turn of a chat. */
export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** Text to token ids and back, and the layout of a conversation. */
export interface PolicyTokenizer {
  /** Ids of plain text, no special tokens added. */
  encode(text: string): number[];
  /** Text of ids; special tokens (end of turn, padding) are left out. */
  decode(ids: readonly number[]): string;
  /** Text of one id, special tokens by their names; what is no whole character by itself has U+FFFD. */
  tokenText(id: number): string;
  /** Ids of a conversation up to where the policy begins to write. */
  promptIds(messages: readonly ChatMessage[]): number[];
  /** Ids that end the policy's turn, by the tokenizer's own eos_token. */
  readonly stopIds: readonly number[];
  /** Every id is below it. */
  readonly vocabulary: number;
}

function readJson(file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    throw new ConfigError({ at: file, need: `a readable JSON file (${(cause as Error).message})`, cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new ConfigError({ at: file, need: "a JSON object" });
}

/** The content of a special token: tokenizer_config.json stores either a string or an added-token record. */
function specialToken(value: unknown): string | null {
  if (typeof value === "string") return value;
  if (typeof value === "object" && value !== null && "content" in value) return String(value.content);
  return null;
}

/**
 * Reads the tokenizer of a policy folder: tokenizer.json, tokenizer_config.json and the chat template in it.
 * @throws ConfigError when a file is missing or the template does not render
 */
export function readTokenizer(folder: string): PolicyTokenizer {
  const config = readJson(join(folder, "tokenizer_config.json"));
  const template = join(folder, "chat_template.jinja");
  const own = existsSync(template) ? { chat_template: readFileSync(template, "utf8") } : {};
  return createTokenizer(readJson(join(folder, "tokenizer.json")), { ...config, ...own }, folder);
}

/** tokenizer_config.json has one template, or several with names; null where it has none. */
function chatTemplate(value: unknown): string | null {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return null;
  const named = value as readonly { name?: unknown; template?: unknown }[];
  const chosen = named.find(({ name }) => name === "default")?.template;
  return typeof chosen === "string" ? chosen : null;
}

/** The tokenizer of parsed tokenizer.json and tokenizer_config.json; `from` names them in messages. */
export function createTokenizer(
  tokenizerJson: Record<string, unknown>,
  config: Record<string, unknown>,
  from: string,
): PolicyTokenizer {
  const tokenizer = openTokenizer(tokenizerJson, config, from);
  const eosToken = specialToken(config.eos_token);
  const render = chatRenderer(chatTemplate(config.chat_template), from, {
    bos_token: specialToken(config.bos_token) ?? "",
    eos_token: eosToken ?? "",
  });
  const eosId = eosToken === null ? undefined : tokenizer.token_to_id(eosToken);
  const encode = (text: string): number[] => [...tokenizer.encode(text, { add_special_tokens: false }).ids];
  return {
    encode,
    decode: (ids) =>
      // The library refuses an empty list.
      ids.length === 0
        ? ""
        : tokenizer.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false }),
    tokenText: (id) =>
      tokenizer.decode([id], { skip_special_tokens: false, clean_up_tokenization_spaces: false }),
    promptIds: (messages) => encode(render(messages)),
    stopIds: eosId === undefined ? [] : [eosId],
    vocabulary: highestId(tokenizer) + 1,
  };
}

/** Ids may have gaps, so it is not how many there are. */
const highestId = (tokenizer: Tokenizer): number => {
  let highest = -1;
  for (const id of tokenizer.get_vocab().values()) highest = Math.max(highest, id);
  return highest;
};

function openTokenizer(
  tokenizerJson: Record<string, unknown>,
  config: Record<string, unknown>,
  from: string,
): Tokenizer {
  try {
    return new Tokenizer(tokenizerJson, config);
  } catch (cause) {
    throw new ConfigError({
      at: join(from, "tokenizer.json"),
      need: `a tokenizer as Hugging Face's tokenizers saves it (${(cause as Error).message})`,
      fix: "It is damaged or of another format: fetch it again.",
      cause,
    });
  }
}

/** A template of a published model takes milliseconds; one that loops is stopped before its lists fill the memory. */
const RENDER_MS = 2000;

/** Lays a conversation out by a template; without one, its messages stand one after the other. */
function chatRenderer(
  text: string | null,
  from: string,
  tokens: Readonly<Record<string, string>>,
): (messages: readonly ChatMessage[]) => string {
  if (text === null) return (messages) => messages.map((message) => message.content).join("\n\n");
  const template = parseTemplate(text, from);
  const seen = new Set<string>();
  return (messages) => {
    const work = (): string =>
      template.render({
        messages: messages.map((message) => ({ ...message })),
        ...tokens,
        add_generation_prompt: true,
        enable_thinking: false,
      });
    try {
      // A watchdog costs 0.1 ms, so only the first conversation of each layout has one.
      const layout = messages.map(({ role }) => role).join();
      if (seen.has(layout)) return work();
      const prompt = withinMs(RENDER_MS, work);
      seen.add(layout);
      return prompt;
    } catch (cause) {
      throw templateError(from, "a template that renders this conversation", cause);
    }
  };
}

function parseTemplate(text: string, from: string): Template {
  try {
    return new Template(text);
  } catch (cause) {
    throw templateError(from, "a template that can be read", cause);
  }
}

const templateError = (from: string, need: string, cause: unknown): ConfigError =>
  new ConfigError({
    at: `${from}: chat template`,
    need: `${need} (${reasonOf(cause as NodeJS.ErrnoException)})`,
    fix: "Mend chat_template.jinja (or chat_template in tokenizer_config.json), or fetch it again.",
    cause,
  });

const reasonOf = ({ code, message }: NodeJS.ErrnoException): string =>
  code === "ERR_SCRIPT_EXECUTION_TIMEOUT" ? `it had not ended after ${RENDER_MS / 1000} s` : message;
