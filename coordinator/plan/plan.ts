/** The plan of a run: what it will hold, where, and for how long; before any weight is read. */
import { totalmem } from "node:os";

import {
  adapterShapes,
  int8Bytes,
  parameterCount,
  parameterShapes,
  weightSpecs,
} from "../../policy/index.js";
import { MOST_PACKED, type RunnerShape, type SamplingCost, samplingCost } from "../../rollout/index.js";
import { DryRun, type Provider } from "../../tensor/index.js";
import type { RunConfig } from "../config.js";
import { roundUp } from "../sampler.js";
import { selfTeacherTasks } from "../self-teacher.js";
import { highest, type PlanItem, peaksOf, STAGES, type Stage } from "./items.js";
import type { Speed } from "./speed.js";
import { type PlanSubject, planSubject } from "./subject.js";
import { type PlannedTime, plannedTime } from "./time.js";
import { givenWeights, type UpdateCost, updateCost } from "./update.js";

/** Node.js, V8, ONNX Runtime and tfjs before any policy is there. Measured: see docs/plan.md. */
export const RUNTIME_BYTES = 150 * 2 ** 20;
/** Sequences decoded at once in an evaluation. */
const EVALUATION_SLOTS = 64;

export interface PlanOptions {
  readonly provider: Provider;
  /** Memory of the place where the policy computes; default: this machine's, on cpu. */
  readonly memoryBytes?: number;
  /** Of the place where it computes; null: no times are told. */
  readonly speed?: Speed | null;
  /** Longest prompts, where the tasks are read already. */
  readonly promptTokens?: PlanSubject["promptTokens"];
}

export interface DiskUse {
  readonly what: string;
  readonly bytes: number;
}

export interface Plan {
  readonly policy: {
    readonly folder: string;
    readonly parameters: number;
    readonly learned: number;
    readonly storedBytes: number;
    readonly dtype: string;
    readonly hasWeights: boolean;
  };
  readonly provider: Provider;
  readonly sequences: { readonly prompt: number; readonly completion: number; readonly areMeasured: boolean };
  readonly items: readonly PlanItem[];
  readonly disk: readonly DiskUse[];
  /** Bytes of each stage by place; device is null on cpu. */
  readonly peaks: { readonly host: Record<Stage, number>; readonly device: Record<Stage, number> | null };
  readonly memoryBytes: number | null;
  readonly peakBytes: number;
  readonly fits: boolean | null;
  /** Largest buffer that a call of the policy takes: GPUs limit it. */
  readonly largestBytes: number;
  /** null where nothing is known of the speed. */
  readonly time: PlannedTime | null;
}

const bytesOf = (shapes: Readonly<Record<string, readonly number[]>>): number =>
  Object.values(shapes).reduce((sum, shape) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);

/** @throws ConfigError for a policy without config.json, or of an architecture that is not supported */
export async function planRun(config: RunConfig, options: PlanOptions): Promise<Plan> {
  const subject = inPrecision(planSubject(config, options.promptTokens), config, options.provider);
  const update = await updateCost(config, subject, options.provider);
  const sampling = await samplers(config, subject, options.provider);
  const items = [
    ...stateItems(subject, update, options.provider),
    ...updateItems(update, options.provider),
    ...samplingItems(sampling, options.provider),
    ...servedItems(config, update),
    ...savingItems(update),
  ];
  const isCpu = options.provider === "cpu" || options.provider === "tensorflow";
  const peaks = { host: peaksOf(items, "host"), device: isCpu ? null : peaksOf(items, "device") };
  const memoryBytes = options.memoryBytes ?? (isCpu ? ownMemory() : null);
  const peakBytes = highest(peaks.device ?? peaks.host).bytes;
  const parameters = parameterCount(subject.decoder);
  const { lora } = subject.decoder;
  return {
    policy: {
      folder: subject.folder,
      parameters,
      learned: lora === undefined ? parameters : bytesOf(adapterShapes(subject.decoder)) / 4,
      storedBytes: subject.stored.bytes,
      dtype: subject.stored.dtype,
      hasWeights: subject.stored.isThere,
    },
    provider: options.provider,
    sequences: {
      prompt: subject.promptTokens.train,
      completion: config.rollout.max_new_tokens,
      areMeasured: subject.areMeasured,
    },
    items,
    disk: diskUse(config, subject, update),
    peaks,
    memoryBytes,
    peakBytes,
    fits: memoryBytes === null ? null : peakBytes <= memoryBytes,
    largestBytes: Math.max(
      update.stage.largestBytes,
      ...sampling.flatMap(({ cost }) => [cost.prefill.largestBytes, cost.step.largestBytes]),
    ),
    time:
      options.speed == null
        ? null
        : plannedTime(config, sampling[0]?.cost ?? null, update, options.speed, options.provider),
  };
}

