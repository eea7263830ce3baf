#!/usr/bin/env node
/**
 * Makes a policy folder of a published model's exact shape with random weights: what loading, memory and speed can be
 * tried on where nothing can be downloaded. See --help.
 */
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { build, root } from "./build.mjs";
import { publishedTokenizer } from "./published-tokenizer.mjs";

const qwen = {
  hidden_act: "silu",
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  attention_dropout: 0,
  initializer_range: 0.02,
  use_cache: true,
  use_sliding_window: false,
  bos_token_id: 151643,
  eos_token_id: 151645,
};
const qwen2 = {
  ...{ architectures: ["Qwen2ForCausalLM"], model_type: "qwen2" },
  ...qwen,
  max_position_embeddings: 32768,
};
const qwen3 = {
  ...{ architectures: ["Qwen3ForCausalLM"], model_type: "qwen3" },
  ...qwen,
  ...{ attention_bias: false, head_dim: 128, max_position_embeddings: 40960, vocab_size: 151936 },
};
const llama3 = (/** @type {number} */ factor) => ({
  ...{ architectures: ["LlamaForCausalLM"], model_type: "llama", hidden_act: "silu", rms_norm_eps: 1e-5 },
  ...{ rope_theta: 500_000, attention_bias: false, mlp_bias: false, vocab_size: 128256 },
  ...{ max_position_embeddings: 131072, initializer_range: 0.02, use_cache: true },
  rope_scaling: {
    ...{ rope_type: "llama3", factor, low_freq_factor: 1, high_freq_factor: 4 },
    original_max_position_embeddings: 8192,
  },
  bos_token_id: 128000,
  eos_token_id: [128001, 128008, 128009],
});

/**
 * @param {number} width @param {number} feedForward @param {number} layers @param {number} heads
 * @param {number} keyValueHeads @param {boolean} isTied
 */
const size = (width, feedForward, layers, heads, keyValueHeads, isTied) => ({
  hidden_size: width,
  intermediate_size: feedForward,
  num_hidden_layers: layers,
  num_attention_heads: heads,
  num_key_value_heads: keyValueHeads,
  tie_word_embeddings: isTied,
});

/** config.json as the models are published with it, by name. @type {Record<string, Record<string, unknown>>} */
const SHAPES = {
  "qwen2.5-0.5b": { ...qwen2, ...size(896, 4864, 24, 14, 2, true), vocab_size: 151936 },
  "qwen2.5-1.5b": { ...qwen2, ...size(1536, 8960, 28, 12, 2, true), vocab_size: 151936 },
  "qwen2.5-7b": { ...qwen2, ...size(3584, 18944, 28, 28, 4, false), vocab_size: 152064 },
  "qwen3-0.6b": { ...qwen3, ...size(1024, 3072, 28, 16, 8, true) },
  "qwen3-1.7b": { ...qwen3, ...size(2048, 6144, 28, 16, 8, true) },
  "qwen3-4b": { ...qwen3, ...size(2560, 9728, 36, 32, 8, true) },
  "qwen3-8b": { ...qwen3, ...size(4096, 12288, 36, 32, 8, false) },
  "llama-3.2-1b": { ...llama3(32), ...size(2048, 8192, 16, 32, 8, true), head_dim: 64 },
  "llama-3.2-3b": { ...llama3(32), ...size(3072, 8192, 28, 24, 8, true), head_dim: 128 },
  "llama-3.1-8b": { ...llama3(8), ...size(4096, 14336, 32, 32, 8, false), head_dim: 128 },
};
/** @type {Record<string, "F32" | "BF16" | "F16">} */
const DTYPES = { float32: "F32", bfloat16: "BF16", float16: "F16" };

