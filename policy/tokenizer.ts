import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import { ConfigError } from "../core/index.js";

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
  /** Ids of a conversation up to where the policy begins to write. */
  promptIds(messages: readonly ChatMessage[]): number[];
  /** Ids that end the policy's turn, by the tokenizer's own eos_token. */
  readonly stopIds: readonly number[];
  readonly vocabulary: number;
}

const readJson = (file: string): Record<string, unknown> => {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  } catch (cause) {
    throw new ConfigError({ at: file, need: `a readable JSON file (${(cause as Error).message})`, cause });
  }
};

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
  const tokenizer = new Tokenizer(tokenizerJson, config);
  const template = parseTemplate(chatTemplate(config.chat_template), from);
  const bosToken = specialToken(config.bos_token) ?? "";
  const eosToken = specialToken(config.eos_token);
  const eosId = eosToken === null ? undefined : tokenizer.token_to_id(eosToken);
  const encode = (text: string): number[] => [...tokenizer.encode(text, { add_special_tokens: false }).ids];
  return {
    encode,
    decode: (ids) =>
      // The library refuses an empty list.
      ids.length === 0
        ? ""
        : tokenizer.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false }),
    promptIds: (messages) => encode(render(template, messages, bosToken, eosToken ?? "", from)),
    stopIds: eosId === undefined ? [] : [eosId],
    vocabulary: tokenizer.get_vocab().size,
  };
}

function parseTemplate(text: string | null, from: string): Template | null {
  if (text === null) return null;
  try {
    return new Template(text);
  } catch (cause) {
    throw templateError(from, "a template that can be read", cause);
  }
}

const templateError = (from: string, need: string, cause: unknown): ConfigError =>
  new ConfigError({ at: `${from}: chat template`, need: `${need} (${(cause as Error).message})`, cause });

function render(
  template: Template | null,
  messages: readonly ChatMessage[],
  bosToken: string,
  eosToken: string,
  from: string,
): string {
  if (template === null) return messages.map((message) => message.content).join("\n\n");
  try {
    return template.render({
      messages: messages.map((message) => ({ ...message })),
      bos_token: bosToken,
      eos_token: eosToken,
      add_generation_prompt: true,
      enable_thinking: false,
    });
  } catch (cause) {
    throw templateError(from, "a template that renders this conversation", cause);
  }
}
