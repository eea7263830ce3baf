/** `retort eval RUN.yaml`: a run's own evaluation tasks, against its policy or one of its checkpoints. */
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { CheckpointStore } from "../checkpoints/index.js";
import { ConfigError, type Task } from "../core/index.js";
import { loadLanguages } from "../verifiers/index.js";
import type { RunConfig } from "./config.js";
import { evaluatePrograms, judgingOf, type Programs } from "./evaluate-programs.js";
import type { Evaluated } from "./evaluate-solutions.js";
import { openPool, openRunner } from "./open-pool.js";
import { openTasks } from "./open-tasks.js";

/** Sequences decoded at once, as in the run's own evaluations. */
const SLOTS = 64;

export interface RunEvaluation {
  readonly config: RunConfig;
  /** latest, best, the number of a step, or a folder; absent: the policy that the run starts from. */
  readonly checkpoint?: string;
  readonly set: "heldout" | "probe";
  /** Default: those of the run's `evaluation`. */
  readonly samples?: number;
  readonly temperature?: number;
  /** Default: in `evaluations/` of the run directory. */
  readonly out?: string;
  readonly reports: readonly string[];
  readonly ks?: readonly number[];
  readonly stream: NodeJS.WriteStream;
  readonly signal?: AbortSignal;
}

const runFolder = ({ run }: RunConfig): string => run.dir ?? join("runs", run.name);

/** The policy that a run starts from, where it was made already. */
function startPolicy(config: RunConfig): string {
  if (!config.policy.from_scratch) return config.policy.path;
  const made = join(runFolder(config), "warm-start");
  if (existsSync(join(made, "model.safetensors"))) return made;
  throw new ConfigError({
    at: "policy.from_scratch",
    need: `the warm start that the run makes in ${made}`,
    fix: "Start the run first, or name a --checkpoint.",
  });
}

/** The step whose weights passed most held-out tasks when it was saved. */
async function bestStep(store: CheckpointStore): Promise<number | null> {
  let best: { step: number; rate: number } | null = null;
  for (const step of await store.steps()) {
    const rate = (await store.load(step)).metrics.heldout_pass_rate;
    if (rate !== undefined && (best === null || rate > best.rate)) best = { step, rate };
  }
  return best?.step ?? null;
}

/** @throws ConfigError for a checkpoint that the run does not have */
async function policyOf(config: RunConfig, checkpoint: string | undefined): Promise<string> {
  if (checkpoint === undefined) return startPolicy(config);
  const folder = join(runFolder(config), "checkpoints");
  const store = new CheckpointStore(folder);
  const steps = await store.steps();
  const named = /^\d+$/.test(checkpoint) ? Number(checkpoint) : null;
  if (named === null && checkpoint !== "latest" && checkpoint !== "best") {
    if (existsSync(checkpoint)) return checkpoint;
    throw new ConfigError({
      at: "--checkpoint",
      got: checkpoint,
      need: "latest, best, a step's number or a folder",
    });
  }
  const step = named ?? (checkpoint === "best" ? await bestStep(store) : (steps.at(-1) ?? null));
  if (step !== null && steps.includes(step)) return (await store.load(step)).folder;
  throw new ConfigError({
    at: "--checkpoint",
    got: checkpoint,
    need:
      steps.length === 0
        ? `a checkpoint in ${folder}, which has none`
        : checkpoint === "best"
          ? "a checkpoint that was evaluated in the run; evaluation.every makes them"
          : `one of the steps ${steps.join(", ")}`,
  });
}

function tasksOf(sets: Readonly<Record<string, readonly Task[]>>, set: string): readonly Task[] {
  const tasks = sets[set];
  if (tasks !== undefined && tasks.length > 0) return tasks;
  throw new ConfigError({ at: `tasks.${set}`, need: "tasks: this run has none to evaluate on" });
}

/** As the run's own evaluations sample: where it samples, with its seed, default language and lengths, the whole distribution. */
function programsOf(request: RunEvaluation, folder: string): Programs {
  const { config } = request;
  const { policy, languages, rollout, evaluation, run } = config;
  const sampling = {
    folder,
    seed: run.seed,
    temperature: request.temperature ?? evaluation.temperature,
    topP: 1,
    maxTokens: rollout.max_new_tokens,
  };
  const assignment = {
    languages: [languages.default],
    overridesLanguage: false,
    samples: request.samples ?? Math.max(1, evaluation.samples),
    systemPrompt: policy.system_prompt,
    instruct: languages.instruct,
    programIn: policy.program_in,
  };
  if (rollout.engine.type === "openai") {
    const place = { start: startPolicy(config), served: join(runFolder(config), "evaluations", "served") };
    return {
      from: "server",
      server: { engine: rollout.engine, name: run.name, ...place, ...sampling },
      assignment,
    };
  }
  return {
    from: "policy",
    policy: {
      ...sampling,
      device: rollout.device === "auto" ? policy.device : rollout.device,
      ...(policy.threads === undefined ? {} : { threads: policy.threads }),
      slots: Math.min(rollout.slots, SLOTS),
      basePrecision: { type: rollout.base_precision, at: "rollout.base_precision" },
    },
    assignment,
  };
}

/** @throws as `evaluatePrograms`; ConfigError for a set or a checkpoint that the run does not have */
export async function evaluateRun(request: RunEvaluation): Promise<Evaluated & { readonly out: string }> {
  const { config, set, stream } = request;
  const folder = await policyOf(config, request.checkpoint);
  const programs = programsOf(request, folder);
  const languages = loadLanguages(config.languages.folders);
  const note = (line: string): void => void stream.write(`${line}\n`);
  const opening = { languages, verifier: config.verifier, note };
  const pool = await openPool(opening);
  const name = `${set}-${request.checkpoint === undefined ? "start" : basename(folder)}`;
  const out = request.out ?? join(runFolder(config), "evaluations", `${name}.jsonl`);
  try {
    const runner = openRunner(pool, opening);
    const { evaluation } = await openTasks(config.tasks, config.run.seed, runner).finally(runner.close);
    const evaluated = await evaluatePrograms({
      tasks: tasksOf(evaluation, set),
      tasksName: `${config.run.name}, ${set}`,
      programs,
      out,
      languages,
      judging: judgingOf(config.verifier),
      reports: request.reports,
      ...(request.ks === undefined ? {} : { ks: request.ks }),
      openPool: async () => pool,
      stream,
      ...(request.signal === undefined ? {} : { signal: request.signal }),
    });
    return { ...evaluated, out };
  } finally {
    await pool.close();
  }
}
