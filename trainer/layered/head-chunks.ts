/**
 * Last norm, logits, teacher and loss over chunks of C response tokens, with their gradient: logits of all response
 * tokens at once, [R, V], would be the largest tensor of a policy with a large vocabulary.
 */
import type * as tf from "@tensorflow/tfjs-core";
import { type TensorMap, type TensorSpec, type Value, valueAndGradients } from "../../tensor/index.js";
import type { Values, WeightsCopy } from "../computation.js";
import { type GraphOptions, under } from "../graphs.js";
import { disposeAll } from "../learner-state.js";
import { tokenLogProbs, topIndices } from "../log-probs.js";
import { lossSpecs, tokenArrays, viewed } from "../loss-inputs.js";
import { hasTeacher } from "../objective-config.js";
import type { Microbatch } from "../pack-batch.js";
import { atTemperature } from "../trainable-model.js";
import { type TeacherView, teacherView, tokenTerms, weightedLoss } from "../training-loss.js";
import { addedTo, type PartFunction } from "./functions.js";
import { type GradientSums, sumFeeds, takeSums } from "./gradient-sums.js";
import { partSpecs, weightFeeds, weightSpecs } from "./part-weights.js";
import type { Layers } from "./passes.js";

/** Bytes of one chunk's logits, about. A chunk of few tokens reads the head's matrix for little. */
const CHUNK_BYTES = 64 * 2 ** 20;
const [LEAST_CHUNK, LARGEST_CHUNK] = [32, 1024];

/** Positions of a chunk: a power of two. */
export function chunkSize(vocabulary: number): number {
  const fitting = 2 ** Math.round(Math.log2(CHUNK_BYTES / 4 / vocabulary));
  return Math.min(LARGEST_CHUNK, Math.max(LEAST_CHUNK, fitting));
}

const teacherPrefix = "teacher";

/** The functions of one chunk length. */
export interface HeadFunctions {
  readonly chunk: number;
  readonly width: number;
  /** `h` [C, D], `targets` [C] -> `log_probs` [C]. */
  score(): Promise<PartFunction>;
  /** `h`, for a teacher `teacher_h`, the inputs of the loss, `sum/` -> `loss`, terms [C], `dh`, `gradients/`. */
  loss(isOnPolicy: boolean): Promise<PartFunction>;
}

export function headFunctions(
  options: GraphOptions,
  { parts, functions }: Layers,
  chunk: number,
): HeadFunctions {
  const { model, objective, temperature } = options;
  const { width } = model.parts;
  const view = hasTeacher(objective) ? teacherView(objective, model.vocabulary) : null;
  const hidden: TensorSpec = { shape: [chunk, width], dtype: "float32" };
  const logits = (weights: TensorMap, h: tf.Tensor): tf.Tensor2D =>
    atTemperature(model.parts.head(weights, h as tf.Tensor2D), temperature);
  const weightsOf = (inputs: TensorMap, copy: string): TensorMap => ({
    ...under("frozen", inputs),
    ...under(copy, inputs),
  });
  /** What the loss reads of the teacher: no gradient flows through it. */
  const teacherInputs = (inputs: TensorMap, of: TeacherView): TensorMap => {
    const student = of.kind === "topk" ? logits(weightsOf(inputs, "weights"), inputs.h!) : null;
    const indices = student === null ? {} : { topk_indices: topIndices(student, (of as { k: number }).k) };
    const teacher = logits(weightsOf(inputs, teacherPrefix), inputs.teacher_h!);
    return { ...indices, teacher_log_probs: viewed(teacher, { ...inputs, ...indices }, of) };
  };
  const lossOf = (inputs: TensorMap): Record<string, tf.Tensor> => {
    const given = view === null ? inputs : { ...inputs, ...teacherInputs(inputs, view) };
    const along = ({ h, ...learned }: TensorMap) => {
      const terms = tokenTerms(logits({ ...under("frozen", inputs), ...learned }, h!), given, objective);
      return { loss: weightedLoss(terms, given), extras: { ...terms } };
    };
    const { value, gradients, extras } = valueAndGradients(along, {
      ...under("weights", inputs),
      h: inputs.h!,
    });
    const { h: dh, ...learned } = gradients;
    return { loss: value, ...extras, dh: dh!, ...addedTo(inputs, learned) };
  };
  return {
    chunk,
    width,
    score: () =>
      functions.part({
        name: `score ${chunk}`,
        fn: (inputs) => ({
          log_probs: tokenLogProbs(
            logits(weightsOf(inputs, "weights"), inputs.h!),
            inputs.targets as tf.Tensor1D,
          ),
        }),
        inputs: { ...weightSpecs(parts.head), h: hidden, targets: { shape: [chunk], dtype: "int32" } },
        weights: [parts.head],
        toHost: ["log_probs"],
      }),
    loss: (isOnPolicy) =>
      functions.part({
        name: `loss ${chunk} ${isOnPolicy}`,
        fn: lossOf,
        inputs: {
          ...weightSpecs(parts.head),
          ...partSpecs("sum", parts.head),
          ...lossSpecs(chunk, objective, isOnPolicy),
          h: hidden,
          ...(view === null ? {} : { teacher_h: hidden, ...partSpecs(teacherPrefix, parts.head) }),
        },
        weights: [parts.head],
        toHost: ["loss", "log_probs", "entropy", "policy", "is_clipped", "distill", "imitate", "kl"],
      }),
  };
}

/** Chunk by chunk, where its tokens begin and how many there are: the last may be short, and is padded. */
function* chunksOf(tokens: number, chunk: number): Generator<{ start: number; count: number }> {
  for (let start = 0; start < tokens; start += chunk) yield { start, count: Math.min(chunk, tokens - start) };
}

