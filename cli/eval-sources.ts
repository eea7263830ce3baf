/** What `retort eval` evaluates: a task file, or a run. */
import type { Evaluated } from "../coordinator/evaluate-solutions.js";
import { ConfigError } from "../core/index.js";
import { flag, type ProgramOptions, programsOf } from "./eval-programs.js";
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

/** Options that a run file answers, and what of it does; null: a run is evaluated without. */
const IN_RUN: Partial<Record<keyof SourceOptions, string | null>> = {
  tasks: "tasks",
  solutions: "policy",
  references: "policy",
  policy: "policy.path",
  endpoint: "rollout.engine",
  model: "rollout.engine.model",
  completionsApi: "rollout.engine.api",
  concurrency: "rollout.engine.concurrency",
  requestsPerMinute: null,
  timeoutS: "rollout.engine.timeout_s",
  retries: "rollout.engine.patience_s",
  body: null,
  language: "languages.default",
  overrideLanguage: null,
  topP: null,
  completions: null,
  languages: "languages.folders",
  instruct: "languages.instruct",
  system: "policy.system_prompt",
  programIn: "policy.program_in",
  maxNewTokens: "rollout.max_new_tokens",
  seed: "run.seed",
  device: "policy.device",
  basePrecision: "rollout.base_precision",
  workers: "verifier.workers",
  backend: "verifier.backend",
  require: "verifier.require",
  pool: "verifier.pool",
  redis: "verifier.redis.url",
  redisPrefix: "verifier.redis.prefix",
  waitS: "verifier.redis.wait_s",
};

/** @throws ConfigError for options that a run file answers */
export async function runOf(file: string, options: SourceOptions): Promise<Start> {
  for (const [name, key] of Object.entries(IN_RUN)) {
    const value = options[name as keyof SourceOptions];
    const isGiven = name === "instruct" ? value === false : value !== undefined;
    if (!isGiven || (Array.isArray(value) && value.length === 0)) continue;
    throw new ConfigError({
      at: name === "instruct" ? "--no-instruct" : flag(name),
      need: `no run file: ${key === null ? "a run is evaluated without" : `${key} of the run says it`}`,
      ...(key === null ? {} : { fix: "Use --set KEY=VALUE." }),
    });
  }
  const { loadRunConfig } = await import("../coordinator/config.js");
  const config = loadRunConfig(file, options.set, "evaluation");
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
