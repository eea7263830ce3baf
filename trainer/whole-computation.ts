/** An update in one graph for each microbatch's shape: forward and backward pass together, all activations kept. */
import type { CompiledFunction, Value } from "../tensor/index.js";
import type { Applied, ApplyRequest, Computation, Values, WeightsCopy } from "./computation.js";
import { createGraphs, type GraphOptions, type Graphs, shapeOf } from "./graphs.js";
import { hostStep, type NormOf, stepsOnHost } from "./host-step.js";
import { disposeAll, hostArray } from "./learner-state.js";
import { tokenArrays } from "./loss-inputs.js";
import { hasTeacher, type ObjectiveConfig } from "./objective-config.js";
import type { Microbatch, PaddedRows } from "./pack-batch.js";
import { teacherView } from "./training-loss.js";
import { addMicrobatch, type MetricSums } from "./update-metrics.js";

/** Compiles nothing yet: graphs are compiled when a batch first needs their shape. */
export function wholeComputation(options: GraphOptions): Computation {
  const graphs = createGraphs(options);
  const { objective } = options;
  const norm: NormOf = async (kind, values) => {
    const graph = await graphs.norm(kind);
    const outputs = await graph.run(
      Object.fromEntries(Object.keys(graph.inputs).map((key) => [key, values[key]!])),
    );
    return (outputs.norm as Float32Array)[0]!;
  };
  const isEager = options.compile.provider === "tensorflow"; // whose values stay on its device
  const host = stepsOnHost(options) && !isEager ? hostStep(options, norm) : null;
  return {
    score: (copy, microbatch, values) => scoreUnder(copy, microbatch, values, graphs),
    gradients: (microbatches, values, old, sums) =>
      accumulateGradients(microbatches, values, old, sums, objective, graphs),
    apply: (request) => (host === null ? applyStep(request, graphs) : host.apply(request)),
    lend: (values) => host?.lend(values),
    adopt: (values) => host?.adopt(values),
    tidy: () => {},
    dispose: () => graphs.dispose(),
  };
}

/** Values of one copy of the parameters, named as a graph's `weights/`. */
function asWeights(copy: WeightsCopy, values: Values): Record<string, Value> {
  return Object.fromEntries(
    Object.entries(values).flatMap(([key, value]) =>
      key.startsWith(`${copy}/`) ? [[`weights/${key.slice(copy.length + 1)}`, value]] : [],
    ),
  );
}

async function scoreUnder(
  copy: WeightsCopy,
  microbatch: Microbatch,
  values: Values,
  graphs: Graphs,
): Promise<Float32Array> {
  const graph = await graphs.score(shapeOf(microbatch, microbatch.positions.length));
  const { positions, targets } = microbatch;
  const feeds = { ...asWeights(copy, values), ...rowFeeds(microbatch), positions, targets };
  const { log_probs } = await graph.run(feeds);
  return log_probs as Float32Array;
}

async function accumulateGradients(
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

/** What a graph of some rows is fed of them. */
const rowFeeds = ({ ids, unpadded }: PaddedRows): Record<string, Int32Array> =>
  unpadded === null ? { ids } : { ids, token_at: unpadded.tokenAt, place_of: unpadded.placeOf };

/** Feeds of the arrays of a microbatch that the gradients graph asks for by name. */
export function microbatchFeeds(
  microbatch: Microbatch,
  graph: CompiledFunction,
): Record<string, Float32Array | Int32Array> {
  const { positions, inverse } = microbatch;
  const feeds = { ...rowFeeds(microbatch), positions, inverse, ...tokenArrays(microbatch) };
  return Object.fromEntries(Object.entries(feeds).filter(([name]) => graph.inputs[name] !== undefined));
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
  const { teacher, positions, targets } = microbatch;
  const size = positions.length;
  const view = teacherView(objective, graphs.vocabulary);
  const feeds: Record<string, Value> = {};
  if (view.kind === "topk") {
    const student = await graphs.topk(shapeOf(microbatch, size), view.k);
    const { topk_indices } = await student.run({
      ...asWeights("weights", values),
      ...rowFeeds(microbatch),
      positions,
    });
    feeds.topk_indices = topk_indices!;
  }
  if (teacher === null) {
    // Nobody in this microbatch has a teacher: its weights are 0 and any finite numbers do.
    const { shape } = graph.inputs.teacher_log_probs!;
    const filled = await (await graphs.zeros(shape)).run({ zero: Float32Array.of(0) });
    return { ...feeds, teacher_log_probs: filled.zeros! };
  }
  const compiled = await graphs.teacher(shapeOf(teacher, size), view);
  const { teacher_log_probs } = await compiled.run({
    ...asWeights("teacher", values),
    ...rowFeeds(teacher),
    positions: teacher.positions,
    ...feeds,
    ...(view.kind === "sampled" ? { targets } : {}),
  });
  return { ...feeds, teacher_log_probs: teacher_log_probs! };
}

/** All parameters at once; the old values stay, so that the learner can go back to them. */
async function applyStep({ values, gradients, scalars }: ApplyRequest, graphs: Graphs): Promise<Applied> {
  const apply = await graphs.apply();
  const available: Record<string, Value> = { ...values, ...gradients };
  for (const [name, value] of Object.entries(scalars)) available[name] = Float32Array.of(value);
  const feeds = Object.fromEntries(Object.keys(apply.inputs).map((name) => [name, available[name]!]));
  const { grad_norm, weight_norm, ...changed } = await apply.run(feeds);
  disposeAll(Object.values(gradients));
  return {
    values: { ...values, ...changed },
    gradNorm: (await hostArray(grad_norm!))[0]!,
    weightNorm: (await hostArray(weight_norm!))[0]!,
  };
}
