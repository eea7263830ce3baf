/** What `retort eval` evaluates: a task file, or a run. */
import type { Evaluated } from "../coordinator/evaluate-solutions.js";
import { ConfigError } from "../core/index.js";
import { type ProgramOptions, programsOf } from "./eval-programs.js";
import { type PoolOptions, poolConfig } from "./pool-options.js";

export interface SourceOptions extends ProgramOptions, PoolOptions {
  readonly tasks?: string;
  readonly out?: string;
  readonly languages: readonly string[];
  readonly checkpoint?: string;
  readonly on?: "heldout" | "probe";
  readonly set: readonly string[];
}

/** What both kinds are told. */
interface Told {
  readonly reports: readonly string[];
  readonly ks?: readonly number[];
  readonly stream: NodeJS.WriteStream;
  readonly signal: AbortSignal;
}

type Start = (told: Told) => Promise<Evaluated>;

/** @throws ConfigError for options that do not go together */
export async function filesOf(options: SourceOptions): Promise<Start> {
  const { tasks, out } = options;
  if (tasks === undefined) throw new ConfigError({ at: "retort eval", need: "--tasks FILE, or a run file" });
  if (out === undefined) throw new ConfigError({ at: "retort eval", need: "--out FILE" });
  const ofRuns = { "--checkpoint": options.checkpoint, "--on": options.on, "--set": options.set[0] };
  for (const [option, value] of Object.entries(ofRuns)) {
    if (value !== undefined) throw new ConfigError({ at: option, need: "a run file: retort eval RUN.yaml" });
  }
  const programs = programsOf(options, process.env);
  const verifier = await poolConfig(options);
  const { evaluateFiles } = await import("../coordinator/evaluate-files.js");
  return (told) =>
    evaluateFiles({ tasks, programs, out, languageFolders: options.languages, verifier, ...told });
}

/** Options that a run file answers, and what of it does. */
const IN_RUN: Partial<Record<keyof SourceOptions, string>> = {
  tasks: "tasks",
  solutions: "policy",
  references: "policy",
  policy: "policy.path",
  endpoint: "policy",
  language: "languages.default",
  languages: "languages.folders",
  system: "policy.system_prompt",
  programIn: "policy.program_in",
  maxTokens: "rollout.max_new_tokens",
  seed: "run.seed",
  device: "policy.device",
  basePrecision: "rollout.base_precision",
  workers: "verifier.workers",
  pool: "verifier.pool",
  redis: "verifier.redis.url",
};

/** @throws ConfigError for options that a run file answers */
export async function runOf(file: string, options: SourceOptions): Promise<Start> {
  for (const [name, key] of Object.entries(IN_RUN)) {
    const value = options[name as keyof SourceOptions];
    if (value === undefined || (Array.isArray(value) && value.length === 0)) continue;
    const flag = `--${name.replace(/[A-Z]/g, (capital) => `-${capital.toLowerCase()}`)}`;
    throw new ConfigError({
      at: flag,
      need: `no run file: ${key} of the run says it`,
      fix: "Use --set KEY=VALUE.",
    });
  }
  const { loadRunConfig } = await import("../coordinator/config.js");
  const config = loadRunConfig(file, options.set);
  const { evaluateRun } = await import("../coordinator/evaluate-run.js");
  const { checkpoint, samples, temperature, out } = options;
  return (told) =>
    evaluateRun({
      config,
      set: options.on ?? "heldout",
      ...(checkpoint === undefined ? {} : { checkpoint }),
      ...(samples === undefined ? {} : { samples }),
      ...(temperature === undefined ? {} : { temperature }),
      ...(out === undefined ? {} : { out }),
      ...told,
    });
}
