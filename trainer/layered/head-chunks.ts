/**
 * The head over chunks of response tokens: logits of all of them at once, [R, V], would be the largest tensor of a policy
 * with a large vocabulary.
 */
import type { Value } from "../../tensor/index.js";
import type { Values, WeightsCopy } from "../computation.js";
import { disposeAll } from "../learner-state.js";
import { tokenArrays } from "../loss-inputs.js";
import type { Microbatch, PaddedRows } from "../pack-batch.js";
import { addToSums, type GradientSums, hasSums, sumFeeds, takeSums } from "./gradient-sums.js";
import type { HeadFunctions } from "./head-functions.js";
import { weightFeeds } from "./part-weights.js";
import type { Layers } from "./passes.js";

/** Where a chunk begins among the R positions, and how many it has. */
interface Chunk {
  readonly start: number;
  readonly count: number;
}

const chunksOf = (positions: number, most: number): Chunk[] =>
  Array.from({ length: Math.ceil(positions / most) }, (_, index) => ({
    start: index * most,
    count: Math.min(most, positions - index * most),
  }));

/** The hidden states [C, D] of a chunk, from those of all rows [N, D]. */
async function hiddenOf(
  { start, count }: Chunk,
  rows: Pick<PaddedRows, "rows" | "length"> & { positions: Int32Array },
  last: Value,
  { functions }: Layers,
): Promise<Value> {
  const gather = await functions.gather(rows.rows * rows.length, count);
  const { h } = await gather.run(0, { x: last, positions: rows.positions.subarray(start, start + count) });
  return h!;
}

/** Log-probabilities [R] of a microbatch's tokens. @param last - hidden states of its rows [N, D] */
export async function scoreChunks(
  microbatch: Microbatch,
  last: Value,
  copy: WeightsCopy,
  values: Values,
  head: HeadFunctions,
  layers: Layers,
): Promise<Float32Array> {
  const { targets } = microbatch;
  const scores = new Float32Array(targets.length);
  const weights = weightFeeds(layers.parts.head, copy, values);
  for (const chunk of chunksOf(targets.length, head.chunk)) {
    const { start, count } = chunk;
    const h = await hiddenOf(chunk, microbatch, last, layers);
    const score = await head.score(count);
    const { log_probs } = await score.run(0, {
      ...weights,
      h,
      targets: targets.subarray(start, start + count),
    });
    disposeAll([h]);
    scores.set(log_probs as Float32Array, start);
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
  const { rows, length, positions, inverse } = request.microbatch;
  const { functions } = layers;
  const zeros = await functions.zeros([rows * length, head.width]);
  let dx = zeros;
  let loss = 0;
  const outputs: Record<string, Float32Array> = {};
  for (const { start, count } of chunksOf(positions.length, head.chunk)) {
    const { dh, ...terms } = await lossOfChunk(request, { start, count }, head, layers);
    for (const [name, term] of Object.entries(terms as Record<string, Float32Array>)) {
      if (name === "loss") loss += term[0]!;
      else {
        outputs[name] ??= new Float32Array(positions.length);
        outputs[name].set(term, start);
      }
    }
    const within = inverse.map((at) => (at >= start && at < start + count ? at - start : count));
    const scatter = await functions.scatter(rows * length, count);
    const added = await scatter.run(0, { dx, dh: dh!, inverse: within });
    disposeAll(dx === zeros ? [dh!] : [dx, dh!]);
    dx = added.dx!;
  }
  return { dx, outputs: { ...outputs, loss: Float32Array.of(loss) } };
}

/** `loss`, terms [C] and `dh` of one chunk; the head's gradients go into the sums. */
async function lossOfChunk(
  request: LossRequest,
  chunk: Chunk,
  head: HeadFunctions,
  layers: Layers,
): Promise<Record<string, Value>> {
  const { microbatch, last, teacherLast, values, sums } = request;
  const { teacher } = microbatch;
  const part = layers.parts.head;
  const h = await hiddenOf(chunk, microbatch, last, layers);
  const taught =
    teacher !== null && teacherLast !== null ? await hiddenOf(chunk, teacher, teacherLast, layers) : null;
  const teacherWeights = Object.entries(weightFeeds(part, "teacher", values)).map(
    ([name, value]) => [name.replace("weights/", "teacher/"), value] as const,
  );
  const hasOwn = hasSums(part, sums);
  const adds = hasOwn && !head.sumsOnHost;
  const available: Record<string, Value> = {
    ...Object.fromEntries(teacherWeights),
    ...weightFeeds(part, "weights", values),
    ...(adds ? sumFeeds(part, sums) : {}),
    ...chunkArrays(request, chunk),
    h,
    teacher_h: taught ?? h, // where nobody has a teacher its weights are 0, and any finite numbers do
  };
  const loss = await head.loss(chunk.count, request.oldLogProbs === null, adds);
  const wanted = Object.keys(loss.inputs).filter((name) => available[name] !== undefined); // the rest is bound
  const outputs = await loss.run(0, Object.fromEntries(wanted.map((name) => [name, available[name]!])));
  if (hasOwn && !adds) await addToSums(part, sums, outputs);
  else takeSums(part, sums, outputs);
  disposeAll(taught === null ? [h] : [h, taught]);
  return Object.fromEntries(Object.entries(outputs).filter(([name]) => !name.startsWith("gradients/")));
}

/** The arrays of a chunk's tokens, by input of the loss. */
function chunkArrays(
  { microbatch, oldLogProbs, refLogProbs }: LossRequest,
  { start, count }: Chunk,
): Record<string, Value> {
  const arrays = Object.entries({
    ...tokenArrays(microbatch),
    ...(oldLogProbs === null ? {} : { old_log_probs: oldLogProbs }),
    ...(refLogProbs === null ? {} : { ref_log_probs: refLogProbs }),
  });
  return Object.fromEntries(arrays.map(([name, array]) => [name, array.subarray(start, start + count)]));
}
