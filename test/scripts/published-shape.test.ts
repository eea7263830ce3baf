import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { readModelTensors } from "../../checkpoints/index.js";
import { packageRoot } from "../../core/index.js";
import { readPolicy } from "../../policy/index.js";

const root = mkdtempSync(join(tmpdir(), "published-shape-"));
afterAll(() => rmSync(root, { recursive: true }));

const make = (folder: string, ...args: string[]) => {
  const script = join(packageRoot, "scripts", "published-shape.mjs");
  return spawnSync(process.execPath, [script, ...args, "--out", join(root, folder)], { encoding: "utf8" });
};

const set = (values: Record<string, number>): string[] =>
  Object.entries(values).flatMap(([key, value]) => ["--set", `${key}=${value}`]);

const small = set({ num_hidden_layers: 2, hidden_size: 64, intermediate_size: 96, vocab_size: 1500 });

const sums = (folder: string): string[] =>
  readdirSync(join(root, folder)).map(
    (name) =>
      `${name} ${createHash("sha256")
        .update(readFileSync(join(root, folder, name)))
        .digest("hex")}`,
  );

test("a published shape opens as a policy, with a tokenizer that gives text back and a chat template", () => {
  expect(make("qwen3", "qwen3-0.6b", ...small)).toMatchObject({ status: 0 });
  const { config, tokenizer, weights } = readPolicy(join(root, "qwen3"));
  expect(config).toMatchObject({ modelType: "qwen3", heads: 16, keyValueHeads: 8, headDim: 128, layers: 2 });
  expect(tokenizer.vocabulary).toBe(1500);
  expect(config.stopIds).toEqual([1499, 1497]);
  const ids = tokenizer.promptIds([{ role: "user", content: "return the üsual €" }]);
  expect(tokenizer.decode(ids)).toBe("user\nreturn the üsual €\nassistant\n");
  const matrix = weights["model.layers.1.mlp.up_proj.weight"]!;
  const deviation = Math.sqrt(matrix.reduce((sum, x) => sum + x * x, 0) / matrix.length);
  expect(deviation * 8).toBeCloseTo(1, 1); // 1 / sqrt(width)
});

test("the same arguments give the same bytes, in several files of the size asked for; another seed gives others", () => {
  const args = ["llama-3.2-1b", ...small, "--dtype", "float16", "--shard-gb", "0.001"];
  expect(make("a", ...args).status).toBe(0);
  expect(make("b", ...args).status).toBe(0);
  expect(make("c", ...args, "--seed", "1").status).toBe(0);
  expect(sums("a")).toEqual(sums("b"));
  expect(sums("a")).not.toEqual(sums("c"));
  expect(readdirSync(join(root, "a"))).toEqual([
    ...["chat_template.jinja", "config.json", "generation_config.json"],
    ...["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"],
    ...["model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"],
  ]);
  expect(readModelTensors(join(root, "a")).get("model.norm.weight")?.dtype).toBe("F16");
});

test("a shape that is not known is refused with those that are", () => {
  const { status, stderr } = make("none", "gpt-2");
  expect([status, stderr]).toEqual([2, expect.stringContaining("need one of qwen2.5-0.5b, ")]);
});
