/** Runs in the policy's worker thread, see policy-host.ts. Every export is a call of the host. */
import type { MessagePort } from "node:worker_threads";
import { move, transferableSymbol, valueSymbol } from "piscina";
import {
  type DecoderConfig,
  type HostWeights,
  initialAdapter,
  NonFinitePolicyError,
  weightSpecs,
} from "../policy/index.js";
import {
  answerRequests,
  createEngine,
  type GroupRequest,
  type RemoteCall,
  type RunnerShape,
  type SampledSequence,
  type SamplingEngine,
  type SamplingOptions,
  type SamplingProvider,
  type SamplingStats,
} from "../rollout/index.js";
import { disposeValues, type Provider, placeOn, useTensorflowBackend, type Value } from "../tensor/index.js";
import {
  createLearner,
  decoderModel,
  type Learner,
  type LearnerState,
  NonFiniteUpdateError,
  type ObjectiveConfig,
  type OptimizerConfig,
  type UpdateMetrics,
  type UpdateRequest,
} from "../trainer/index.js";
import {
  exchangeableWeights,
  type PlacedWeights,
  placeWeights,
  type StoredWeights,
} from "./stored-weights.js";
import { type Answer, answered } from "./worker-failure.js";

interface OpenPolicyRequest {
  /** With `lora` where an adapter is learned. */
  readonly config: DecoderConfig;
  readonly weights: HostWeights | StoredWeights;
  readonly provider: Provider;
  readonly threads: number;
  /** The policy's own matrices are held in float16. Default: no. */
  readonly isHalf?: boolean;
}

/** A policy that is only sampled from. Where an adapter is learned elsewhere, `weights` are those that it stands on. */
export interface OpenSamplerRequest extends OpenPolicyRequest {
  readonly provider: SamplingProvider;
}

export interface OpenRequest extends OpenPolicyRequest {
  /** Of the run: a fresh adapter is drawn from it. */
  readonly seed: number;
  readonly objective: ObjectiveConfig;
  readonly optimizer: OptimizerConfig;
  readonly totalSteps: number;
  /** Sampling temperature: the trainer takes its log-probabilities at it. */
  readonly temperature: number;
}

interface Opened {
  readonly request: Omit<OpenPolicyRequest, "weights">;
  /** Its weights change where the policy is only sampled from. */
  placed: PlacedWeights;
  /** null where the policy is only sampled from: no moments, no teacher. */
  readonly learner: Learner | null;
  /** By shape: the training loop's and the evaluation's. */
  readonly engines: Map<string, SamplingEngine>;
  /** Of `listen`. */
  readonly ports: MessagePort[];
}

let opened: Opened | null = null;
/** Engines that were stopped and are not closed yet. */
const closing = new Set<Promise<void>>();

const current = (): Opened => {
  if (opened === null) throw new Error("the policy worker has not been opened");
  return opened;
};

const learning = (): Learner => {
  const { learner } = current();
  if (learner === null) throw new Error("the policy worker was opened for sampling alone");
  return learner;
};

export const open = (request: OpenRequest): Promise<Answer<void>> =>
  answered(async () => {
    const { weights: _, ...asked } = request;
    const { provider, threads, objective, optimizer, totalSteps, temperature } = request;
    const placed = await placedPolicy(request);
    const config = typedConfig(request);
    const compile = { provider, threads, deterministic: true };
    const model = decoderModel(config);
    const own =
      config.lora === undefined
        ? { weights: placed.weights as HostWeights }
        : { weights: initialAdapter(config, request.seed), frozen: placed.base ?? placed.weights };
    const learner = createLearner({
      model,
      ...own,
      objective,
      optimizer,
      totalSteps,
      temperature,
      compile,
    });
    // What the learner learns is its own; only a base, and what an adapter stands on, is held here too.
    const held = config.lora === undefined ? { ...placed, weights: {} } : placed;
    opened = { request: asked, placed: { ...held, config }, learner, engines: new Map(), ports: [] };
  });

export const openSampler = (request: OpenSamplerRequest): Promise<Answer<void>> =>
  answered(async () => {
    const { weights: _, ...asked } = request;
    const placed = await placedPolicy(request);
    opened = { request: asked, placed, learner: null, engines: new Map(), ports: [] };
  });

const typedConfig = ({ config, isHalf = false }: OpenPolicyRequest): DecoderConfig =>
  isHalf ? { ...config, matrixType: "float16" } : config;

/** The weights where they compute; what an adapter that is learned stands on, on webgpu, in buffers that all functions share. */
async function placedPolicy(request: OpenPolicyRequest): Promise<PlacedWeights> {
  const { weights, provider } = request;
  const config = typedConfig(request);
  const read = await placedWeights(weights, { config, provider });
  if (config.lora === undefined) return read;
  return { ...read, config, weights: await placeOn(provider, read.weights, weightSpecs(config)) };
}

async function placedWeights(
  weights: HostWeights | StoredWeights,
  { config, provider }: Pick<OpenPolicyRequest, "config" | "provider">,
): Promise<PlacedWeights> {
  if (provider === "tensorflow") await useTensorflowBackend();
  if (!isStored(weights)) return { config, weights };
  const { matrixType } = config;
  const { source } = weights;
  const typed = matrixType === undefined ? source : { ...source, config: { ...source.config, matrixType } };
  return placeWeights({ ...weights, source: typed }, provider);
}

/** No parameter has such a name. */
const isStored = (weights: HostWeights | StoredWeights): weights is StoredWeights => "source" in weights;

/** A call of the sampler; sequences go to the port as they end, and "end" after the last. */
export interface SampleCall {
  readonly shape: RunnerShape;
  readonly groups: readonly GroupRequest[];
  readonly options: SamplingOptions;
  readonly port: MessagePort;
}

