/** The plan of a run: what it will hold, where, and for how long; before any weight is read. */
import { totalmem } from "node:os";

import { adapterShapes, int8Bytes, parameterCount, parameterShapes } from "../../policy/index.js";
import type { SamplingProvider } from "../../rollout/index.js";
import type { Provider } from "../../tensor/index.js";
import { UNCOLLECTED_BYTES } from "../../trainer/index.js";
import type { RunConfig } from "../config.js";
import { samplerFor } from "../devices.js";
import { highest, type Place, type PlanItem, peaksOf, placeOf, STAGES, type Stage } from "./items.js";
import { handedItems, samplers, samplingItems } from "./samplers.js";
import type { Speed } from "./speed.js";
import { ownBytes, type PlanSubject, planSubject } from "./subject.js";
import { type PlannedTime, plannedTime } from "./time.js";
import { type UpdateCost, updateCost } from "./update.js";

/**
 * Node.js, V8, ONNX Runtime and tfjs before any policy is there. Measured: a run of a policy of 20,000 parameters takes 112 to
 * 122 MB, of which 13 are planned for the policy.
 */
export const RUNTIME_BYTES = 110 * 2 ** 20;

export interface PlanOptions {
  /** Where the policy learns; the run file says what samples for it. */
  readonly provider: Provider;
  /** Memory of the place where the policy learns; default: this machine's, on cpu. */
  readonly memoryBytes?: number;
  /** Of the place where it learns; null: no times are told. */
  readonly speed?: Speed | null;
  /** Of the place where it is sampled from; default: the same. */
  readonly samplerSpeed?: Speed | null;
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
  /** null: a server samples. */
  readonly sampler: SamplingProvider | null;
  readonly sequences: { readonly prompt: number; readonly completion: number; readonly areMeasured: boolean };
  readonly items: readonly PlanItem[];
  readonly disk: readonly DiskUse[];
  /** Bytes of each stage by place; device is null where all is on the host. */
  readonly peaks: { readonly host: Record<Stage, number>; readonly device: Record<Stage, number> | null };
  /** The place that the next three are about: one that does not suffice, else that where the policy learns. */
  readonly place: Place;
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
  const sampler = samplerFor(options.provider, config.rollout);
  const sampling = sampler === null ? [] : await samplers(config, subject, sampler);
  const items = [
    ...stateItems(subject, update, options.provider, sampler),
    ...updateItems(update, options.provider),
    ...crossingItems(subject, update),
    ...(sampler === null ? [] : samplingItems(sampling, sampler)),
    ...handedItems(config, subject, update, options.provider),
    ...savingItems(update),
  ];
  const devices = new Set([options.provider, sampler ?? options.provider].map(placeOf));
  const peaks = {
    host: peaksOf(items, "host"),
    device: devices.has("device") ? peaksOf(items, "device") : null,
  };
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
    sampler,
    sequences: {
      prompt: subject.promptTokens.train,
      completion: config.rollout.max_new_tokens,
      areMeasured: subject.areMeasured,
    },
    items,
    disk: diskUse(config, subject, update),
    peaks,
    ...verdictOf(peaks, placeOf(options.provider), devices, options.memoryBytes),
    largestBytes: Math.max(
      ...(placeOf(options.provider) === "device" || peaks.device === null ? [update.stage.largestBytes] : []),
      ...(sampler !== null && (placeOf(sampler) === "device" || peaks.device === null)
        ? sampling.flatMap(({ cost }) => [cost.prefill.largestBytes, cost.step.largestBytes])
        : []),
    ),
    time:
      options.speed == null || options.samplerSpeed === null
        ? null
        : plannedTime(
            config,
            sampling[0]?.cost ?? null,
            update,
            { speed: options.speed, provider: options.provider },
            { speed: options.samplerSpeed ?? options.speed, provider: sampler ?? options.provider },
          ),
  };
}

/** Whether it fits, and where it is decided. @param devices - the places that compute */
function verdictOf(
  peaks: Plan["peaks"],
  learner: Place,
  devices: ReadonlySet<Place>,
  told: number | undefined,
): Pick<Plan, "place" | "memoryBytes" | "peakBytes" | "fits"> {
  const memoryOf = (place: Place): number | null => {
    if (place === learner && told !== undefined) return told;
    return place === "host" ? ownMemory() : null; // a GPU does not say
  };
  const peakOf = (place: Place): number => highest(peaks[place] ?? peaks.host).bytes;
  const full = [...devices].find((place) => peakOf(place) > (memoryOf(place) ?? Number.POSITIVE_INFINITY));
  const place = full ?? learner;
  const memoryBytes = memoryOf(place);
  const fits = full !== undefined ? false : memoryBytes === null ? null : true;
  return { place, memoryBytes, peakBytes: peakOf(place), fits };
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

const KINDS: Readonly<Record<string, string>> = {
  moment1: "optimizer: mean of the gradients",
  moment2: "optimizer: mean of their squares",
  momentum: "optimizer: momentum",
  teacher: "self-teacher",
  reference: "reference of the KL term",
};

function stateItems(
  { decoder, isShared }: PlanSubject,
  { state, isOffloaded }: UpdateCost,
  provider: Provider,
  sampler: SamplingProvider | null,
): PlanItem[] {
  const item = (what: string, bytes: number, place = placeOf(provider)): PlanItem => ({
    what,
    place,
    bytes,
    stages: STAGES,
  });
  const isOne = isShared && sampler === provider;
  const weights = item(isOne ? "weights, one copy for sampler and learner" : "weights", ownBytes(decoder));
  const runtime: PlanItem = {
    what: "Node.js, ONNX Runtime, tfjs",
    place: "host",
    bytes: RUNTIME_BYTES,
    stages: STAGES,
  };
  const adapter = decoder.lora === undefined ? [] : [item("adapter", state.weights ?? 0)];
  const rest = Object.entries(state).flatMap(([kind, bytes]) =>
    kind === "weights" ? [] : [item(KINDS[kind] ?? kind, bytes, isOffloaded ? "host" : undefined)],
  );
  return [runtime, weights, ...adapter, ...rest];
}

function updateItems({ stage, graphBytes, state, isOffloaded }: UpdateCost, provider: Provider): PlanItem[] {
  const isElsewhere = (kind: string): boolean => (isOffloaded ? kind !== "weights" : kind === "reference");
  const held = Object.entries(state).reduce(
    (sum, [kind, bytes]) => (isElsewhere(kind) ? sum : sum + bytes),
    0,
  );
  const beside = Math.max(0, stage.peakBytes - graphBytes - held);
  const place = placeOf(provider);
  return [
    { what: "update: graphs and their activations", place, bytes: graphBytes, stages: STAGES },
    { what: "update: gradients and new state", place, bytes: beside, stages: ["update"] },
  ];
}

/** Offloaded: gradients and weights of a parameter at a time, what of them waits for the collector, and a part of the teacher. */
function crossingItems({ decoder }: PlanSubject, { isOffloaded, state }: UpdateCost): PlanItem[] {
  if (!isOffloaded) return [];
  const shapes = decoder.lora === undefined ? parameterShapes(decoder) : adapterShapes(decoder);
  const largest = Math.max(...Object.values(shapes).map((shape) => bytesOf({ shape })));
  const item = (what: string, place: Place, bytes: number): PlanItem => ({
    what: `update: ${what}`,
    place,
    bytes,
    stages: ["update"],
  });
  return [
    item("gradients and weights on their way", "host", 2 * largest + UNCOLLECTED_BYTES),
    ...(state.teacher === undefined ? [] : [item("self-teacher, on its way", "device", largest)]),
  ];
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
