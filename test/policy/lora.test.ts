import "@tensorflow/tfjs-backend-cpu";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs-core";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { readSafetensors, replaceFile } from "../../checkpoints/index.js";
import { randomStream } from "../../core/index.js";
import {
  adapterFiles,
  adapterShapes,
  type DecoderConfig,
  decoderLogits,
  decodingWeights,
  initialAdapter,
  initialWeights,
  LoraConfig,
  mergedWeights,
  parameterShapes,
  parseDecoderConfig,
  readPolicy,
  writePolicy,
} from "../../policy/index.js";
import { buildTokenizer } from "../../tasks/index.js";

const { tokenizerJson, tokenizerConfig } = buildTokenizer();
const vocabulary = Object.keys((tokenizerJson.model as { vocab: object }).vocab).length;
const base = parseDecoderConfig({
  model_type: "qwen2",
  hidden_size: 12,
  intermediate_size: 20,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  head_dim: 4,
  num_key_value_heads: 2,
  vocab_size: vocabulary,
});
const config = { ...base, lora: LoraConfig.parse({ rank: 3, alpha: 6 }) };
const weights = initialWeights(base, 1, { embeddingStd: 0.5, matrixScale: 1 });
/** One that does something: B is not 0. */
const adapter = Object.fromEntries(
  Object.entries(initialAdapter(config, 2)).map(([name, values]) => {
    const random = randomStream(3, name);
    return [name, values.map(() => random.normal() * 0.3)];
  }),
);

const tensors = (
  of: Record<string, Float32Array>,
  shapes: Record<string, number[]>,
): Record<string, tf.Tensor> =>
  Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, tf.tensor(of[name]!, shape)]));
const ids = tf.tensor2d([[1, 5, 9, 2, 7]], undefined, "int32");
const logits = (of: Record<string, Float32Array>, by: DecoderConfig): number[] => {
  const shapes = { ...parameterShapes(by), ...adapterShapes(by) };
  return [...decoderLogits(tensors(of, shapes), ids, by).dataSync()];
};
const furthest = (a: readonly number[], b: readonly number[]): number =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

describe("an adapter", () => {
  test("that is fresh changes no bit of the logits", () => {
    expect(logits({ ...weights, ...initialAdapter(config, 2) }, config)).toEqual(logits(weights, base));
  });

  test("counts as much as the matrices that it is merged into", () => {
    const adapted = logits({ ...weights, ...adapter }, config);
    expect(furthest(adapted, logits(mergedWeights(weights, adapter, config), base))).toBeLessThan(2e-5);
    expect(furthest(adapted, logits(weights, base))).toBeGreaterThan(0.1);
  });

  test("is laid out for sampling as its merged twin is", () => {
    const shapes = { ...parameterShapes(config), ...adapterShapes(config) };
    const laidOut = decodingWeights(tensors({ ...weights, ...adapter }, shapes), config);
    const twin = decodingWeights(
      tensors(mergedWeights(weights, adapter, config), parameterShapes(base)),
      base,
    );
    for (const [name, tensor] of Object.entries(twin))
      expect(furthest([...laidOut[name]!.dataSync()], [...tensor.dataSync()]), name).toBeLessThan(1e-5);
  });

  test("may stand at some projections alone", () => {
    const some = { ...base, lora: LoraConfig.parse({ rank: 2, targets: ["v_proj", "down_proj"] }) };
    expect(Object.entries(adapterShapes(some)).slice(0, 4)).toEqual([
      ["model.layers.0.self_attn.v_proj.lora_A.weight", [2, 12]],
      ["model.layers.0.self_attn.v_proj.lora_B.weight", [8, 2]],
      ["model.layers.0.mlp.down_proj.lora_A.weight", [2, 20]],
      ["model.layers.0.mlp.down_proj.lora_B.weight", [12, 2]],
    ]);
  });
});

