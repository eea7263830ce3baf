/** The forward passes and the backward pass of one optimizer step, microbatch by microbatch. */
import type { CompiledFunction, Value } from "../tensor/index.js";
import { type Graphs, microbatchFeeds, shapeOf } from "./graphs.js";
import { disposeAll } from "./learner-state.js";
import { hasTeacher, type ObjectiveConfig } from "./objective-config.js";
import type { Microbatch } from "./pack-batch.js";
import { teacherView } from "./training-loss.js";
import { addMicrobatch, type MetricSums } from "./update-metrics.js";

type Values = Readonly<Record<string, Value>>;

/** Values of one copy of the parameters ("teacher", "reference"), named as a graph's `weights/`; what is frozen beside them. */
function asWeights(copy: string, values: Values): Record<string, Value> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([key, value]) => {
      if (key.startsWith("frozen/")) return [[key, value]];
      return key.startsWith(`${copy}/`) ? [[`weights/${key.slice(copy.length + 1)}`, value]] : [];
    }),
  );
}

async function scoreUnder(
  copy: string,
  microbatch: Microbatch,
  values: Values,
  graphs: Graphs,
): Promise<Float32Array> {
  const graph = await graphs.score(shapeOf(microbatch, microbatch.positions.length));
  const { ids, positions, targets } = microbatch;
  const { log_probs } = await graph.run({ ...asWeights(copy, values), ids, positions, targets });
  return log_probs as Float32Array;
}

/** Log-probabilities [R] of every microbatch's tokens under the current weights. */
export async function oldLogProbs(
  microbatches: readonly Microbatch[],
  values: Values,
  graphs: Graphs,
): Promise<Map<Microbatch, Float32Array>> {
  const scores = new Map<Microbatch, Float32Array>();
  for (const microbatch of microbatches)
    scores.set(microbatch, await scoreUnder("weights", microbatch, values, graphs));
  return scores;
}

/**
 * Sum of the gradients of all microbatches; each carries its share of the whole batch's denominators.
 * @param old - log-probs before the first optimizer step of the batch; null when this is it
 * @param sums - added to
 * @returns `gradients/` by parameter
 */
export async function accumulateGradients(
  microbatches: readonly Microbatch[],
  values: Values,
  old: ReadonlyMap<Microbatch, Float32Array> | null,
  sums: MetricSums,
  objective: ObjectiveConfig,
  graphs: Graphs,
): Promise<Record<string, Value>> {
  let total: Record<string, Value> | null = null;
  for (const microbatch of microbatches) {
    const shape = shapeOf(microbatch, microbatch.positions.length);
    const graph = await graphs.gradients(shape, old === null);
    const extra: Record<string, Value> = {};
    if (old !== null && graph.inputs.old_log_probs) extra.old_log_probs = old.get(microbatch)!;
    if (graph.inputs.ref_log_probs)
      extra.ref_log_probs = await scoreUnder("reference", microbatch, values, graphs);
    Object.assign(extra, await teacherFeeds(microbatch, values, objective, graphs, graph));
    const feeds = { ...asWeights("weights", values), ...microbatchFeeds(microbatch, graph), ...extra };
    const outputs = await graph.run(feeds);
    disposeAll(Object.values(extra));
    const arrays = outputs as Record<string, Float32Array>;
    addMicrobatch(sums, microbatch, arrays, old?.get(microbatch) ?? arrays.log_probs!);
    const gradients = Object.fromEntries(
      Object.entries(outputs).filter(([key]) => key.startsWith("gradients/")),
    );
    total = total === null ? gradients : await sumOf(total, gradients, graphs);
  }
  return total!;
}

async function sumOf(
  total: Record<string, Value>,
  gradients: Record<string, Value>,
  graphs: Graphs,
): Promise<Record<string, Value>> {
  const sums = Object.fromEntries(Object.entries(total).map(([key, value]) => [`sum/${key}`, value]));
  const added = await (await graphs.accumulate()).run({ ...sums, ...gradients });
  disposeAll([...Object.values(total), ...Object.values(gradients)]);
  return added;
}

/** The teacher's log-probabilities at the student's tokens, by the average weights on the teacher's prompts. */
async function teacherFeeds(
  microbatch: Microbatch,
  values: Values,
  objective: ObjectiveConfig,
  graphs: Graphs,
  graph: CompiledFunction,
): Promise<Record<string, Value>> {
  if (!hasTeacher(objective)) return {};
  const { teacher, ids, positions, targets } = microbatch;
  const size = positions.length;
  const view = teacherView(objective, graphs.vocabulary);
  const feeds: Record<string, Value> = {};
  if (view.kind === "topk") {
    const student = await graphs.topk(shapeOf(microbatch, size), view.k);
    const { topk_indices } = await student.run({ ...asWeights("weights", values), ids, positions });
    feeds.topk_indices = topk_indices!;
  }
  if (teacher === null) {
    // Nobody in this microbatch has a teacher: its weights are 0 and any finite numbers do.
    const elements = graph.inputs.teacher_log_probs!.shape.reduce((a, b) => a * b, 1);
    return { ...feeds, teacher_log_probs: new Float32Array(elements) };
  }
  const compiled = await graphs.teacher(shapeOf(teacher, size), view);
  const { teacher_log_probs } = await compiled.run({
    ...asWeights("teacher", values),
    ids: teacher.ids,
    positions: teacher.positions,
    ...feeds,
    ...(view.kind === "sampled" ? { targets } : {}),
  });
  return { ...feeds, teacher_log_probs: teacher_log_probs! };
}
