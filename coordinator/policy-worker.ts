/** Runs in the policy's worker thread, see policy-host.ts. Every export is a call of the host. */
import type { MessagePort } from "node:worker_threads";
import type { DecoderConfig, HostWeights } from "../policy/index.js";
import {
  createEngine,
  type GroupRequest,
  type RunnerShape,
  type SamplingEngine,
  type SamplingOptions,
  type SamplingStats,
} from "../rollout/index.js";
import { type Provider, useTensorflowBackend } from "../tensor/index.js";
import {
  createLearner,
  decoderModel,
  type Learner,
  type LearnerState,
  type ObjectiveConfig,
  type OptimizerConfig,
  type UpdateMetrics,
  type UpdateRequest,
} from "../trainer/index.js";

export interface OpenRequest {
  readonly config: DecoderConfig;
  readonly weights: HostWeights;
  readonly provider: Provider;
  readonly threads: number;
  readonly objective: ObjectiveConfig;
  readonly optimizer: OptimizerConfig;
  readonly totalSteps: number;
  /** Sampling temperature: the trainer takes its log-probabilities at it. */
  readonly temperature: number;
}

interface Opened {
  readonly request: OpenRequest;
  readonly learner: Learner;
  /** By shape: the training loop's and the evaluation's. */
  readonly engines: Map<string, SamplingEngine>;
}

let opened: Opened | null = null;

const current = (): Opened => {
  if (opened === null) throw new Error("the policy worker has not been opened");
  return opened;
};

export async function open(request: OpenRequest): Promise<void> {
  const { config, weights, provider, threads, objective, optimizer, totalSteps, temperature } = request;
  if (provider === "tensorflow") await useTensorflowBackend();
  const compile = { provider, threads, deterministic: true };
  const model = decoderModel(config);
  const learner = createLearner({ model, weights, objective, optimizer, totalSteps, temperature, compile });
  opened = { request, learner, engines: new Map() };
}

export async function sample(request: {
  shape: RunnerShape;
  groups: readonly GroupRequest[];
  options: SamplingOptions;
  port: MessagePort;
}): Promise<SamplingStats> {
  const { learner, engines, request: own } = current();
  const { shape, port } = request;
  const key = JSON.stringify(shape);
  const engine =
    engines.get(key) ??
    (await createEngine({ config: own.config, shape, provider: own.provider, threads: own.threads }));
  engines.set(key, engine);
  engine.setWeights(learner.weights());
  const stats = await engine.sample(request.groups, request.options, (sequence) =>
    port.postMessage(sequence),
  );
  port.postMessage("end");
  return stats;
}

export const update = (request: UpdateRequest): Promise<UpdateMetrics> => current().learner.update(request);

export const exportState = (): Promise<LearnerState> => current().learner.exportState();

export const importState = (state: LearnerState): void => current().learner.importState(state);

export const memory = (): { rss: number; heap: number } => {
  const { rss, heapUsed } = process.memoryUsage();
  return { rss, heap: heapUsed };
};

export async function close(): Promise<void> {
  const { learner, engines } = current();
  for (const engine of engines.values()) await engine.dispose();
  await learner.dispose();
  opened = null;
}