const HELP = `usage: node scripts/published-shape.mjs SHAPE --out FOLDER [options]

Makes a policy folder of a published model's exact shape: random weights, a byte-level tokenizer of as many tokens,
a chat template. The same arguments give the same bytes. Weights are made and written piece by piece.

SHAPE  ${Object.keys(SHAPES).join(", ")}

  --out FOLDER         new or empty folder
  --dtype TYPE         ${Object.keys(DTYPES).join(", ")} (default bfloat16, as they are published)
  --shard-gb N         largest file, in GB of 10^9 bytes (default 5)
  --seed N             of the weights (default 0)
  --set KEY=VALUE      another value of config.json, e.g. --set num_hidden_layers=2; may be repeated

Examples:
  node scripts/published-shape.mjs qwen2.5-0.5b --out runs/policies/qwen2.5-0.5b
  node scripts/published-shape.mjs qwen3-8b --out /tmp/two-layers --set num_hidden_layers=2 --dtype float16`;

/** Normal numbers cycled through by position: 65,536 quantiles are enough for weights, and a lookup is quick. */
const QUANTILES = 1 << 16;
/** Elements of a piece. */
const PIECE = 1 << 22;

/**
 * Random elements of one tensor.
 * @param {import("../dist/checkpoints/index.js").TensorData} table of QUANTILES values to draw from
 * @param {number} count @param {number} seed of this tensor, not 0
 */
function* drawn(table, count, seed) {
  let state = seed >>> 0 || 1;
  for (let from = 0; from < count; from += PIECE) {
    const piece = table.slice(0, 0).constructor;
    const length = Math.min(PIECE, count - from);
    // @ts-expect-error every table is an array of Float32Array or Uint16Array
    const data = new piece(length);
    for (let i = 0; i < length; i++) {
      // Xorshift32 (Marsaglia 2003); its upper half chooses.
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      data[i] = table[state >>> 16];
    }
    yield data;
  }
}

/** Scale and middle of a parameter's numbers: such that activations and logits stay of the size of a trained model's. @param {string} name @param {number[]} shape @param {number} layers */
function distribution(name, shape, layers) {
  if (name.endsWith("norm.weight")) return { middle: 1, deviation: 0.1 };
  if (name.endsWith(".bias") || /embed_tokens|lm_head/.test(name)) return { middle: 0, deviation: 0.02 };
  const isResidual = /(o_proj|down_proj)\.weight$/.test(name);
  return { middle: 0, deviation: 1 / Math.sqrt((shape[1] ?? 1) * (isResidual ? 2 * layers : 1)) };
}

/** @param {string[]} assignments @returns {Record<string, unknown>} */
const overrides = (assignments) =>
  Object.fromEntries(
    assignments.map((text) => {
      const at = text.indexOf("=");
      return [text.slice(0, at), JSON.parse(text.slice(at + 1))];
    }),
  );

/**
 * config.json; where the vocabulary is made too small for the published special ids, theirs are its last.
 * @param {string} shape @param {Record<string, unknown>} set @param {string} dtype
 * @returns {Record<string, unknown>}
 */
function configOf(shape, set, dtype) {
  /** @type {Record<string, unknown>} */
  const config = { ...SHAPES[shape], ...set, torch_dtype: dtype };
  if (Number(config.vocab_size) > Number(config.bos_token_id)) return config;
  const generation = /** @type {Record<string, unknown>} */ (
    publishedTokenizer(config)["generation_config.json"]
  );
  const { eos_token_id, pad_token_id } = generation;
  return { ...config, eos_token_id, bos_token_id: pad_token_id };
}

/**
 * @param {{ shape: string, out: string, dtype: string, shardBytes: number, seed: number, set: Record<string, unknown> }} request
 * @returns {Promise<{ parameters: number, bytes: number }>}
 */
