import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { readSafetensors, writeSafetensors } from "../../checkpoints/index.js";
import { ConfigError, packageRoot } from "../../core/index.js";
import {
  initialWeights,
  namedTensors,
  parameterShapes,
  parseDecoderConfig,
  policyFolder,
  readPolicy,
  readWeights,
  writePolicy,
} from "../../policy/index.js";
import { buildTokenizer } from "../../tasks/index.js";

const root = mkdtempSync(join(tmpdir(), "policy-"));
afterAll(() => rmSync(root, { recursive: true }));

const { tokenizerJson, tokenizerConfig } = buildTokenizer();
const vocabulary = Object.keys((tokenizerJson.model as { vocab: object }).vocab).length;
const shape = {
  model_type: "qwen3",
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
  vocab_size: vocabulary,
  eos_token_id: 3,
};
const config = parseDecoderConfig(shape);
const weights = initialWeights(config, 7);
let folder = "";
let count = 0;

beforeEach(async () => {
  folder = join(root, String(count++));
  mkdirSync(folder);
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizerJson));
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(tokenizerConfig));
  await writePolicy(folder, config, weights, folder);
});

const refusal = (read: () => unknown): string => {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigError);
    return (error as Error).message;
  }
  throw new Error("it was not refused");
};

describe("a policy folder", () => {
  test("gives back what was written, bit for bit, and copies its tokenizer", async () => {
    const copy = join(root, "copy");
    const read = readPolicy(folder);
    await writePolicy(copy, read.config, read.weights, folder);
    expect(readPolicy(copy)).toMatchObject({ config, weights });
    for (const name of ["tokenizer.json", "tokenizer_config.json", "model.safetensors", "config.json"]) {
      expect(readFileSync(join(copy, name)).equals(readFileSync(join(folder, name)))).toBe(true);
    }
  });

  test("has what transformers, vLLM and SGLang look for", () => {
    expect(JSON.parse(readFileSync(join(folder, "config.json"), "utf8"))).toMatchObject({
      ...shape,
      architectures: ["Qwen3ForCausalLM"],
      tie_word_embeddings: false,
    });
    const { tensors, metadata } = readSafetensors(join(folder, "model.safetensors"));
    expect(metadata).toEqual({ format: "pt" });
    expect([...tensors.keys()].sort()).toEqual(Object.keys(parameterShapes(config)).sort());
    expect(tensors.get("lm_head.weight")).toMatchObject({ dtype: "F32", shape: [vocabulary, 8] });
    expect(tensors.get("model.layers.1.self_attn.k_norm.weight")).toMatchObject({ shape: [4] });
  });

  test("is found within a checkpoint of a run too", () => {
    const checkpoint = join(root, `checkpoint-${count}`);
    cpSync(folder, join(checkpoint, "policy"), { recursive: true });
    expect(policyFolder(checkpoint)).toBe(join(checkpoint, "policy"));
    expect(policyFolder(folder)).toBe(folder);
    expect(readPolicy(checkpoint).weights).toEqual(weights);
  });

  test("with half-precision weights is read as float32", async () => {
    const tensors = namedTensors(weights, config);
    const norm = { dtype: "BF16" as const, shape: [8], data: Uint16Array.from({ length: 8 }, () => 0x3fc0) };
    await writeSafetensors(
      join(folder, "model.safetensors"),
      new Map([...tensors, ["model.norm.weight", norm]]),
    );
    expect([...readWeights(folder, config)["model.norm.weight"]!]).toEqual(new Array(8).fill(1.5));
  });
});