/** With the type in which the policy's own matrices are held: see `usesHalfPrecision`, which needs the device to be here. */
function inPrecision(subject: PlanSubject, { policy }: RunConfig, provider: Provider): PlanSubject {
  const isHalf = policy.precision === "float16" && policy.lora !== null && placeOf(provider) === "device";
  return isHalf ? { ...subject, decoder: { ...subject.decoder, matrixType: "float16" } } : subject;
}

/** This machine's memory, or the limit that its container sets. */
function ownMemory(): number {
  const limit = process.constrainedMemory(); // 0 or a huge number where there is none
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

const placeOf = (provider: Provider): PlanItem["place"] =>
  provider === "webgpu" || provider === "cuda" ? "device" : "host";

const KINDS: Readonly<Record<string, string>> = {
  moment1: "optimizer: mean of the gradients",
  moment2: "optimizer: mean of their squares",
  momentum: "optimizer: momentum",
  teacher: "self-teacher",
  reference: "reference of the KL term",
};

/** Bytes of the policy's own weights in the types that they are held in, without an adapter. */
function ownBytes({ lora: _, ...decoder }: PlanSubject["decoder"]): number {
  const sizeOf = ({ shape, dtype }: ReturnType<typeof weightSpecs>[string]): number =>
    (dtype === "float16" ? 2 : 4) * shape.reduce((a, b) => a * b, 1);
  return Object.values(weightSpecs(decoder)).reduce((sum, spec) => sum + sizeOf(spec), 0);
}

function stateItems(
  { decoder, isShared }: PlanSubject,
  { state }: UpdateCost,
  provider: Provider,
): PlanItem[] {
  const place = placeOf(provider);
  const item = (what: string, bytes: number): PlanItem => ({ what, place, bytes, stages: STAGES });
  const weights = item(isShared ? "weights, one copy for sampler and learner" : "weights", ownBytes(decoder));
  const runtime: PlanItem = {
    what: "Node.js, ONNX Runtime, tfjs",
    place: "host",
    bytes: RUNTIME_BYTES,
    stages: STAGES,
  };
  const adapter = decoder.lora === undefined ? [] : [item("adapter", state.weights ?? 0)];
  const rest = Object.entries(state).flatMap(([kind, bytes]) =>
    kind === "weights" ? [] : [item(KINDS[kind] ?? kind, bytes)],
  );
  return [runtime, weights, ...adapter, ...rest];
}

function updateItems({ stage, graphBytes, state }: UpdateCost, provider: Provider): PlanItem[] {
  const held = Object.entries(state).reduce(
    (sum, [kind, bytes]) => (kind === "reference" ? sum : sum + bytes),
    0,
  );
  const beside = Math.max(0, stage.peakBytes - graphBytes - held);
  const place = placeOf(provider);
  return [
    { what: "update: graphs and their activations", place, bytes: graphBytes, stages: STAGES },
    { what: "update: gradients and new state", place, bytes: beside, stages: ["update"] },
  ];
}

interface NamedSampler {
  readonly name: string;
  readonly cost: SamplingCost;
  /** Bytes of int8 matrices, packed for the graphs that stay open. */
  readonly packed: number;
}

/** The samplers of a run: the step's, and the evaluation's where there is a set to evaluate; none where a server samples. */
async function samplers(
  config: RunConfig,
  { decoder, promptTokens, isShared }: PlanSubject,
  provider: Provider,
): Promise<NamedSampler[]> {
  const { rollout, policy } = config;
  if (rollout.engine.type !== "onnx") return [];
  const shape = (slots: number, longest: number): RunnerShape => {
    const promptLength = roundUp(longest);
    const cacheLength = promptLength + rollout.max_new_tokens;
    return { slots: Math.min(rollout.slots, slots), promptLength, cacheLength };
  };
  const wanted = [
    {
      name: "sampler",
      shape: shape(rollout.prompts_per_step * rollout.samples_per_prompt, promptTokens.train),
    },
  ];
  // The self-teacher is measured by the evaluation's sampler too.
  const isEvaluated = "family" in config.tasks || config.tasks.heldout !== undefined;
  if (isEvaluated || selfTeacherTasks(config, decoder) > 0)
    wanted.push({ name: "evaluation's sampler", shape: shape(EVALUATION_SLOTS, promptTokens.evaluation) });
  const { threads } = policy;
  const sampling = { temperature: rollout.temperature, topP: rollout.top_p, topK: rollout.top_k };
  const named: NamedSampler[] = [];
  for (const { name, shape } of wanted) {
    const isSame = JSON.stringify(shape) === JSON.stringify(wanted[0]!.shape) && named.length > 0;
    if (isSame) continue; // one engine for both
    const options = { config: decoder, shape, provider, ...(threads === undefined ? {} : { threads }) };
    const base = isShared ? { base: givenWeights(new DryRun(), decoder, provider === "cpu") } : {};
    const cost = await samplingCost({ ...options, ...base }, sampling);
    const packed = rollout.base_precision === "int8" ? MOST_PACKED * int8Bytes(decoder) : 0;
    named.push({ name, cost, packed });
  }
  return named;
}

function samplingItems(samplers: readonly NamedSampler[], provider: Provider): PlanItem[] {
  const place = placeOf(provider);
  return samplers.flatMap(({ name, cost, packed }, index) => {
    const item = (what: string, bytes: number, stages: readonly Stage[] = STAGES): PlanItem => ({
      what: `${name}: ${what}`,
      place,
      bytes,
      stages,
    });
    return [
      item("the lanes' copies of the weights", cost.sentBytes),
      item("weights laid out for decoding", cost.laidOutBytes),
      ...(packed > 0 ? [item("int8 matrices, packed for two graphs", packed)] : []),
      item("KV cache", cost.cacheBytes),
      item("graphs and their activations", cost.graphBytes),
      ...(index === 0 ? [item("one call", cost.callBytes, ["sample"])] : []),
    ];
  });
}

/** What is learned, on its way to the server that samples. */
function servedItems({ rollout: { engine } }: RunConfig, { state }: UpdateCost): PlanItem[] {
  if (engine.type === "onnx" || engine.weights.push === "none") return [];
  const what = "handing weights over: a copy in the main thread";
  return [{ what, place: "host", bytes: state.weights ?? 0, stages: ["sample"] }];
}

/** A checkpoint crosses to the main thread, which writes it from there. */
function savingItems({ state }: UpdateCost): PlanItem[] {
  const bytes = Object.values(state).reduce((a, b) => a + b, 0);
  return [{ what: "saving: the state in the main thread", place: "host", bytes, stages: ["save"] }];
}

function diskUse(
  { checkpoint, rollout }: RunConfig,
  { decoder, isShared, stored }: PlanSubject,
  { state }: UpdateCost,
): DiskUse[] {
  const each = Object.values(state).reduce((a, b) => a + b, 0);
  const kept = checkpoint.keep + (checkpoint.keep_best ? 1 : 0);
  const widened =
    isShared && stored.dtype !== "float32"
      ? [{ what: "cache: the weights in float32", bytes: bytesOf(parameterShapes(decoder)) }]
      : [];
  const { engine } = rollout;
  const served =
    engine.type === "onnx" || engine.weights.push === "none"
      ? []
      : [{ what: "weights for the server, 2 kept, one written", bytes: 3 * (state.weights ?? 0) }];
  const quantised =
    rollout.base_precision === "int8"
      ? [{ what: "cache: the matrices in int8", bytes: int8Bytes(decoder) }]
      : [];
  return [
    ...widened,
    ...quantised,
    ...served,
    { what: `checkpoints, ${kept} kept`, bytes: kept * each },
    { what: "one more while it is written", bytes: each },
  ];
}
