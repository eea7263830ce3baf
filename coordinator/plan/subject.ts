/** What is planned: the policy's shape from config.json, how its weights are stored, how long its sequences get. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { readSafetensorsHeader } from "../../checkpoints/index.js";
import { ConfigError, type Task } from "../../core/index.js";
import {
  type DecoderConfig,
  policyFolder as folderOfPolicy,
  isAdapterFolder,
  isLargePolicy,
  parameterCount,
  readDecoderConfig,
  readTokenizer,
  weightSpecs,
} from "../../policy/index.js";
import { readTasks } from "../../tasks/index.js";
import { loadLanguages } from "../../verifiers/index.js";
import type { RunConfig } from "../config.js";
import { runSurroundings } from "../prompts.js";
import { longestPrompt } from "../sampler.js";

/** How a policy's weights stand on disk. */
export interface StoredWeights {
  readonly bytes: number;
  /** float32, bfloat16, float16; of the most bytes, where they differ. */
  readonly dtype: string;
  /** false: told by config.json alone; no weights are there. */
  readonly isThere: boolean;
}

export interface PlanSubject {
  readonly folder: string;
  readonly decoder: DecoderConfig;
  readonly stored: StoredWeights;
  /** The weights are mapped, or put on the device once, for sampler and learner; else they are read into memory. */
  readonly isShared: boolean;
  /** Longest prompt of the training tasks and of the evaluation's, in tokens. */
  readonly promptTokens: { readonly train: number; readonly evaluation: number };
  /** Whether the tasks said so; false: rollout.max_prompt_tokens did. */
  readonly areMeasured: boolean;
}

/** The folder with config.json: a policy, a checkpoint, an adapter's base, or config.json itself. */
function configFolder(path: string): string {
  if (basename(path) === "config.json") return dirname(path);
  const folder = folderOfPolicy(path);
  if (!isAdapterFolder(folder)) return folder;
  const text = readFileSync(join(folder, "adapter_config.json"), "utf8");
  const { base_model_name_or_path: base } = JSON.parse(text) as { base_model_name_or_path?: string };
  if (base === undefined)
    throw new ConfigError({ at: join(folder, "adapter_config.json"), need: "base_model_name_or_path" });
  return resolve(folder, base);
}

const DTYPE_NAMES: Readonly<Record<string, string>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };
const DTYPE_BYTES: Readonly<Record<string, number>> = { float32: 4, float16: 2, bfloat16: 2 };

/** From the headers of the weight files; where there are none, what config.json says of them. */
function storedWeights(folder: string, decoder: DecoderConfig): StoredWeights {
  const files = readdirSync(folder).filter((name) => /^model.*\.safetensors$/.test(name));
  if (files.length === 0) {
    const published = JSON.parse(readFileSync(join(folder, "config.json"), "utf8")) as Record<
      string,
      unknown
    >;
    const dtype = String(published.dtype ?? published.torch_dtype ?? "float32");
    return { bytes: parameterCount(decoder) * (DTYPE_BYTES[dtype] ?? 4), dtype, isThere: false };
  }
  const byDtype = new Map<string, number>();
  for (const file of files)
    for (const { dtype, bytes } of readSafetensorsHeader(join(folder, file)).tensors.values())
      byDtype.set(dtype, (byDtype.get(dtype) ?? 0) + bytes);
  const most = [...byDtype].sort(([, a], [, b]) => b - a)[0] ?? ["F32", 0];
  return {
    bytes: [...byDtype.values()].reduce((a, b) => a + b, 0),
    dtype: DTYPE_NAMES[most[0]] ?? most[0],
    isThere: true,
  };
}

/** Longest prompts, where tokenizer and task files are at hand; a generated family's tasks are not made for a plan. */
function longestPrompts(config: RunConfig, folder: string): PlanSubject["promptTokens"] | null {
  const { tasks, rollout } = config;
  if ("family" in tasks || !existsSync(join(folder, "tokenizer.json"))) return null;
  const context = {
    tokenizer: readTokenizer(folder),
    ...runSurroundings(config, loadLanguages(config.languages.folders)),
  };
  const longest = (files: readonly (string | undefined)[]): number => {
    const all = files.flatMap((file): readonly Task[] => (file === undefined ? [] : readTasks(file)));
    return longestPrompt(all, context, rollout.max_prompt_tokens);
  };
  return { train: longest([tasks.train]), evaluation: longest([tasks.heldout, tasks.probe]) };
}

/**
 * Reads what a plan needs, and no weights.
 * @param promptTokens - of the tasks, where the caller has read them
 * @throws ConfigError for a folder without config.json, or tasks that the run would refuse
 */
export function planSubject(config: RunConfig, promptTokens?: PlanSubject["promptTokens"]): PlanSubject {
  const folder = configFolder(config.policy.path);
  const own = readDecoderConfig(folder);
  const { lora } = config.policy;
  const decoder = lora === null ? own : { ...own, lora };
  const measured = promptTokens ?? longestPrompts(config, folder);
  const limit = config.rollout.max_prompt_tokens;
  return {
    folder,
    decoder,
    stored: storedWeights(folder, own),
    isShared: lora !== null && isLargePolicy(own),
    promptTokens: measured ?? { train: limit, evaluation: limit },
    areMeasured: measured !== null,
  };
}

/** Bytes of the policy's own weights in the types that they are held in, without an adapter. */
export function ownBytes({ lora: _, ...decoder }: PlanSubject["decoder"]): number {
  const sizeOf = ({ shape, dtype }: ReturnType<typeof weightSpecs>[string]): number =>
    (dtype === "float16" ? 2 : 4) * shape.reduce((a, b) => a * b, 1);
  return Object.values(weightSpecs(decoder)).reduce((sum, spec) => sum + sizeOf(spec), 0);
}