async function writePublishedShape({ shape, out, dtype, shardBytes, seed, set }) {
  /** @param {string} part @returns {Promise<unknown>} */
  const built = (part) => import(pathToFileURL(join(root, "dist", part, "index.js")).href);
  const checkpoints = /** @type {typeof import("../dist/checkpoints/index.js")} */ (
    await built("checkpoints")
  );
  const policy = /** @type {typeof import("../dist/policy/index.js")} */ (await built("policy"));
  const { randomStream, hash32 } = /** @type {typeof import("../dist/core/index.js")} */ (
    await built("core")
  );
  const config = configOf(shape, set, dtype);
  const decoder = policy.parseDecoderConfig(config, shape);
  const kind = /** @type {"F32" | "BF16" | "F16"} */ (DTYPES[dtype]);
  const random = randomStream(seed, "published shape");
  const normal = Float32Array.from({ length: QUANTILES }, () => random.normal());
  /** @type {Map<string, import("../dist/checkpoints/index.js").TensorData>} */
  const tables = new Map();
  /** @param {{ middle: number, deviation: number }} of */
  const tableOf = ({ middle, deviation }) => {
    const key = `${middle}/${deviation}`;
    const found =
      tables.get(key) ??
      checkpoints.narrowed(
        normal.map((x) => middle + deviation * x),
        kind,
      );
    tables.set(key, found);
    return found;
  };
  /** @type {Map<string, import("../dist/checkpoints/index.js").TensorStream>} */
  const tensors = new Map();
  let [bytes, filled, files] = [0, 0, 1];
  /** @type {Map<string, number>} */
  const shardOf = new Map();
  for (const [name, dims] of Object.entries(policy.parameterShapes(decoder))) {
    const count = checkpoints.elementCount(dims);
    const own = count * checkpoints.bytesPerElement(kind);
    if (filled > 0 && filled + own > shardBytes) [filled, files] = [0, files + 1];
    [bytes, filled] = [bytes + own, filled + own];
    shardOf.set(name, files);
    const table = tableOf(distribution(name, dims, decoder.layers));
    const pieces = () => drawn(table, count, hash32(`${seed}/${name}`));
    tensors.set(name, { dtype: kind, shape: dims, pieces });
  }
  const padded = (/** @type {number} */ n) => String(n).padStart(5, "0");
  const fileOf = new Map(
    [...shardOf].map(([name, n]) => [name, `model-${padded(n)}-of-${padded(files)}.safetensors`]),
  );
  mkdirSync(out, { recursive: true });
  const texts = { "config.json": config, ...publishedTokenizer(config) };
  for (const [name, content] of Object.entries(texts))
    writeFileSync(
      join(out, name),
      typeof content === "string" ? content : `${JSON.stringify(content, null, 2)}\n`,
    );
  for (const [name, content] of Object.entries(checkpoints.modelFiles(tensors, files > 1 ? fileOf : null)))
    await checkpoints.replaceFile(join(out, name), content);
  return { parameters: policy.parameterCount(decoder), bytes };
}

/** @param {string} message @returns {never} */
function refuse(message) {
  process.stderr.write(`${message}\nSee --help.\n`);
  process.exit(2);
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      out: { type: "string" },
      dtype: { type: "string", default: "bfloat16" },
      "shard-gb": { type: "string", default: "5" },
      seed: { type: "string", default: "0" },
      set: { type: "string", multiple: true, default: [] },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${HELP}\n`);
    return;
  }
  const [shape = ""] = positionals;
  const { out, dtype } = values;
  if (SHAPES[shape] === undefined)
    refuse(`SHAPE: need one of ${Object.keys(SHAPES).join(", ")}, got ${shape}.`);
  if (out === undefined) refuse("--out: need a folder.");
  if (DTYPES[dtype] === undefined)
    refuse(`--dtype: need one of ${Object.keys(DTYPES).join(", ")}, got ${dtype}.`);
  mkdirSync(out, { recursive: true });
  if (readdirSync(out).length > 0) refuse(`--out: need a new or empty folder, got ${out}.`);
  build();
  const started = performance.now();
  const { parameters, bytes } = await writePublishedShape({
    shape,
    out,
    dtype,
    shardBytes: Number(values["shard-gb"]) * 1e9,
    seed: Number(values.seed),
    set: overrides(values.set),
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stderr.write(`${out}: ${parameters} parameters, ${(bytes / 1e9).toFixed(2)} GB, ${seconds} s\n`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
