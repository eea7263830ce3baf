import { availableParallelism } from "node:os";
import { ConfigError, type Task } from "../core/index.js";
import {
  type DecoderConfig,
  policyFolder as folderOfPolicy,
  isAdapterFolder,
  type OpenedPolicy,
  openPolicy,
  type WideningProgress,
} from "../policy/index.js";
import { loadRewardFunction, type RewardFunction } from "../trainer/index.js";
import { type LanguageSet, loadLanguages } from "../verifiers/index.js";
import type { AttemptContext } from "./attempts.js";
import { checkDemonstrations, languagesUsed } from "./check-tasks.js";
import type { RunConfig } from "./config.js";
import { chooseRunDevices, usesHalfPrecision } from "./devices.js";
import { createDrawOrder } from "./draw.js";
import { currentEnvironment, recordEnvironment } from "./environment.js";
import { type OpenedPool, openPool, openRunner, type PoolRequest } from "./open-pool.js";
import { openTasks, type TaskSets } from "./open-tasks.js";
import { openPolicyHost, type PolicyHost } from "./policy-host.js";
import type { OpenRequest } from "./policy-worker.js";
import { preparePolicy } from "./prepare-policy.js";
import type { Progress } from "./progress.js";
import { runSurroundings } from "./prompts.js";
import { withSampler } from "./sampled-elsewhere.js";
import { checkPositions, createSampler, longestPrompt } from "./sampler.js";
import { measureSelfTeacher, type SelfTeacherReport, selfTeacherTasks } from "./self-teacher.js";
import type { StepContext } from "./step.js";
import { storedWeights } from "./stored-weights.js";
import { createTally, type Tally } from "./tally.js";

/** Sandboxes started ahead while the policy learns: as many as a step writes programs, each under a megabyte. */
const MOST_PRESTARTED = 32;
/** Sequences decoded at once in an evaluation, where hundreds wait. */
const EVALUATION_SLOTS = 64;

/** A run that is ready to step: its parts are started, its tasks read. */
export interface OpenRun {
  readonly config: RunConfig;
  readonly decoder: DecoderConfig;
  /** Where the policy came from; its tokenizer goes along into every checkpoint. */
  readonly policyFolder: string;
  readonly step: StepContext;
  /** Samples in larger batches than a step does. */
  readonly evaluator: AttemptContext;
  readonly evaluationSets: Readonly<Record<string, readonly Task[]>>;
  readonly tally: Tally;
  readonly verifier: OpenedPool;
  /** null for an objective that has no self-teacher, and where it is not to be measured. */
  readonly measureSelfTeacher: () => Promise<SelfTeacherReport | null>;
  /** Held-out pass rate of the newest evaluation, and whose weights it measured: chooses the best checkpoint. */
  measured: { readonly step: number; readonly rate: number } | null;
}

/**
 * Starts everything a run needs: the judge first, while this process is small (its broker is a fork of it), then the
 * tasks, then the policy's worker.
 * @throws ConfigError before anything is sampled when a part cannot work as configured
 */
export async function openRun(config: RunConfig, progress: Progress, folder: string): Promise<OpenRun> {
  const languages = loadLanguages(config.languages.folders);
  const { learner: provider, sampler, note } = await chooseRunDevices(config);
  const isHalf = await usesHalfPrecision(config.policy, new Set([provider, sampler ?? provider]));
  if (note !== null) progress.note(note);
  const request: PoolRequest = {
    languages,
    verifier: config.verifier,
    prestart: Math.min(MOST_PRESTARTED, config.rollout.prompts_per_step * config.rollout.samples_per_prompt),
    note: progress.note,
  };
  const verifier = await openPool(request);
  const runner = openRunner(verifier, request);
  try {
    const tasks = await openTasks(config.tasks, config.run.seed, runner);
    const used = languagesUsed(config, tasks, languages);
    checkDemonstrations(config, tasks);
    const reward = config.tasks.reward === undefined ? null : await loadRewardFunction(config.tasks.reward);
    const policyFolder = await preparePolicy(config, folder, runner, progress, provider);
    await runner.close();
    const policy = withAdapter(openPolicy(policyFolder), config, policyFolder);
    const threads = config.policy.threads ?? availableParallelism();
    const environment = await currentEnvironment({ provider, sampler, threads, verifier, languages: used });
    const change = await recordEnvironment(folder, environment);
    if (change !== null) progress.note(change);
    const opening: OpenRequest = {
      config: policy.config,
      weights: await storedWeights(policy.source, config.policy.lora !== null, widening(progress), {
        type: config.rollout.base_precision,
        provider: sampler ?? provider,
        at: "rollout.base_precision",
      }),
      seed: config.run.seed,
      provider,
      isHalf,
      threads,
      objective: config.objective,
      optimizer: config.optimizer,
      totalSteps: config.run.steps,
      temperature: config.rollout.temperature,
    };
    const local = await openPolicyHost(opening);
    const host = await withSampler(local, { config, sampler, opening, policy, folder, note: progress.note });
    return assemble(config, { policy, host, verifier, tasks, languages, reward });
  } catch (error) {
    await runner.close();
    await verifier.close();
    throw error;
  }
}

