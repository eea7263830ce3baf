/** Retort's side of the benchmark, a process: see contestant.ts for the protocol. */
import type { Sample } from "../core/index.js";
import { type DecoderConfig, type HostWeights, readDecoderConfig, readWeights } from "../policy/index.js";
import { createEngine, type SampledSequence } from "../rollout/index.js";
import type { Provider } from "../tensor/index.js";
import { createLearner, decoderModel, type Learner, OptimizerConfig, SftConfig } from "../trainer/index.js";
import { startClocks } from "./clocks.js";
import type {
  OpenRequest,
  SampleAnswer,
  SampleRequest,
  Setting,
  TrainAnswer,
  TrainRequest,
} from "./contestant.js";
import { serveCommands } from "./serve.js";

interface Opened {
  readonly config: DecoderConfig;
  readonly weights: HostWeights;
  readonly adamw: OpenRequest["adamw"];
  readonly provider: Provider;
}

let opened: Opened | null = null;
let threads = 1;
let learner: Learner | null = null;
let engine: { key: string; own: Awaited<ReturnType<typeof createEngine>> } | null = null;

const current = (): Opened => {
  if (opened === null) throw new Error("open comes first");
  return opened;
};

function open({ folder, adamw, device }: OpenRequest): { version: string } {
  const config = readDecoderConfig(folder);
  opened = { config, weights: readWeights(folder, config), adamw, provider: device as Provider };
  return { version: "this checkout" };
}

async function close(): Promise<void> {
  await engine?.own.dispose();
  await learner?.dispose();
  [engine, learner] = [null, null];
}

/** The learner that training runs use, with plain AdamW: no clipping, constant learning rate. */
function currentLearner(): Learner {
  const { config, weights, adamw, provider } = current();
  const optimizer = { type: "adamw", ...adamw, clip_norm: null, microbatch_tokens: 1 << 20 };
  learner ??= createLearner({
    model: decoderModel(config),
    weights,
    objective: SftConfig.parse({ type: "sft" }),
    optimizer: OptimizerConfig.parse(optimizer),
    totalSteps: 1_000_000,
    temperature: 1,
    compile: { provider, threads, deterministic: true },
  });
  return learner;
}

/** A row as the learner takes it: every token but the first is a target. */
const asSample = (ids: readonly number[], row: number): Sample => ({
  rolloutId: String(row),
  promptIds: ids.slice(0, 1),
  completionIds: ids.slice(1),
  rolloutLogProbs: [],
  reward: 1,
  advantage: 0,
  teacherPromptIds: null,
});

async function train({ ids, steps }: TrainRequest): Promise<TrainAnswer> {
  const samples = ids.map(asSample);
  const losses: number[] = [];
  const own = currentLearner();
  const elapsed = startClocks();
  for (let step = 0; step < steps; step++) losses.push((await own.update({ samples })).loss);
  return { ...elapsed(), losses };
}

/** The sampler for a request's shape; the weights are in place, as they are between two updates. */
async function engineFor(request: SampleRequest): Promise<NonNullable<typeof engine>["own"]> {
  const { config, weights, provider } = current();
  if (provider === "cuda") throw new Error("on cuda Retort trains; webgpu samples for it");
  const promptLength = request.prompts[0]!.length;
  const shape = {
    slots: request.prompts.length * request.samples,
    promptLength,
    cacheLength: promptLength + request.new_tokens,
  };
  const key = JSON.stringify(shape);
  if (engine?.key === key) return engine.own;
  await engine?.own.dispose();
  engine = { key, own: await createEngine({ config, shape, provider, threads }) };
  engine.own.setWeights(weights);
  return engine.own;
}

async function sample(request: SampleRequest): Promise<SampleAnswer> {
  const own = await engineFor(request);
  const indices = Array.from({ length: request.samples }, (_, index) => index);
  const groups = request.prompts.map((promptIds, group) => ({
    group,
    randomKey: `prompt-${group}`,
    promptIds,
    samples: indices,
  }));
  const options = {
    seed: 1,
    temperature: request.greedy ? 0 : 1,
    topP: 1,
    topK: 0,
    maxNewTokens: request.new_tokens,
    stopIds: [],
  };
  const sequences: SampledSequence[] = [];
  const elapsed = startClocks();
  const { tokens } = await own.sample(groups, options, (sequence) => sequences.push(sequence));
  const times = elapsed();
  if (!request.greedy) return { ...times, tokens };
  sequences.sort((a, b) => a.group - b.group || a.sample - b.sample);
  return {
    ...times,
    tokens,
    ids: sequences.map((sequence) => sequence.completionIds),
    log_probs: sequences.map((sequence) => sequence.rolloutLogProbs),
  };
}

await serveCommands({
  open,
  configure: async (setting: Setting) => {
    await close();
    threads = setting.threads;
    return {};
  },
  train,
  sample,
});
await close();
