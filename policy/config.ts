import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { ConfigError } from "../core/index.js";
import type { LoraConfig } from "./lora-config.js";
import { RopeScaling } from "./rope.js";

const ARCHITECTURES = {
  llama: "LlamaForCausalLM",
  qwen2: "Qwen2ForCausalLM",
  qwen3: "Qwen3ForCausalLM",
} as const;
export type ModelType = keyof typeof ARCHITECTURES;

const TokenIds = z.union([z.int(), z.array(z.int())], { error: "an id or a list of ids" });

/** The keys of a Hugging Face `config.json` that the decoder reads; the rest is carried along untouched. */
const HuggingFaceConfig = z.looseObject({
  model_type: z.string({ error: `one of ${Object.keys(ARCHITECTURES).join(", ")}` }),
  hidden_size: z.int().positive(),
  intermediate_size: z.int().positive(),
  /** Names are made for each before any file is looked at: a slip of the pen must not take for ever. */
  num_hidden_layers: z.int().positive().max(4096),
  num_attention_heads: z.int().positive(),
  num_key_value_heads: z.int().positive().optional(),
  head_dim: z.int().positive().optional(),
  vocab_size: z.int().positive(),
  rms_norm_eps: z.number().positive().default(1e-6),
  rope_theta: z.number().positive().default(10_000),
  rope_scaling: z.unknown().optional(),
  /** transformers 5 puts theta and scaling together. */
  rope_parameters: z.looseObject({ rope_theta: z.number().positive().optional() }).nullish(),
  hidden_act: z.string().default("silu"),
  max_position_embeddings: z.int().positive().default(2048),
  tie_word_embeddings: z.boolean().default(false),
  attention_bias: z.boolean().optional(),
  mlp_bias: z.boolean().nullish(),
  partial_rotary_factor: z.number().nullish(),
  quantization_config: z.unknown().optional(),
  use_sliding_window: z.boolean().optional(),
  bos_token_id: TokenIds.nullish(),
  eos_token_id: TokenIds.nullish(),
});

/** Shape of a decoder of the Llama, Qwen2 or Qwen3 family. */
export interface DecoderConfig {
  readonly modelType: ModelType;
  readonly width: number;
  readonly feedForward: number;
  readonly layers: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  readonly normEpsilon: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
  readonly maxPositions: number;
  readonly tiedEmbeddings: boolean;
  /** Qwen2: query, key and value projections have a bias; the output projection has none. */
  readonly queryKeyValueBias: boolean;
  /** Qwen3: RMSNorm over each head's query and key before RoPE. */
  readonly queryKeyNorm: boolean;
  /** Of config.json and generation_config.json. */
  readonly stopIds: readonly number[];
  /** Absent: all weights are the policy's own. */
  readonly lora?: LoraConfig;
  /** Type in which what computes holds the policy's own matrices; absent: float32. Never in a file. */
  readonly matrixType?: "float16";
}

/**
 * Reads a Hugging Face model configuration.
 * @param raw - the parsed config.json
 * @param file - its path, for messages
 * @throws ConfigError for another architecture or a feature that the decoder lacks: silently other logits would be worse
 */
export function parseDecoderConfig(raw: unknown, file = "config.json"): DecoderConfig {
  refuseOtherModels(raw, file); // whose keys have other names: hidden_size is n_embd in GPT-2's
  const parsed = HuggingFaceConfig.safeParse(raw, { error: inWords, reportInput: true });
  if (!parsed.success) {
    const { path, message, input } = parsed.error.issues[0]!;
    throw new ConfigError({
      at: [file, ...(path.length > 0 ? [path.join(".")] : [])].join(": "),
      ...(typeof input === "object" && input !== null ? {} : { got: input }),
      need: message,
    });
  }
  const config = parsed.data;
  const modelType = config.model_type as ModelType;
  refuseUnsupported(config, modelType, file);
  const heads = config.num_attention_heads;
  return {
    modelType,
    width: config.hidden_size,
    feedForward: config.intermediate_size,
    layers: config.num_hidden_layers,
    heads,
    keyValueHeads: config.num_key_value_heads ?? heads,
    headDim: config.head_dim ?? config.hidden_size / heads,
    vocabulary: config.vocab_size,
    normEpsilon: config.rms_norm_eps,
    ropeTheta: config.rope_parameters?.rope_theta ?? config.rope_theta,
    ropeScaling: ropeScalingOf(config, file),
    maxPositions: config.max_position_embeddings,
    tiedEmbeddings: config.tie_word_embeddings,
    queryKeyValueBias: modelType === "qwen2",
    queryKeyNorm: modelType === "qwen3",
    stopIds: idList(config.eos_token_id),
  };
}

function refuseOtherModels(raw: unknown, file: string): void {
  const type = (raw as { model_type?: unknown } | null)?.model_type;
  if (typeof type !== "string" || Object.hasOwn(ARCHITECTURES, type)) return;
  const need = `one of ${Object.keys(ARCHITECTURES).join(", ")}`;
  throw new ConfigError({ at: `${file}: model_type`, got: type, need });
}

const KINDS: Readonly<Record<string, string>> = { int: "a whole number", object: "a JSON object" };

