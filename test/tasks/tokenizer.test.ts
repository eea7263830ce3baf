import { readFileSync } from "node:fs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { packageRoot, randomStream } from "../../core/index.js";
import { type ChatMessage, createTokenizer } from "../../policy/tokenizer.js";
import { buildTokenizer } from "../../tasks/index.js";
import { INSTRUCTIONS } from "../../tasks/lua-words/instructions.js";
import { programOf } from "../../tasks/lua-words/programs.js";
import { drawOps } from "../../tasks/lua-words/senses.js";

const { tokenizerJson, tokenizerConfig } = buildTokenizer();
const tokenizer = createTokenizer(tokenizerJson, tokenizerConfig, "the quick start");
const pieces = (text: string): string[] => tokenizer.encode(text).map((id) => tokenizer.decode([id]));

interface Vectors {
  readonly encode: readonly { readonly text: string; readonly ids: readonly number[] }[];
  readonly chat: { readonly messages: readonly ChatMessage[]; readonly ids: readonly number[] };
}
const vectors = JSON.parse(
  readFileSync(`${packageRoot}/test/tasks/tokenizer-vectors.json`, "utf8"),
) as Vectors;

test("ids are those of Hugging Face's own library, for every recorded text and the chat template", () => {
  expect(vectors.encode.length).toBeGreaterThan(40);
  for (const { text, ids } of vectors.encode) expect([text, tokenizer.encode(text)]).toEqual([text, ids]);
  expect(tokenizer.promptIds(vectors.chat.messages)).toEqual(vectors.chat.ids);
});

test("padding is id 0, the turn ends with <eos>, and the vocabulary has 240 tokens", () => {
  const vocabulary = (tokenizerJson.model as { vocab: Record<string, number> }).vocab;
  expect(vocabulary["<pad>"]).toBe(0);
  expect(tokenizer.stopIds).toEqual([vocabulary["<eos>"]]);
  expect(tokenizer.vocabulary).toBe(240);
  expect(Object.values(vocabulary).sort((a, b) => a - b)).toEqual(Array.from({ length: 240 }, (_, id) => id));
});

test("words and operators are whole, digits and test words are spelt out", () => {
  expect(pieces("Read numbers. Report the tally of the odd numbers.")).toEqual([
    "Read", " numbers", ".", " Report", " the", " tally", " of", " the", " odd", " numbers", ".",
  ]); // biome-ignore format: pieces in one line
  expect(pieces("r = r + (x * 10)")).toEqual(["r", " = ", "r", " + ", "(", "x", " * ", "1", "0", ")"]);
  expect(pieces("bad -17")).toEqual(["b", "a", "d", " ", "-", "1", "7"]);
});

test("a word inside a longer one is not a piece", () => {
  expect(pieces("ending")).toEqual([..."ending"]);
});

test("every instruction and 2000 programs come back exactly, without unknown tokens", () => {
  const unknown = tokenizer.encode("é")[0]!;
  const random = randomStream(2, "tokenizer");
  const programs = Array.from({ length: 2000 }, () => {
    const instruction = random.pick(INSTRUCTIONS);
    return programOf(instruction.kind, drawOps(instruction, random));
  });
  for (const text of [...INSTRUCTIONS.map((each) => each.text), ...programs]) {
    const ids = tokenizer.encode(text);
    expect(tokenizer.decode(ids)).toBe(text);
    expect(ids).not.toContain(unknown);
  }
});

test("any printable text comes back exactly", () => {
  const words = Object.keys((tokenizerJson.model as { vocab: Record<string, number> }).vocab).filter(
    (token) => !/^<\w+>$/.test(token),
  );
  const text = fc
    .array(fc.constantFrom(...words), { minLength: 1, maxLength: 40 })
    .map((parts) => parts.join(""));
  fc.assert(
    fc.property(text, (whole) => {
      fc.pre(!/<(pad|user|asst|eos|unk)>/.test(whole));
      expect(tokenizer.decode(tokenizer.encode(whole))).toBe(whole);
    }),
    { numRuns: 500, seed: 1 },
  );
});

test("prompts take 13 tokens on average, answers 42 and at most 60", () => {
  const random = randomStream(3, "tokenizer");
  const sample = random.shuffle(INSTRUCTIONS).slice(0, 800);
  const average = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0) / counts.length;
  const prompts = sample.map(({ text }) => tokenizer.promptIds([{ role: "user", content: text }]).length);
  const answers = sample.map(
    (each) => tokenizer.encode(programOf(each.kind, drawOps(each, random))).length + 1,
  );
  expect(average(prompts)).toBeCloseTo(13, 0);
  expect(Math.abs(average(answers) - 43)).toBeLessThan(2);
  expect(Math.max(...answers)).toBeLessThanOrEqual(60);
});