function padded<T extends Float32Array | Int32Array>(
  array: T,
  start: number,
  count: number,
  chunk: number,
): T {
  if (count === chunk) return array.subarray(start, start + chunk) as T;
  const whole = new (array.constructor as new (length: number) => T)(chunk);
  whole.set(array.subarray(start, start + count));
  return whole;
}

/** Log-probabilities [R] of a microbatch's tokens, 0 at its padding. @param last - hidden states of its rows [N, D] */
export async function scoreChunks(
  microbatch: Microbatch,
  last: Value,
  copy: WeightsCopy,
  values: Values,
  head: HeadFunctions,
  { parts, functions }: Layers,
): Promise<Float32Array> {
  const { positions, targets, tokens, rows, length } = microbatch;
  const [gather, score] = [await functions.gather(rows * length, head.chunk), await head.score()];
  const scores = new Float32Array(positions.length);
  const weights = weightFeeds(parts.head, copy, values);
  for (const { start, count } of chunksOf(tokens, head.chunk)) {
    const own = <T extends Float32Array | Int32Array>(array: T): T => padded(array, start, count, head.chunk);
    const { h } = await gather.run(0, { x: last, positions: own(positions) });
    const { log_probs } = await score.run(0, { ...weights, h: h!, targets: own(targets) });
    disposeAll([h!]);
    scores.set((log_probs as Float32Array).subarray(0, count), start);
  }
  return scores;
}

export interface LossRequest {
  readonly microbatch: Microbatch;
  /** Hidden states of the rows [N, D], and of the teacher's [N', D] where it has any. */
  readonly last: Value;
  readonly teacherLast: Value | null;
  readonly values: Values;
  /** [R], where the objective asks for them. */
  readonly oldLogProbs: Float32Array | null;
  readonly refLogProbs: Float32Array | null;
  /** Added to: what is learned of the head. */
  readonly sums: GradientSums;
}

/**
 * The loss of a microbatch and its gradient at the last layer's output.
 * @returns dx [N, D]; `loss` [1] and the terms [R] as `addMicrobatch` takes them
 */
export async function lossChunks(
  request: LossRequest,
  head: HeadFunctions,
  layers: Layers,
): Promise<{ dx: Value; outputs: Record<string, Float32Array> }> {
  const { microbatch } = request;
  const { chunk } = head;
  const count = microbatch.rows * microbatch.length;
  const scatter = await layers.functions.scatter(count, chunk);
  let dx = await layers.functions.zeros([count, head.width]);
  const outputs: Record<string, Float32Array> = { loss: new Float32Array(1) };
  let loss = 0;
  for (const part of chunksOf(microbatch.tokens, chunk)) {
    const { dh, ...terms } = await lossOfChunk(request, part, head, layers);
    for (const [name, term] of Object.entries(terms as Record<string, Float32Array>)) {
      if (name === "loss") loss += term[0]!;
      else {
        outputs[name] ??= new Float32Array(microbatch.positions.length);
        outputs[name].set(term.subarray(0, part.count), part.start);
      }
    }
    const inverse = microbatch.inverse.map((at) =>
      at >= part.start && at < part.start + part.count ? at - part.start : chunk,
    );
    const added = await scatter.run(0, { dx, dh: dh!, inverse });
    disposeAll([dx, dh!]);
    dx = added.dx!;
  }
  outputs.loss![0] = loss;
  return { dx, outputs };
}

/** Terms, loss and `dh` of one chunk; the head's gradients go into the sums. */
async function lossOfChunk(
  { microbatch, last, teacherLast, values, oldLogProbs, refLogProbs, sums }: LossRequest,
  { start, count }: { start: number; count: number },
  head: HeadFunctions,
  { parts, functions }: Layers,
): Promise<Record<string, Value>> {
  const { chunk } = head;
  const { rows, length, positions, teacher } = microbatch;
  const own = <T extends Float32Array | Int32Array>(array: T): T => padded(array, start, count, chunk);
  const gather = await functions.gather(rows * length, chunk);
  const { h } = await gather.run(0, { x: last, positions: own(positions) });
  const arrays: Record<string, Float32Array | Int32Array> = tokenArrays(microbatch);
  if (oldLogProbs !== null) arrays.old_log_probs = oldLogProbs;
  if (refLogProbs !== null) arrays.ref_log_probs = refLogProbs;
  const feeds: Record<string, Value> = {
    ...weightFeeds(parts.head, "weights", values),
    ...sumFeeds(parts.head, sums),
    h: h!,
  };
  for (const [name, array] of Object.entries(arrays)) feeds[name] = own(array);
  const disposable = [h!];
  const loss = await head.loss(oldLogProbs === null);
  if (teacher !== null && teacherLast !== null) {
    const from = await functions.gather(teacher.rows * teacher.length, chunk);
    const gathered = await from.run(0, { x: teacherLast, positions: own(teacher.positions) });
    feeds.teacher_h = gathered.h!;
    disposable.push(gathered.h!);
  } else feeds.teacher_h = h!; // nobody here has a teacher: its weights are 0 and any finite numbers do
  for (const [name, value] of Object.entries(weightFeeds(parts.head, "teacher", values)))
    if (name.startsWith("weights/")) feeds[name.replace("weights", teacherPrefix)] = value;
  const outputs = await loss.run(
    0,
    Object.fromEntries(Object.entries(feeds).filter(([name]) => loss.inputs[name])),
  );
  takeSums(parts.head, sums, outputs);
  disposeAll(disposable);
  return Object.fromEntries(Object.entries(outputs).filter(([name]) => !name.startsWith("gradients/")));
}
