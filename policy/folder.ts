import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import {
  encodeSafetensors,
  float32Values,
  type NamedTensor,
  readModelTensors,
  replaceFile,
} from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";
import { isAdapterFolder, readAdapter, readAdapterConfig } from "./adapter-folder.js";
import { verifyChecksums } from "./checksums.js";
import { type DecoderConfig, huggingFaceConfig, parseDecoderConfig, readDecoderConfig } from "./config.js";
import { mergedWeights } from "./lora.js";
import { type PolicyTokenizer, readTokenizer } from "./tokenizer.js";
import { parameterShapes } from "./weights.js";

/** Weights on the host, float32, row-major, by Hugging Face name. */
export type HostWeights = Record<string, Float32Array>;

/**
 * A policy as published: a folder with config.json, tokenizer.json, tokenizer_config.json, and model.safetensors or several
 * files with model.safetensors.index.json; weights in float32, bfloat16 or float16.
 */
export interface PolicyFolder {
  /** Where config.json and the tokenizer stand: of an adapter, its base. */
  readonly folder: string;
  readonly config: DecoderConfig;
  readonly tokenizer: PolicyTokenizer;
  readonly weights: HostWeights;
}

/** Carried along unchanged, where they are there. */
const COMPANIONS = [
  ...["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
  ...["vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json"],
];

/** The policy folder meant by a path: the path itself, or `policy/` within it where it is a checkpoint of a run. */
export function policyFolder(path: string): string {
  const inside = join(path, "policy");
  const isPolicy = (folder: string): boolean =>
    existsSync(join(folder, "config.json")) || isAdapterFolder(folder);
  return !isPolicy(path) && isPolicy(inside) ? inside : path;
}

/** Reads a policy folder, or the policy of a checkpoint. @throws ConfigError naming the file, what is wrong in it and what was expected */
export function readPolicy(path: string): PolicyFolder {
  const folder = policyFolder(path);
  verifyChecksums(folder);
  if (isAdapterFolder(folder)) return readAdapted(folder);
  const config = readDecoderConfig(folder);
  const tokenizer = readTokenizer(folder);
  if (tokenizer.vocabulary > config.vocabulary) {
    throw new ConfigError({
      at: join(folder, "tokenizer.json"),
      got: tokenizer.vocabulary,
      need: `at most ${config.vocabulary} tokens, the vocab_size of config.json`,
      fix: "The tokenizer belongs to another model.",
    });
  }
  return { folder, config, tokenizer, weights: readWeights(folder, config) };
}

/** The policy of an adapter folder: its base, with the adapter added into the weights. */
function readAdapted(folder: string): PolicyFolder {
  const { lora, base } = readAdapterConfig(folder);
  const place = resolve(folder, base);
  if (!existsSync(join(place, "config.json")))
    throw new ConfigError({
      at: `${join(folder, "adapter_config.json")}: base_model_name_or_path`,
      got: base,
      need: "the folder of the policy that this adapter belongs to",
      fix: "Put the folder back, or write its new place there.",
    });
  const policy = readPolicy(place);
  const adapted = { ...policy.config, lora };
  const weights = mergedWeights(policy.weights, readAdapter(folder, adapted), adapted);
  return { ...policy, folder: place, weights };
}

/** Reads the weights and checks every name and shape against the configuration. */
export function readWeights(folder: string, config: DecoderConfig): HostWeights {
  const index = join(folder, "model.safetensors.index.json");
  const single = join(folder, "model.safetensors");
  const file = existsSync(single) || !existsSync(index) ? single : index;
  if (!existsSync(file))
    throw new ConfigError({ at: file, need: "the weights of the policy in safetensors format" });
  const tensors = readModelTensors(folder);
  const weights: HostWeights = {};
  for (const [name, shape] of Object.entries(parameterShapes(config))) {
    const tensor = tensors.get(name);
    if (tensor === undefined)
      throw new ConfigError({ at: file, need: `a tensor "${name}" of shape [${shape}]` });
    if (tensor.shape.join() !== shape.join()) {
      throw new ConfigError({
        at: `${file}: ${name}`,
        got: tensor.shape,
        need: `shape [${shape}] by config.json`,
      });
    }
    weights[name] = float32Values(tensor);
  }
  return weights;
}

/** Weights as named tensors in file order. */
export function namedTensors(
  weights: Readonly<HostWeights>,
  config: DecoderConfig,
): Map<string, NamedTensor> {
  const shapes = Object.entries(parameterShapes(config));
  return new Map(shapes.map(([name, shape]) => [name, { dtype: "F32", shape, data: weights[name]! }]));
}

/**
 * The published config.json with the type that the weights are saved in, so that keys which only other programs read
 * survive; our own where the folder has none, or one of another shape.
 */
function configToSave(config: DecoderConfig, from: string): Record<string, unknown> {
  const file = join(from, "config.json");
  if (!existsSync(file)) return huggingFaceConfig(config);
  const published = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  const shapeOf = ({ stopIds: _, ...shape }: DecoderConfig): string => JSON.stringify(shape);
  if (shapeOf(parseDecoderConfig(published, file)) !== shapeOf(config)) return huggingFaceConfig(config);
  const { dtype } = published; // what transformers 5 calls torch_dtype
  return { ...published, ...(dtype === undefined ? { torch_dtype: "float32" } : { dtype: "float32" }) };
}

/**
 * The files of a policy folder that Retort, transformers, vLLM and SGLang open, by name.
 * @param tokenizerFrom - folder whose tokenizer, template and other keys of config.json go along
 */
export function policyFiles(
  config: DecoderConfig,
  weights: Readonly<HostWeights>,
  tokenizerFrom: string,
): Record<string, Uint8Array | string> {
  const companions = COMPANIONS.filter((name) => existsSync(join(tokenizerFrom, name)));
  return {
    "config.json": `${JSON.stringify(configToSave(config, tokenizerFrom), null, 2)}\n`,
    ...Object.fromEntries(companions.map((name) => [name, readFileSync(join(tokenizerFrom, name))])),
    "model.safetensors": Buffer.concat(encodeSafetensors(namedTensors(weights, config), { format: "pt" })),
  };
}

/** Writes a policy folder; each file appears whole or not at all. */
export async function writePolicy(
  folder: string,
  config: DecoderConfig,
  weights: Readonly<HostWeights>,
  tokenizerFrom: string,
): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const [name, content] of Object.entries(policyFiles(config, weights, tokenizerFrom))) {
    await replaceFile(join(folder, name), content);
  }
}
