import { expect, test } from "vitest";
import { ConfigError } from "../../core/index.js";
import { createTokenizer } from "../../policy/index.js";
import { buildTokenizer } from "../../tasks/index.js";

const { tokenizerJson, tokenizerConfig } = buildTokenizer();
const open = (change: Record<string, unknown> = {}) =>
  createTokenizer(tokenizerJson, { ...tokenizerConfig, ...change }, "folder");

test("text survives its ids, whatever it holds of printable ASCII", () => {
  const tokenizer = open();
  for (const text of [
    'local x = io.read("n")\nprint(x * 2)',
    "",
    " ",
    "a\tb\n\n  c",
    "Read a word. %#@!~`",
  ]) {
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  }
});

test("a conversation is laid out by the chat template, up to where the policy begins to write", () => {
  const tokenizer = open();
  const ids = tokenizer.promptIds([
    { role: "system", content: "a" },
    { role: "user", content: "7" },
  ]);
  const [user, assistant] = [1, 2]; // <user>, <asst>
  expect(ids).toEqual([user, ...tokenizer.encode("a"), user, ...tokenizer.encode("7"), assistant]);
});

test("special tokens end the turn, and are no part of the text", () => {
  const tokenizer = open();
  expect(tokenizer.stopIds).toEqual([3]);
  expect(tokenizer.decode([...tokenizer.encode("print(1)"), 3, 0])).toBe("print(1)");
  expect(tokenizer.decode([3])).toBe("");
  expect(open({ eos_token: { content: "<eos>", special: true } }).stopIds).toEqual([3]);
  expect(open({ eos_token: null }).stopIds).toEqual([]);
});

test("without a chat template the messages stand one after the other", () => {
  const tokenizer = open({ chat_template: undefined });
  const messages = [
    { role: "system" as const, content: "a" },
    { role: "user" as const, content: "b" },
  ];
  expect(tokenizer.promptIds(messages)).toEqual(tokenizer.encode("a\n\nb"));
});

test("a template that fails is the user's to mend, and named", () => {
  const tokenizer = open({ chat_template: "{{ raise_exception('no system turn') }}" });
  const render = (): unknown => tokenizer.promptIds([{ role: "user", content: "x" }]);
  expect(render).toThrow(ConfigError);
  expect(render).toThrow("folder: chat template: need a template that renders this conversation");
});
