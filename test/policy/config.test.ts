import { expect, test } from "vitest";
import { ConfigError } from "../../core/index.js";
import { huggingFaceConfig, parameterCount, parseDecoderConfig } from "../../policy/index.js";

const small = {
  model_type: "llama",
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 2,
  num_attention_heads: 8,
  vocab_size: 250,
  tie_word_embeddings: true,
};

test("the quick start's shape has 0.459 million parameters at a vocabulary of 250", () =>
  expect(parameterCount(parseDecoderConfig(small))).toBe(
    250 * 128 + 2 * (4 * 128 * 128 + 3 * 128 * 384 + 2 * 128) + 128,
  ));

test.each([
  {
    change: { model_type: "gpt2" },
    says: 'config.json: model_type: need one of llama, qwen2, qwen3, got "gpt2".',
  },
  {
    change: { model_type: "gpt2", hidden_size: undefined, n_embd: 768 }, // as GPT-2's own config.json has it
    says: 'config.json: model_type: need one of llama, qwen2, qwen3, got "gpt2".',
  },
  {
    change: { rope_scaling: { type: "yarn" } },
    says: 'config.json: rope_scaling.rope_type: need default, linear or llama3, got "yarn".',
  },
  { change: { rope_scaling: { type: "linear" } }, says: "config.json: rope_scaling.factor: need a number." },
  {
    change: { num_key_value_heads: 3 },
    says: "config.json: num_key_value_heads: need a divisor of 8, got 3.",
  },
  { change: { hidden_size: -1 }, says: "config.json: hidden_size: need more than 0, got -1." },
  {
    change: { num_hidden_layers: 1e9 },
    says: "config.json: num_hidden_layers: need at most 4096, got 1000000000.",
  },
  { change: { vocab_size: "250" }, says: 'config.json: vocab_size: need a number, got "250".' },
  {
    change: { eos_token_id: "</s>" },
    says: 'config.json: eos_token_id: need an id or a list of ids, got "</s>".',
  },
  { change: { mlp_bias: true }, says: "config.json: mlp_bias: need false, got true." },
  { change: { partial_rotary_factor: 0.5 }, says: "config.json: partial_rotary_factor: need 1 " },
  {
    change: { quantization_config: { quant_method: "gptq" } },
    says: "config.json: quantization_config: need weights that are not quantised.",
  },
  { change: { hidden_act: "gelu" }, says: 'config.json: hidden_act: need silu, got "gelu".' },
])("$change is refused with the reason", ({ change, says }) => {
  const read = (): unknown => parseDecoderConfig({ ...small, ...change });
  expect(read).toThrow(ConfigError);
  expect(read).toThrow(says);
});

test.each(["llama", "qwen2", "qwen3"])(
  "a %s configuration survives being written and read again",
  (model_type) => {
    const config = parseDecoderConfig({ ...small, model_type, eos_token_id: [3, 5], head_dim: 24 });
    expect(parseDecoderConfig(huggingFaceConfig(config))).toEqual(config);
  },
);