/** What a value must be, where a key says no more of itself. */
function inWords(issue: z.core.$ZodRawIssue): string | undefined {
  if (issue.code === "invalid_type") return KINDS[issue.expected] ?? `a ${issue.expected}`;
  if (issue.code === "too_small") return `${issue.inclusive ? "at least" : "more than"} ${issue.minimum}`;
  return issue.code === "too_big" ? `at most ${issue.maximum}` : undefined;
}

const idList = (ids: number | readonly number[] | null | undefined): number[] => [ids ?? []].flat();

/** null: plain RoPE. @throws ConfigError for a kind that the decoder does not compute */
function ropeScalingOf(config: z.infer<typeof HuggingFaceConfig>, file: string): RopeScaling | null {
  const key = config.rope_scaling == null ? "rope_parameters" : "rope_scaling";
  const given = (config.rope_scaling ?? config.rope_parameters ?? {}) as Record<string, unknown>;
  const type = given.rope_type ?? given.type ?? "default"; // older files say `type`
  if (type === "default") return null;
  const parsed = RopeScaling.safeParse({ ...given, rope_type: type }, { error: inWords });
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  if (issue.path[0] === "rope_type")
    throw new ConfigError({ at: `${file}: ${key}.rope_type`, got: type, need: "default, linear or llama3" });
  throw new ConfigError({ at: `${file}: ${key}.${issue.path.join(".")}`, need: issue.message });
}

function refuseUnsupported(
  config: z.infer<typeof HuggingFaceConfig>,
  modelType: ModelType,
  file: string,
): void {
  const refuse = (key: string, got: unknown, need: string): never => {
    throw new ConfigError({ at: `${file}: ${key}`, got, need });
  };
  if (config.hidden_act !== "silu") refuse("hidden_act", config.hidden_act, "silu");
  if (config.use_sliding_window) refuse("use_sliding_window", true, "false (full attention)");
  if (config.attention_bias && modelType !== "qwen2")
    refuse("attention_bias", true, "false for this model_type");
  if (config.mlp_bias) refuse("mlp_bias", true, "false");
  const rotated = config.partial_rotary_factor ?? 1;
  if (rotated !== 1) refuse("partial_rotary_factor", rotated, "1 (RoPE turns every pair)");
  if (config.quantization_config != null)
    throw new ConfigError({
      at: `${file}: quantization_config`,
      need: "weights that are not quantised",
      fix: "Fetch the model as it was published in float32, bfloat16 or float16.",
    });
  const heads = config.num_attention_heads;
  const keyValueHeads = config.num_key_value_heads ?? heads;
  if (heads % keyValueHeads !== 0) refuse("num_key_value_heads", keyValueHeads, `a divisor of ${heads}`);
  const headDim = config.head_dim ?? config.hidden_size / heads;
  if (!Number.isInteger(headDim) || headDim % 2 !== 0)
    refuse("head_dim", headDim, "an even integer (RoPE turns pairs)");
}

/** Reads `config.json` of a policy folder. @throws ConfigError when it is missing or not valid */
export function readDecoderConfig(folder: string): DecoderConfig {
  const file = join(folder, "config.json");
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ConfigError({
      at: file,
      need: `a Hugging Face config.json in the policy folder (${code})`,
      cause,
    });
  }
  try {
    const config = parseDecoderConfig(JSON.parse(text), file);
    return { ...config, stopIds: [...new Set([...config.stopIds, ...generationStopIds(folder)])] };
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError({ at: file, need: `valid JSON (${(cause as Error).message})`, cause });
  }
}

const GenerationConfig = z.looseObject({ eos_token_id: TokenIds.nullish() });

/** Ids at which published models say that a turn ends, beyond those of config.json; the file may be absent. */
function generationStopIds(folder: string): number[] {
  const file = join(folder, "generation_config.json");
  if (!existsSync(file)) return [];
  try {
    return idList(GenerationConfig.parse(JSON.parse(readFileSync(file, "utf8"))).eos_token_id);
  } catch (cause) {
    throw new ConfigError({ at: file, need: "valid JSON with eos_token_id as a number or a list", cause });
  }
}

/** The config.json of a decoder, in the layout that transformers, vLLM and SGLang read. */
export function huggingFaceConfig(config: DecoderConfig): Record<string, unknown> {
  return {
    architectures: [ARCHITECTURES[config.modelType]],
    model_type: config.modelType,
    hidden_size: config.width,
    intermediate_size: config.feedForward,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.keyValueHeads,
    head_dim: config.headDim,
    vocab_size: config.vocabulary,
    rms_norm_eps: config.normEpsilon,
    rope_theta: config.ropeTheta,
    ...(config.ropeScaling === null ? {} : { rope_scaling: config.ropeScaling }),
    hidden_act: "silu",
    max_position_embeddings: config.maxPositions,
    tie_word_embeddings: config.tiedEmbeddings,
    attention_bias: config.queryKeyValueBias,
    torch_dtype: "float32",
    ...(config.stopIds.length > 0
      ? { eos_token_id: config.stopIds.length === 1 ? config.stopIds[0] : config.stopIds }
      : {}),
  };
}
