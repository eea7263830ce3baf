/** Retort's side of the benchmark, a process: see contestant.ts for the protocol. */
import { createInterface } from "node:readline";
import * as tf from "@tensorflow/tfjs-core";
import type { Sample } from "../core/index.js";
import { type DecoderConfig, type HostWeights, readDecoderConfig, readWeights } from "../policy/index.js";
import { createEngine, type SampledSequence } from "../rollout/index.js";
import { compile } from "../tensor/index.js";
import { createLearner, decoderModel, type Learner, OptimizerConfig, SftConfig } from "../trainer/index.js";
import type { OpenRequest, SampleAnswer, TrainAnswer } from "./contestant.js";

interface Opened {
  readonly threads: number;
  readonly config: DecoderConfig;
  readonly weights: HostWeights;
  readonly learner: Learner;
  readonly engines: Map<string, Awaited<ReturnType<typeof createEngine>>>;
}

let opened: Opened | null = null;

const current = (): Opened => {
  if (opened === null) throw new Error("open comes first");
  return opened;
};

/** The learner that training runs use, with plain AdamW: no clipping, constant learning rate. */
function open({ folder, threads, adamw }: OpenRequest): { version: string } {
  const config = readDecoderConfig(folder);
  const weights = readWeights(folder, config);
  const optimizer = OptimizerConfig.parse({
    type: "adamw",
    ...adamw,
    clip_norm: null,
    microbatch_tokens: 1 << 20,
  });
  const learner = createLearner({
    model: decoderModel(config),
    weights,
    objective: SftConfig.parse({ type: "sft" }),
    optimizer,
    totalSteps: 1_000_000,
    temperature: 1,
    compile: { provider: "cpu", threads, deterministic: true },
  });
  opened = { threads, config, weights, learner, engines: new Map() };
  return { version: "this checkout" };
}

/** Wall and CPU time from now on. */
function startClocks(): () => { seconds: number; cpu_seconds: number } {
  const [wall, cpu] = [performance.now(), process.cpuUsage()];
  return () => {
    const { user, system } = process.cpuUsage(cpu);
    return { seconds: (performance.now() - wall) / 1000, cpu_seconds: (user + system) / 1e6 };
  };
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

async function train({ ids, steps }: { ids: number[][]; steps: number }): Promise<TrainAnswer> {
  const samples = ids.map(asSample);
  const losses: number[] = [];
  const elapsed = startClocks();
  for (let step = 0; step < steps; step++) losses.push((await current().learner.update({ samples })).loss);
  return { ...elapsed(), losses };
}

async function sample(request: {
  prompts: number[][];
  samples: number;
  new_tokens: number;
  greedy?: boolean;
}): Promise<SampleAnswer> {
  const { config, weights, threads, engines } = current();
  const promptLength = request.prompts[0]!.length;
  const shape = {
    slots: request.prompts.length * request.samples,
    promptLength,
    cacheLength: promptLength + request.new_tokens,
  };
  const key = JSON.stringify(shape);
  const engine = engines.get(key) ?? (await createEngine({ config, shape, provider: "cpu", threads }));
  engines.set(key, engine);
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
  engine.setWeights(weights);
  const { tokens } = await engine.sample(groups, options, (sequence) => sequences.push(sequence));
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

/** GFLOP/s of one large matrix product, the best of some. */
async function peak({ size }: { size: number }): Promise<{ gflops: number }> {
  const spec = { shape: [size, size], dtype: "float32" as const };
  const product = await compile(
    ({ a, b }) => ({ corner: tf.slice(tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D), [0, 0], [1, 1]) }),
    { a: spec, b: spec },
    { provider: "cpu", threads: current().threads },
  );
  const numbers = (): Float32Array => Float32Array.from({ length: size * size }, (_, i) => (i % 7) - 3);
  const feeds = { a: numbers(), b: numbers() };
  let best = Infinity;
  for (let i = 0; i < 6; i++) {
    const started = performance.now();
    await product.run(feeds);
    best = Math.min(best, performance.now() - started);
  }
  await product.dispose();
  return { gflops: (2 * size ** 3) / best / 1e6 };
}

const commands: Record<string, (request: never) => unknown> = { open, train, sample, peak };

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...request } = JSON.parse(line) as { op: string };
  const command = commands[op];
  if (!command) throw new Error(`unknown command ${op}`);
  process.stdout.write(`${JSON.stringify(await command(request as never))}\n`);
}
const { learner, engines } = current();
for (const engine of engines.values()) await engine.dispose();
await learner.dispose();