export const sample = ({ shape, groups, options, port }: SampleCall): Promise<Answer<SamplingStats>> =>
  answered(async () => {
    const engine = await engineOf(shape);
    port.once("message", () => closeEngine(shape)); // "stop": the call fails after the step under way
    engine.setWeights(weightsInUse());
    const stats = await engine.sample(groups, options, (sequence) => {
      refuseNonFinite(sequence);
      port.postMessage(sequence);
    });
    port.postMessage("end");
    return stats;
  });

/** Requests to one sampler, as they come; see `answerRequests`. */
export interface ListenCall {
  readonly shape: RunnerShape;
  readonly port: MessagePort;
}

/** Takes requests from the port until the policy is closed, with the weights of `setWeights`. */
export const listen = ({ shape, port }: ListenCall): Promise<Answer<void>> =>
  answered(async () => {
    const engine = await engineOf(shape, { isLive: true });
    engine.setWeights(weightsInUse());
    current().ports.push(port);
    const answer = answerRequests(engine, (event) => {
      if ("completion" in event) refuseNonFinite(event.completion);
      port.postMessage(event);
    });
    port.on("message", (call: RemoteCall) => answer(call));
  });

/**
 * Other weights for a policy that is only sampled from, or another adapter where one is learned elsewhere; a completion that
 * has begun ends with the weights it began with.
 */
export const setWeights = (given: HostWeights | StoredWeights): Promise<Answer<void>> =>
  answered(() => {
    const weights = isStored(given) ? exchangeableWeights(given) : given;
    const { placed, engines, request } = current();
    const next = request.config.lora === undefined ? weights : { ...placed.weights, ...weights };
    current().placed = { ...placed, weights: next };
    for (const engine of engines.values()) engine.setWeights(next);
  });

/** What the sampler is given: all weights that are not bound. An adapter that is learned stands beside the policy's own. */
function weightsInUse(): Readonly<Record<string, Value>> {
  const { learner, placed } = current();
  if (learner === null) return placed.weights;
  return { ...placed.weights, ...learner.weights() };
}

async function engineOf(shape: RunnerShape, { isLive = false } = {}): Promise<SamplingEngine> {
  const { engines, request, placed } = current();
  const { provider, threads } = request;
  const { config, base, int8 } = placed;
  if (provider === "cuda") throw new Error("nothing samples on cuda: see chooseRunDevices");
  const key = JSON.stringify(isLive ? [shape, "live"] : shape);
  const engine =
    engines.get(key) ??
    (await createEngine({
      config,
      shape,
      provider,
      threads,
      isLive,
      ...(base === undefined ? {} : { base }),
      ...(int8 === undefined ? {} : { int8 }),
    }));
  engines.set(key, engine);
  return engine;
}

function closeEngine(shape: RunnerShape): void {
  const { engines } = current();
  const key = JSON.stringify(shape);
  const engine = engines.get(key);
  engines.delete(key);
  if (engine !== undefined) closing.add(engine.dispose());
}

/** What to do first where numbers overflowed: float16 ends at 65,504. */
const halfHint = (): string =>
  current().request.isHalf ? " Set policy.precision: float32, whose range is wider." : "";

/** Where every reward is 0 nothing is trained, so no loss would ever show that the policy is broken. */
function refuseNonFinite({ rolloutLogProbs }: Pick<SampledSequence, "rolloutLogProbs">): void {
  const bad = rolloutLogProbs.find((logProb) => !Number.isFinite(logProb));
  if (bad === undefined) return;
  throw new NonFinitePolicyError(
    `the policy is not finite: it gives a token the log-probability ${bad}.${halfHint()}`,
  );
}

export const update = (request: UpdateRequest): Promise<Answer<UpdateMetrics>> =>
  answered(async () => {
    try {
      return await learning().update(request);
    } catch (error) {
      if (!(error instanceof NonFiniteUpdateError) || halfHint() === "") throw error;
      throw new NonFiniteUpdateError(`${error.message}${halfHint()}`, { cause: error });
    }
  });

/** Handed over as it is: cloned, a state would exist three times on its way. */
export async function exportState(): Promise<Answer<LearnerState>> {
  const answer = await answered(() => learning().exportState());
  if (!("value" in answer)) return answer;
  const buffers = Object.values(answer.value.tensors).map(({ data }) => data.buffer);
  return move({ [transferableSymbol]: buffers, [valueSymbol]: answer }) as unknown as Answer<LearnerState>;
}

export const importState = (state: LearnerState): Promise<Answer<void>> =>
  answered(() => learning().importState(state));

/** What is learned, without moments, teacher and reference. */
export const exportWeights = (): Promise<Answer<HostWeights>> =>
  answered(async () => {
    const entries = Object.entries(learning().weights());
    const read = async (value: Value): Promise<Float32Array> =>
      ("read" in value ? await value.read() : value) as Float32Array;
    return Object.fromEntries(
      await Promise.all(entries.map(async ([name, value]) => [name, await read(value)] as const)),
    );
  });

export const memory = (): { rss: number; heap: number } => {
  const { rss, heapUsed } = process.memoryUsage();
  return { rss, heap: heapUsed };
};

export async function close(): Promise<void> {
  if (opened === null) return; // this thread replaced one that died: what ended it is told already
  const { learner, engines, ports, placed } = opened;
  for (const engine of engines.values()) await engine.dispose();
  await Promise.allSettled(closing);
  for (const port of ports) port.close();
  await learner?.dispose();
  disposeValues(Object.values({ ...placed.base, ...placed.weights }));
  opened = null;
}
