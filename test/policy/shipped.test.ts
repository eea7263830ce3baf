import { cpSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { parameterCount, readPolicy } from "../../policy/index.js";
import { buildTokenizer } from "../../tasks/index.js";

const shipped = join(packageRoot, "checkpoints/quickstart");
const copy = mkdtempSync(join(tmpdir(), "retort-shipped-"));
afterAll(() => rmSync(copy, { recursive: true }));

describe("the shipped warm start", () => {
  test("is under 2 MB and is the quick start's policy, its checksums right", () => {
    const bytes = readdirSync(shipped).reduce((sum, name) => sum + statSync(join(shipped, name)).size, 0);
    const policy = readPolicy(shipped);
    expect(bytes).toBeLessThan(2_000_000);
    expect(policy.config).toMatchObject({ layers: 2, width: 128, heads: 8, tiedEmbeddings: true });
    expect(parameterCount(policy.config)).toBeLessThan(500_000);
  });

  test("has the tokenizer that the family builds today", () => {
    const text = "Read numbers. Report the score of the big numbers doubled.";
    const { tokenizerJson } = buildTokenizer();
    const vocabulary = Object.keys((tokenizerJson as { model: { vocab: object } }).model.vocab).length;
    const { tokenizer } = readPolicy(shipped);
    expect(tokenizer.vocabulary).toBe(vocabulary);
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });

  test("is refused when a file of it was changed, with the file named", () => {
    cpSync(shipped, copy, { recursive: true });
    writeFileSync(join(copy, "tokenizer_config.json"), "{}");
    expect(() => readPolicy(copy)).toThrow(/tokenizer_config\.json: need the file that SHA256SUMS lists/);
  });
});
