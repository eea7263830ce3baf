/** An adapter on disk, as PEFT writes it and vLLM loads it: adapter_config.json and adapter_model.safetensors. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import {
  type Content,
  float32Values,
  heldTensor,
  readSafetensors,
  safetensorsContent,
} from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";
import type { DecoderConfig } from "./config.js";
import { adapterShapes } from "./lora.js";
import { LORA_TARGETS, type LoraConfig } from "./lora-config.js";

const CONFIG = "adapter_config.json";
const TENSORS = "adapter_model.safetensors";
/** PEFT's wrapper around a model puts this before every name. */
const PREFIX = "base_model.model.";

/** Of PEFT's ways to start an adapter, those that leave the base as it was published; the others train on a changed one. */
const STARTS = ["gaussian", "orthogonal", "eva"] as const;

/** Keys that change what an adapter computes: quietly left out, they would give another policy. */
const nothing = z
  .unknown()
  .refine(
    (value) =>
      value == null || value === false || (typeof value === "object" && Object.keys(value).length === 0),
    "nothing: it would change what the adapter computes, and is not offered here",
  )
  .optional();

const PeftConfig = z.looseObject({
  peft_type: z.literal("LORA"),
  base_model_name_or_path: z.string(),
  r: z.int().positive(),
  lora_alpha: z.number().positive(),
  target_modules: z.union([z.array(z.enum(LORA_TARGETS)).min(1), z.enum(LORA_TARGETS)]),
  bias: z.literal("none").default("none"),
  use_rslora: z.boolean().default(false),
  init_lora_weights: z.union([z.boolean(), z.enum(STARTS)]).nullish(),
  use_dora: nothing,
  use_qalora: nothing,
  use_bdlora: nothing,
  fan_in_fan_out: nothing,
  lora_bias: nothing,
  modules_to_save: nothing,
  rank_pattern: nothing,
  alpha_pattern: nothing,
  layer_replication: nothing,
  target_parameters: nothing,
  trainable_token_indices: nothing,
  alora_invocation_tokens: nothing,
  arrow_config: nothing,
  monteclora_config: nothing,
});

export interface AdapterFolder {
  readonly lora: LoraConfig;
  /** Folder of the policy that it belongs to. */
  readonly base: string;
}

export const isAdapterFolder = (folder: string): boolean => existsSync(join(folder, CONFIG));

/** @throws ConfigError for an adapter of another kind: silently other numbers would be worse */
export function readAdapterConfig(folder: string): AdapterFolder {
  const file = join(folder, CONFIG);
  let raw: unknown;
  try {
    raw = JSON.parse(readFileSync(file, "utf8"));
  } catch (cause) {
    const { message } = cause as Error;
    throw new ConfigError({
      at: file,
      need: `an adapter's configuration, as PEFT saves it (${message})`,
      cause,
    });
  }
  const parsed = PeftConfig.safeParse(raw);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new ConfigError({ at: `${file}: ${issue.path.join(".")}`, need: issue.message });
  }
  const { r, lora_alpha, use_rslora, target_modules, base_model_name_or_path } = parsed.data;
  const targets = [target_modules].flat();
  // Rank-stabilized (arXiv 2312.03732): alpha / sqrt(rank) times, where ours is alpha / rank.
  const alpha = use_rslora ? lora_alpha * Math.sqrt(r) : lora_alpha;
  return { lora: { rank: r, alpha, targets }, base: base_model_name_or_path };
}

/** The matrices of an adapter under our names. @param config - of its policy, with `lora` */
export function readAdapter(folder: string, config: DecoderConfig): Record<string, Float32Array> {
  const file = join(folder, TENSORS);
  const { tensors } = readSafetensors(file);
  const shapes = adapterShapes(config);
  const other = [...tensors.keys()].find((name) => shapes[name.replace(PREFIX, "")] === undefined);
  if (other !== undefined)
    throw new ConfigError({
      at: `${file}: ${other}`,
      need: "matrices of the adapter's target_modules alone: this one would be left out",
      fix: "The adapter changes more than can be read here, or its adapter_config.json is of another.",
    });
  return Object.fromEntries(
    Object.entries(shapes).map(([name, shape]) => {
      const tensor = tensors.get(`${PREFIX}${name}`);
      if (tensor?.shape.join() === shape.join()) return [name, float32Values(tensor)];
      throw new ConfigError({
        at: `${file}: ${PREFIX}${name}`,
        got: tensor?.shape ?? null,
        need: `a tensor of shape [${shape}]`,
        fix: "The adapter belongs to another policy.",
      });
    }),
  );
}

/**
 * The files of an adapter folder, by name.
 * @param base - folder of the policy that it belongs to
 */
export function adapterFiles(
  config: DecoderConfig & { readonly lora: LoraConfig },
  adapter: Readonly<Record<string, Float32Array>>,
  base: string,
): Record<string, Content> {
  const { rank, alpha, targets } = config.lora;
  const peft = {
    peft_type: "LORA",
    task_type: "CAUSAL_LM",
    base_model_name_or_path: base,
    r: rank,
    lora_alpha: alpha,
    lora_dropout: 0,
    target_modules: targets,
    bias: "none",
    fan_in_fan_out: false,
    inference_mode: true,
    modules_to_save: null,
  };
  const tensors = new Map(
    Object.entries(adapterShapes(config)).map(([name, shape]) => [
      `${PREFIX}${name}`,
      heldTensor(adapter[name]!, shape),
    ]),
  );
  return {
    [CONFIG]: `${JSON.stringify(peft, null, 2)}\n`,
    [TENSORS]: safetensorsContent(tensors, { format: "pt" }),
  };
}
