/**
 * An update of a large policy, layer by layer: a few small functions instead of one graph of everything. The forward pass
 * keeps the input of each layer, and of as many layers as there is room for the matrix products; the backward pass computes
 * all else again. Memory grows with one layer's activations, one chunk's logits, and one hidden state for each layer.
 */
import { collectGarbage, currentDryRun, isFileTensor, type Value } from "../../tensor/index.js";
import type { Computation, Values } from "../computation.js";
import type { GraphOptions } from "../graphs.js";
import { hostStep, stepsOnHost } from "../host-step.js";
import { disposeAll } from "../learner-state.js";
import type { Microbatch } from "../pack-batch.js";
import { isOffloaded } from "../place-state.js";
import { addMicrobatch } from "../update-metrics.js";
import { layerFunctions } from "./functions.js";
import type { GradientSums } from "./gradient-sums.js";
import { lossChunks, scoreChunks } from "./head-chunks.js";
import { type HeadFunctions, headFunctions } from "./head-functions.js";
import { offloadedStep } from "./offloaded-step.js";
import { applyParts, optimizerParts } from "./optimizer-parts.js";
import { policyParts } from "./part-weights.js";
import { backwardPass, forwardPass, type Layers } from "./passes.js";

/** Compiles nothing yet: functions are compiled when a batch first needs their shape. */
export function layeredComputation(options: GraphOptions): Computation {
  const parts = policyParts(options);
  const layers: Layers = { parts, functions: layerFunctions(options, parts) };
  const head = headFunctions(options, layers);
  const steps = optimizerParts(parts);
  const keptBytes = keptBytesOf(options);
  const host = isOffloaded(options)
    ? offloadedStep(options)
    : stepsOnHost(options)
      ? hostStep(options)
      : null;
  const tidy = leavesMuch(options) ? collectGarbage : () => {};
  const computation: Computation = {
    score: async (copy, microbatch, values) => {
      const { last } = await forwardPass(microbatch, copy, values, layers, null);
      const scores = await scoreChunks(microbatch, last, copy, values, head, layers);
      disposeAll([last]);
      return scores;
    },
    gradients: async (microbatches, values, old, sums) => {
      const gradients = isMapped(options) ? await zeroSums(layers) : {};
      for (const microbatch of microbatches) {
        const oldLogProbs = old?.get(microbatch) ?? null;
        const refLogProbs = needsReference(options)
          ? await computation.score("reference", microbatch, values)
          : null;
        const given = { microbatch, values, oldLogProbs, refLogProbs, sums: gradients, keptBytes };
        const outputs = await microbatchGradients(given, head, layers);
        addMicrobatch(sums, microbatch, outputs, oldLogProbs ?? outputs.log_probs!);
        tidy();
      }
      return gradients;
    },
    apply: (request) =>
      host === null ? applyParts(request, steps, options, layers.functions) : host.apply(request),
    lend: (values) => host?.lend(values),
    adopt: (values) => host?.adopt(values),
    tidy,
    dispose: () => layers.functions.dispose(),
  };
  return computation;
}

/**
 * Whether an update's arrays in host memory are so large that V8 must be told of them. Measured (67M parameters, all learned):
 * it let 1.2 GB stand until long after the update.
 */
function leavesMuch({ model, compile }: GraphOptions): boolean {
  if (compile.provider === "webgpu" || currentDryRun() !== undefined) return false;
  const shapes = Object.values({ ...model.shapes, ...model.frozenShapes });
  return shapes.reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0) >= MANY_PARAMETERS;
}

const MANY_PARAMETERS = 16e6;

/** Whether each layer's functions are sessions of their own, bound to its weights: then a function more costs one for each layer. */
const isMapped = ({ frozen = {} }: GraphOptions): boolean => Object.values(frozen).some(isFileTensor);

/**
 * What `recompute: layers` asks for is the least memory. On a mapped policy keeping does not pay: 0.5 billion parameters, an
 * update 93 and 102 s without, 97 and 111 s with it, and up to 1.2 GB more.
 */
function keptBytesOf(options: GraphOptions): number {
  const { optimizer, compile, keptBytes } = options;
  if (compile.provider === "tensorflow") return 0;
  const isKept = optimizer.recompute === "auto" && !isMapped(options);
  return keptBytes ?? (isKept ? optimizer.kept_mb * 2 ** 20 : 0);
}

/** Sums that spare a mapped policy the functions which add to none: of an adapter, they are small. */
async function zeroSums({ parts, functions }: Layers): Promise<GradientSums> {
  const sums: GradientSums = {};
  for (const { parameters } of parts.layers)
    for (const { name, shape, isLearned } of parameters)
      if (isLearned) sums[`gradients/${name}`] = await functions.zeros(shape);
  return sums;
}

const needsReference = ({ objective }: GraphOptions): boolean =>
  "kl_coefficient" in objective && objective.kl_coefficient > 0;

interface Given {
  readonly microbatch: Microbatch;
  readonly values: Values;
  readonly oldLogProbs: Float32Array | null;
  readonly refLogProbs: Float32Array | null;
  readonly sums: GradientSums;
  readonly keptBytes: number;
}

/** Adds one microbatch's gradients to the sums; gives its loss and terms. */
async function microbatchGradients(
  given: Given,
  head: HeadFunctions,
  layers: Layers,
): Promise<Record<string, Float32Array>> {
  const { microbatch, values, sums } = given;
  const { teacher } = microbatch;
  const taught = teacher && (await forwardPass(teacher, "teacher", values, layers, null));
  const teacherLast: Value | null = taught?.last ?? null;
  const { states, last } = await forwardPass(microbatch, "weights", values, layers, given.keptBytes);
  const { dx, outputs } = await lossChunks({ ...given, last, teacherLast }, head, layers);
  disposeAll(teacherLast === null ? [last] : [last, teacherLast]);
  await backwardPass(microbatch, values, { states, last: dx }, sums, layers);
  return outputs;
}