describe("a policy folder is refused, saying what is wrong", () => {
  test.each([
    { name: "config.json", says: "need a Hugging Face config.json in the policy folder" },
    { name: "tokenizer.json", says: "need a readable JSON file (ENOENT" },
    { name: "tokenizer_config.json", says: "need a readable JSON file (ENOENT" },
    { name: "model.safetensors", says: "need the weights of the policy in safetensors format" },
  ])("without $name", ({ name, says }) => {
    rmSync(join(folder, name));
    expect(refusal(() => readPolicy(folder))).toContain(`${join(folder, name)}: ${says}`);
  });

  test("with a config.json that is cut off", () => {
    writeFileSync(join(folder, "config.json"), '{"model_type": "ll');
    expect(refusal(() => readPolicy(folder))).toContain(`${join(folder, "config.json")}: need valid JSON (`);
  });

  test("with a tensor of another shape", async () => {
    const tensors = namedTensors(weights, config);
    const wrong = { dtype: "F32" as const, shape: [2, 4], data: new Float32Array(8) };
    await writeSafetensors(
      join(folder, "model.safetensors"),
      new Map([...tensors, ["model.norm.weight", wrong]]),
    );
    expect(refusal(() => readPolicy(folder))).toBe(
      `${join(folder, "model.safetensors")}: model.norm.weight: need shape [8] by config.json, got [2,4].`,
    );
  });

  test("without a tensor that its config.json asks for", async () => {
    const tensors = namedTensors(weights, config);
    tensors.delete("model.layers.1.self_attn.q_norm.weight");
    await writeSafetensors(join(folder, "model.safetensors"), tensors);
    expect(refusal(() => readPolicy(folder))).toBe(
      `${join(folder, "model.safetensors")}: need a tensor "model.layers.1.self_attn.q_norm.weight" of shape [4].`,
    );
  });

  test.each(["model.layers.1.mlp.gate_proj.bias", "model.layers.2.mlp.gate_proj.weight"])(
    "with %s, which the decoder of its config.json has not",
    async (name) => {
      const tensors = namedTensors(weights, config);
      const more = { dtype: "F32" as const, shape: [2], data: new Float32Array(2) };
      const harmless = ["model.layers.0.self_attn.rotary_emb.inv_freq", "v_head.weight"];
      const file = join(folder, "model.safetensors");
      await writeSafetensors(file, new Map([...tensors, ...harmless.map((each) => [each, more] as const)]));
      expect(readPolicy(folder).weights).toEqual(weights);
      await writeSafetensors(file, new Map([...tensors, [name, more]]));
      expect(refusal(() => readPolicy(folder))).toContain(`${file}: ${name}: need no tensor but those of`);
    },
  );

  test("with a Git LFS pointer in place of its weights", () => {
    const file = join(folder, "model.safetensors");
    writeFileSync(file, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    expect(refusal(() => readPolicy(folder))).toContain(
      `${file}: need a safetensors file, but it is a Git LFS`,
    );
  });

  test("with a tokenizer that ends before the token that ends a turn", async () => {
    const other = parseDecoderConfig({ ...shape, vocab_size: 400, eos_token_id: [350, 399] });
    await writePolicy(folder, other, initialWeights(other, 0), folder);
    expect(refusal(() => readPolicy(folder))).toBe(
      `${join(folder, "tokenizer.json")}: need a token of id 350, the eos_token_id of config.json, but its ids end at ${vocabulary - 1}. The tokenizer belongs to another model.`,
    );
  });

  test("with weights that are cut off", () => {
    const file = join(folder, "model.safetensors");
    writeFileSync(file, readFileSync(file).subarray(0, -5));
    expect(refusal(() => readPolicy(folder))).toContain(file);
  });

  test("with a tokenizer of more tokens than the model has", async () => {
    const small = parseDecoderConfig({ ...shape, vocab_size: 100 });
    await writePolicy(folder, small, initialWeights(small, 0), folder);
    expect(refusal(() => readPolicy(folder))).toBe(
      `${join(folder, "tokenizer.json")}: need at most 100 tokens, the vocab_size of config.json, got ${vocabulary}. The tokenizer belongs to another model.`,
    );
  });
});

test("the reference checkpoints, which have no tokenizer, give their weights all the same", () => {
  const llama = join(packageRoot, "test/vectors/policies/llama");
  const { vocab_size } = JSON.parse(readFileSync(join(llama, "config.json"), "utf8")) as {
    vocab_size: number;
  };
  const read = parseDecoderConfig(JSON.parse(readFileSync(join(llama, "config.json"), "utf8")));
  expect(readWeights(llama, read)["model.embed_tokens.weight"]!.length).toBe(vocab_size * 64);
});
