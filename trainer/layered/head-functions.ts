/** Last norm, logits, teacher and loss of a chunk of C response tokens, with their gradient, as compiled functions. */

import { type TensorMap, type TensorSpec, valueAndGradients } from "../../tensor/index.js";
import type * as tf from "../../tensor/tfjs.js";
import { type GraphOptions, under } from "../graphs.js";
import { tokenLogProbs, topIndices } from "../log-probs.js";
import { lossSpecs, viewed } from "../loss-inputs.js";
import { hasTeacher } from "../objective-config.js";
import { atTemperature } from "../trainable-model.js";
import { type TeacherView, teacherView, tokenTerms, weightedLoss } from "../training-loss.js";
import { addedTo } from "./functions.js";
import { sumsOnHost } from "./host-sums.js";
import type { PartFunction } from "./part-function.js";
import { partSpecs, weightSpecs } from "./part-weights.js";
import type { Layers } from "./passes.js";

/** Bytes of one chunk's logits, about. A chunk of few tokens reads the head's matrix for little. */
const CHUNK_BYTES = 64 * 2 ** 20;
const [LEAST_CHUNK, LARGEST_CHUNK] = [32, 1024];

/** Response tokens of a chunk: a power of two. */
export function chunkSize(vocabulary: number): number {
  const fitting = 2 ** Math.round(Math.log2(CHUNK_BYTES / 4 / vocabulary));
  return Math.min(LARGEST_CHUNK, Math.max(LEAST_CHUNK, fitting));
}

/** Functions of chunks of any length; the last chunk of a microbatch is short. */
export interface HeadFunctions {
  /** The longest. */
  readonly chunk: number;
  readonly width: number;
  /** Whether `adds` can wait: a chunk's gradients, by one pass in place, cost less than a sum more of that size. */
  readonly sumsOnHost: boolean;
  /** `h` [C, D], `targets` [C] -> `log_probs` [C]. */
  score(count: number): Promise<PartFunction>;
  /**
   * `h`, for a teacher `teacher_h`, the inputs of the loss -> `loss`, terms [C], `dh`, `gradients/`; `adds`: takes `sum/`
   * and gives the sums with this chunk's added.
   */
  loss(count: number, isOnPolicy: boolean, adds: boolean): Promise<PartFunction>;
}

export function headFunctions(options: GraphOptions, { parts, functions }: Layers): HeadFunctions {
  const { model, objective } = options;
  const { width } = model.parts;
  const hidden = (count: number): TensorSpec => ({ shape: [count, width], dtype: "float32" });
  return {
    chunk: options.chunk ?? chunkSize(model.vocabulary),
    width,
    sumsOnHost: sumsOnHost(options),
    score: (count) =>
      functions.part({
        name: `score ${count}`,
        fn: (inputs) => ({
          log_probs: tokenLogProbs(logitsOf(inputs, "weights", "h", options), inputs.targets as tf.Tensor1D),
        }),
        inputs: {
          ...weightSpecs(parts.head),
          h: hidden(count),
          targets: { shape: [count], dtype: "int32" },
        },
        weights: [parts.head],
        toHost: ["log_probs"],
      }),
    loss: (count, isOnPolicy, adds) =>
      functions.part({
        name: `loss ${count} ${isOnPolicy} ${adds}`,
        fn: (inputs) => lossAndGradients(inputs, options),
        inputs: {
          ...weightSpecs(parts.head),
          ...(adds ? partSpecs("sum", parts.head) : {}),
          ...lossSpecs(count, objective, isOnPolicy),
          h: hidden(count),
          ...(hasTeacher(objective) ? { teacher_h: hidden(count), ...partSpecs("teacher", parts.head) } : {}),
        },
        weights: [parts.head],
        toHost: ["loss", "log_probs", "entropy", "policy", "is_clipped", "distill", "imitate", "kl"],
      }),
  };
}

/** Logits at the sampling temperature [C, V] of hidden states, by one copy of the head. */
function logitsOf(
  inputs: TensorMap,
  copy: "weights" | "teacher",
  hidden: "h" | "teacher_h",
  { model, temperature }: GraphOptions,
): tf.Tensor2D {
  const weights = { ...under("frozen", inputs), ...under(copy, inputs) };
  return atTemperature(model.parts.head(weights, inputs[hidden] as tf.Tensor2D), temperature);
}

function lossAndGradients(inputs: TensorMap, options: GraphOptions): Record<string, tf.Tensor> {
  const { model, objective } = options;
  const view = hasTeacher(objective) ? teacherView(objective, model.vocabulary) : null;
  const given = view === null ? inputs : { ...inputs, ...teacherInputs(inputs, view, options) };
  const along = ({ h, ...weights }: TensorMap) => {
    const learned = Object.fromEntries(
      Object.entries(weights).map(([name, weight]) => [`weights/${name}`, weight]),
    );
    const logits = logitsOf({ ...inputs, ...learned, h: h! }, "weights", "h", options);
    const terms = tokenTerms(logits, given, objective);
    return { loss: weightedLoss(terms, given), extras: { ...terms } };
  };
  const { value, gradients, extras } = valueAndGradients(along, {
    ...under("weights", inputs),
    h: inputs.h!,
  });
  const { h: dh, ...learned } = gradients;
  return { loss: value, ...extras, dh: dh!, ...addedTo(inputs, learned) };
}

/** What the loss reads of the teacher. The policy's own logits, where its likeliest tokens are asked for, are recorded once. */
function teacherInputs(inputs: TensorMap, view: TeacherView, options: GraphOptions): TensorMap {
  const indices =
    view.kind === "topk"
      ? { topk_indices: topIndices(logitsOf(inputs, "weights", "h", options), view.k) }
      : {};
  const teacher = logitsOf(inputs, "teacher", "teacher_h", options);
  return { ...indices, teacher_log_probs: viewed(teacher, { ...inputs, ...indices }, view) };
}
