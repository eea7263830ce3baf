import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import {
  type CheckpointStore,
  type Content,
  float32Values,
  heldTensor,
  readFloat32,
  readSafetensors,
  safetensorsContent,
  type TensorStream,
} from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";
import {
  adapterFiles,
  adapterShapes,
  heldWeights,
  policyFiles,
  readAdapter,
  savedTypes,
  weightPlaces,
} from "../policy/index.js";
import { collectGarbage } from "../tensor/index.js";
import type { LearnerState } from "../trainer/index.js";
import type { OpenRun } from "./open-run.js";
import type { Marks, RunDirectory } from "./run-directory.js";

/** The small part of a checkpoint: what is not a tensor. Draws need no state: they are functions of seed and step. */
interface RunState {
  readonly step: number;
  readonly updates: number;
  readonly optimizerSteps: number;
  readonly marks: Marks;
}

const STATE = "state.json";
/** Before the names of the weights among the learner's tensors. */
const WEIGHTS = "weights/";
// Not beside the policy: vLLM loads every .safetensors file of the folder that it is given.
const TENSORS = "learner.safetensors";

/**
 * Saves a step: the policy as a folder that opens in other tools, and everything needed to go on with the same numbers:
 * moments, EMA teacher, reference, counters and the lengths of the journals. Where the folder rounds the weights to 16 bits,
 * the float32 weights stand with the moments.
 */
export async function saveCheckpoint(
  run: OpenRun,
  store: CheckpointStore,
  directory: RunDirectory,
  step: number,
): Promise<void> {
  const bytes = await saveState(run, store, directory, step);
  if (bytes >= MUCH) collectGarbage();
}

/** A copy of the state in this thread, which does little else that would make V8 look: it stood beside the next update. */
const MUCH = 2 ** 28;

/** @returns bytes of the state */
async function saveState(
  run: OpenRun,
  store: CheckpointStore,
  directory: RunDirectory,
  step: number,
): Promise<number> {
  const learner = await run.step.policy.exportState();
  const weights: Record<string, Float32Array> = {};
  const rest = new Map<string, TensorStream>();
  const isRounded = roundedWeights(run);
  for (const [key, { shape, data }] of Object.entries(learner.tensors)) {
    const name = key.startsWith(WEIGHTS) ? key.slice(WEIGHTS.length) : null;
    if (name !== null) weights[name] = data;
    if (name === null || isRounded(name)) rest.set(key, heldTensor(data, shape));
  }
  const state: RunState = {
    step,
    updates: learner.step,
    optimizerSteps: learner.optimizerSteps,
    marks: directory.marks(),
  };
  const policy = policyFilesOf(run, weights);
  const files = {
    ...Object.fromEntries(Object.entries(policy).map(([name, content]) => [`policy/${name}`, content])),
    [TENSORS]: safetensorsContent(rest),
    [STATE]: `${JSON.stringify(state)}\n`,
  };
  // Only of these very weights: an older measurement would make a checkpoint look better than it is.
  const { measured } = run;
  await store.save(step, files, measured?.step === step ? { heldout_pass_rate: measured.rate } : {});
  return Object.values(learner.tensors).reduce((sum, { data }) => sum + data.byteLength, 0);
}

/** Whether the policy's folder holds a weight in another type than float32. */
function roundedWeights({ config, decoder, policyFolder }: OpenRun): (name: string) => boolean {
  if (decoder.lora !== undefined) return () => false;
  const types = savedTypes(decoder, policyFolder, config.checkpoint.dtype);
  return (name) => types.get(name) !== "F32";
}

/** The policy as a folder; of a run that learns an adapter, only that, as PEFT and vLLM load it. */
function policyFilesOf(
  { config, decoder, policyFolder }: OpenRun,
  weights: Readonly<Record<string, Float32Array>>,
): Record<string, Content> {
  const { lora } = decoder;
  return lora === undefined
    ? policyFiles(decoder, heldWeights(weights, decoder), policyFolder, config.checkpoint.dtype)
    : adapterFiles({ ...decoder, lora }, weights, resolve(policyFolder));
}

/** What `policyFilesOf` saved in float32, by parameter. */
function savedWeights({ decoder }: OpenRun, folder: string): LearnerState["tensors"] {
  if (decoder.lora === undefined)
    return Object.fromEntries(
      Object.entries(weightPlaces(folder, decoder)).flatMap(([name, place]) =>
        place.dtype === "F32" ? [[name, { shape: place.shape, data: readFloat32(place) }]] : [],
      ),
    );
  const shapes = adapterShapes(decoder);
  const adapter = readAdapter(folder, decoder);
  return Object.fromEntries(
    Object.entries(adapter).map(([name, data]) => [name, { shape: shapes[name]!, data }]),
  );
}

const readTensors = (file: string): LearnerState["tensors"] =>
  Object.fromEntries(
    [...readSafetensors(file).tensors].map(([name, tensor]) => [
      name,
      { shape: tensor.shape, data: float32Values(tensor) },
    ]),
  );

/**
 * Puts the newest undamaged checkpoint back and cuts the journals to it.
 * @returns its step, or null where none was saved yet
 * @throws ConfigError where every one is damaged: beginning anew would cut away the rows of the whole run
 */
export async function restoreCheckpoint(
  run: OpenRun,
  store: CheckpointStore,
  directory: RunDirectory,
): Promise<number | null> {
  const checkpoint = await store.latest();
  if (checkpoint === null) {
    if ((await store.steps()).length === 0) return null;
    throw new ConfigError({
      at: store.folder,
      need: "an undamaged checkpoint to go on from",
      fix: "Without --resume the run starts anew, and this one is kept beside it.",
    });
  }
  const state = JSON.parse(readFileSync(join(checkpoint.folder, STATE), "utf8")) as RunState;
  const weights = savedWeights(run, join(checkpoint.folder, "policy"));
  const tensors = {
    ...Object.fromEntries(Object.entries(weights).map(([name, tensor]) => [`${WEIGHTS}${name}`, tensor])),
    ...readTensors(join(checkpoint.folder, TENSORS)),
  };
  const learner: LearnerState = { step: state.updates, optimizerSteps: state.optimizerSteps, tensors };
  await run.step.policy.importState(learner);
  directory.cutBack(state.marks);
  return state.step;
}