/** Megabytes of widened weights, as a stage of the run. */
function widening(progress: Progress): WideningProgress {
  let isShown = false;
  return {
    note: progress.note,
    wrote: (bytes, total) => {
      if (!isShown) progress.stage("widening weights (MB)", Math.ceil(total / 1e6));
      isShown = true;
      progress.update({ done: Math.floor(bytes / 1e6) });
    },
  };
}

/** @throws ConfigError for an optimizer, or a policy, that an adapter cannot be learned with */
function withAdapter(
  policy: OpenedPolicy,
  { policy: { lora }, optimizer }: RunConfig,
  path: string,
): OpenedPolicy {
  if (lora === null) return policy;
  // Its checkpoints would name a base without the first adapter, and open as another policy.
  if (isAdapterFolder(folderOfPolicy(path)))
    throw new ConfigError({
      at: "policy.path",
      got: path,
      need: "whole weights under policy.lora, not another adapter",
      fix: `Merge it first: retort export --policy ${path} --out merged`,
    });
  if (optimizer.type === "adamw") return { ...policy, config: { ...policy.config, lora } };
  throw new ConfigError({
    at: "optimizer.type",
    got: optimizer.type,
    need: "adamw: Muon is made for whole matrices, not for the two thin ones of an adapter",
    fix: "Set optimizer: {type: adamw, lr: 1e-3}, or policy.lora: null.",
  });
}

/** Stops the worker and the judge. */
export async function closeRun(run: OpenRun): Promise<void> {
  await run.step.policy.close();
  await run.step.reward?.close();
  await run.verifier.close();
}

interface Parts {
  readonly policy: OpenedPolicy;
  readonly host: PolicyHost;
  readonly verifier: OpenedPool;
  readonly tasks: TaskSets;
  readonly languages: LanguageSet;
  readonly reward: RewardFunction | null;
}

function assemble(config: RunConfig, { policy, host, verifier, tasks, languages, reward }: Parts): OpenRun {
  const { rollout, run, objective } = config;
  const prompts = { tokenizer: policy.tokenizer, ...runSurroundings(config, languages) };
  const context = (set: readonly Task[], slots: number): AttemptContext => {
    const promptLength = longestPrompt(set, prompts, rollout.max_prompt_tokens);
    const maxNewTokens = rollout.max_new_tokens;
    checkPositions(promptLength, maxNewTokens, policy.config.maxPositions);
    return {
      ...prompts,
      verifier,
      language: config.languages.default,
      programIn: config.policy.program_in,
      sampler: createSampler(host, { slots: Math.min(rollout.slots, slots), promptLength, maxNewTokens }),
    };
  };
  const sampling = {
    seed: run.seed,
    temperature: rollout.temperature,
    topP: rollout.top_p,
    topK: rollout.top_k,
    maxNewTokens: rollout.max_new_tokens,
    stopIds: [...new Set([...policy.config.stopIds, ...policy.tokenizer.stopIds])],
  };
  const inLargeBatches = context(Object.values(tasks.evaluation).flat(), EVALUATION_SLOTS);
  const evaluator = { ...inLargeBatches, stopAfterFailures: 1 }; // pass or fail is all that an evaluation asks
  const step: StepContext = {
    policy: host,
    attempts: context(tasks.train, rollout.prompts_per_step * rollout.samples_per_prompt),
    scoring: {
      objective,
      seed: run.seed,
      language: config.languages.default,
      programIn: config.policy.program_in,
      ...prompts,
    },
    tasks: tasks.train,
    draw: createDrawOrder(run.seed, tasks.train.length),
    promptsPerStep: rollout.prompts_per_step,
    groupSize: rollout.samples_per_prompt,
    sampling,
    reward,
  };
  const probed = tasks.train.slice(0, selfTeacherTasks(config, policy.config));
  return {
    config,
    decoder: policy.config,
    policyFolder: policy.folder,
    step,
    evaluator,
    evaluationSets: tasks.evaluation,
    tally: createTally(),
    verifier,
    measureSelfTeacher: async () =>
      probed.length > 0 ? measureSelfTeacher(inLargeBatches, probed, sampling) : null,
    measured: null,
  };
}
