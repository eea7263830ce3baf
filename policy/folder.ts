import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { ConfigError } from "../core/index.js";
import { isAdapterFolder, readAdapter, readAdapterConfig } from "./adapter-folder.js";
import { verifyChecksums } from "./checksums.js";
import { type DecoderConfig, readDecoderConfig } from "./config.js";
import { mergedWeights } from "./lora.js";
import type { LoraConfig } from "./lora-config.js";
import { type PolicyTokenizer, readTokenizer } from "./tokenizer.js";
import { type HostWeights, hostWeights, type WeightPlaces, weightPlaces } from "./weight-places.js";

/** The weights of a policy, not read. Plain data, so that it can be posted to other threads. */
export interface WeightSource {
  /** Of the whole weights: without an adapter. */
  readonly config: DecoderConfig;
  readonly places: WeightPlaces;
  /** An adapter on them, with its folder. */
  readonly adapter: { readonly folder: string; readonly lora: LoraConfig } | null;
}

/**
 * A policy as published: a folder with config.json, tokenizer.json, tokenizer_config.json, and model.safetensors or several
 * files with model.safetensors.index.json; weights in float32, bfloat16 or float16.
 */
export interface OpenedPolicy {
  /** Where config.json and the tokenizer stand: of an adapter, its base. */
  readonly folder: string;
  readonly config: DecoderConfig;
  readonly tokenizer: PolicyTokenizer;
  readonly source: WeightSource;
}

/** A policy with its weights in memory, an adapter added into them. */
export interface PolicyFolder extends Omit<OpenedPolicy, "source"> {
  readonly weights: HostWeights;
}

/** The policy folder meant by a path: the path itself, or `policy/` within it where it is a checkpoint of a run. */
export function policyFolder(path: string): string {
  const inside = join(path, "policy");
  const isPolicy = (folder: string): boolean =>
    existsSync(join(folder, "config.json")) || isAdapterFolder(folder);
  return !isPolicy(path) && isPolicy(inside) ? inside : path;
}

/**
 * Opens a policy folder, or the policy of a checkpoint; of the weights only the files' headers are read.
 * @throws ConfigError naming the file, what is wrong in it and what was expected
 */
export function openPolicy(path: string): OpenedPolicy {
  const folder = baseFolder(path);
  for (const place of new Set([policyFolder(path), folder])) verifyChecksums(place);
  const config = readDecoderConfig(folder);
  const tokenizer = readTokenizer(folder);
  // Before the weights: their shapes would be wrong too, and this says why.
  if (tokenizer.vocabulary > config.vocabulary) {
    throw new ConfigError({
      at: join(folder, "tokenizer.json"),
      got: tokenizer.vocabulary,
      need: `at most ${config.vocabulary} tokens, the vocab_size of config.json`,
      fix: "The tokenizer belongs to another model.",
    });
  }
  if (config.stopIds.length > 0 && config.stopIds.every((id) => id >= tokenizer.vocabulary)) {
    throw new ConfigError({
      at: join(folder, "tokenizer.json"),
      need: `a token of id ${config.stopIds[0]}, the eos_token_id of config.json, but its ids end at ${tokenizer.vocabulary - 1}`,
      fix: "The tokenizer belongs to another model.",
    });
  }
  return { folder, config, tokenizer, source: openWeights(path) };
}

/** As `openPolicy`, for what needs no tokenizer. */
export function openWeights(path: string): WeightSource {
  const folder = policyFolder(path);
  const base = baseFolder(path);
  const config = readDecoderConfig(base);
  const adapter = isAdapterFolder(folder) ? { folder, lora: readAdapterConfig(folder).lora } : null;
  return { config, places: weightPlaces(base, config), adapter };
}

/** The folder with config.json and the whole weights: of an adapter, its base. */
function baseFolder(path: string): string {
  const folder = policyFolder(path);
  if (!isAdapterFolder(folder)) return folder;
  const { base } = readAdapterConfig(folder);
  const place = resolve(folder, base);
  if (existsSync(join(place, "config.json"))) return place;
  throw new ConfigError({
    at: `${join(folder, "adapter_config.json")}: base_model_name_or_path`,
    got: base,
    need: "the folder of the policy that this adapter belongs to",
    fix: "Put the folder back, or write its new place there.",
  });
}

/** All weights in memory, the adapter added in. */
export function loadWeights({ config, places, adapter }: WeightSource): HostWeights {
  const weights = hostWeights(places);
  if (adapter === null) return weights;
  const adapted = { ...config, lora: adapter.lora };
  return mergedWeights(weights, readAdapter(adapter.folder, adapted), adapted);
}

/** Reads a policy folder, or the policy of a checkpoint, weights and all. @throws as `openPolicy` */
export function readPolicy(path: string): PolicyFolder {
  const { source, ...policy } = openPolicy(path);
  return { ...policy, weights: loadWeights(source) };
}