describe("an adapter folder", () => {
  const root = mkdtempSync(join(tmpdir(), "lora-"));
  afterAll(() => rmSync(root, { recursive: true }));
  let folder = "";
  const policy = join(root, "base");
  beforeEach(async () => {
    mkdirSync(policy, { recursive: true });
    writeFileSync(join(policy, "tokenizer.json"), JSON.stringify(tokenizerJson));
    writeFileSync(join(policy, "tokenizer_config.json"), JSON.stringify(tokenizerConfig));
    await writePolicy(policy, base, weights, policy);
    folder = mkdtempSync(join(root, "adapter-"));
    for (const [name, content] of Object.entries(adapterFiles(config, adapter, policy)))
      await replaceFile(join(folder, name), content);
  });
  const change = (keys: Record<string, unknown>): void => {
    const file = join(folder, "adapter_config.json");
    writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), ...keys }));
  };

  test("has PEFT's keys and tensor names", () => {
    expect(JSON.parse(readFileSync(join(folder, "adapter_config.json"), "utf8"))).toMatchObject({
      peft_type: "LORA",
      task_type: "CAUSAL_LM",
      r: 3,
      lora_alpha: 6,
      lora_dropout: 0,
      bias: "none",
    });
    const { tensors: saved, metadata } = readSafetensors(join(folder, "adapter_model.safetensors"));
    expect(metadata).toEqual({ format: "pt" });
    expect(saved.get("base_model.model.model.layers.1.mlp.up_proj.lora_B.weight")).toMatchObject({
      dtype: "F32",
      shape: [20, 3],
    });
    expect(saved.size).toBe(2 * 7 * 2);
  });

  test("is read as its base with the adapter added in", () => {
    expect(readPolicy(folder)).toMatchObject({
      folder: policy,
      config: base,
      weights: mergedWeights(weights, adapter, config),
    });
  });

  test.each([
    { keys: { base_model_name_or_path: "/nowhere" }, says: "base_model_name_or_path: need the folder" },
    { keys: { use_dora: true }, says: "use_dora" },
    { keys: { peft_type: "IA3" }, says: "peft_type" },
    { keys: { target_modules: ["q_proj", "lm_head"] }, says: "target_modules" },
    { keys: { modules_to_save: ["lm_head"] }, says: "modules_to_save" },
    { keys: { alpha_pattern: { q_proj: 99 } }, says: "alpha_pattern" },
    { keys: { init_lora_weights: "pissa_niter_4" }, says: "init_lora_weights" },
    { keys: { fan_in_fan_out: true }, says: "fan_in_fan_out: need nothing: it would change" },
    { keys: { alora_invocation_tokens: [7] }, says: "alora_invocation_tokens" },
    {
      keys: { target_modules: ["q_proj"] },
      says: "need matrices of the adapter's target_modules alone: this one would be left out",
    },
    { keys: { r: 4 }, says: "lora_A.weight: need a tensor of shape [4,12], got [3,12]" },
  ])("with $keys is refused", ({ keys, says }) => {
    change(keys);
    expect(() => readPolicy(folder)).toThrow(says);
  });

  test("that is rank-stabilized counts alpha / sqrt(rank) times", () => {
    change({ use_rslora: true, lora_alpha: 2 * Math.sqrt(3) }); // as much as 6 / 3
    const merged = mergedWeights(weights, adapter, config);
    for (const [name, read] of Object.entries(readPolicy(folder).weights))
      expect(furthest([...read], [...merged[name]!]), name).toBeLessThan(1e-6);
  });

  test("with the keys that PEFT writes beside those, empty, is read", () => {
    const empty = { rank_pattern: {}, alpha_pattern: {}, modules_to_save: null, layer_replication: null };
    change({
      ...empty,
      init_lora_weights: true,
      fan_in_fan_out: false,
      lora_bias: false,
      layers_to_transform: null,
      use_qalora: false,
      arrow_config: null,
      qalora_group_size: 16,
    });
    expect(readPolicy(folder).weights).toEqual(mergedWeights(weights, adapter, config));
  });
});
