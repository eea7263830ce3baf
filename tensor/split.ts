/** One function cut in two: what can be computed first, and what has to wait for inputs that come later. */
import { type Provider, type RecordedFunction, record, recordedFunction } from "./compile.js";
import type { TracedFunction } from "./differentiate.js";
import { neededNodes, type OpNode, type Recording, type Value } from "./graph.js";
import { productDepth } from "./graph-cost.js";
import type { TensorSpec } from "./values.js";

/** `first`, then `second`, which takes the outputs `kept/` of the first among its inputs. */
export interface SplitFunction {
  readonly first: RecordedFunction;
  readonly second: RecordedFunction;
  readonly kept: Readonly<Record<string, TensorSpec>>;
}

/**
 * A number that so many multiply-adds or fewer went into is computed again rather than kept: keeping one means writing it,
 * copying it out, copying it in. Attention's scores are such numbers, and they are the most.
 */
const CHEAP_DEPTH = 128;

/**
 * Records a function that is computed in two calls. What the second needs of the first is kept where it is a matrix
 * product's; all else is computed again from that.
 * @param late - names of the inputs that the first call is not fed
 */
export function recordSplit(
  fn: TracedFunction,
  specs: Readonly<Record<string, TensorSpec>>,
  late: ReadonlySet<string>,
  provider: Exclude<Provider, "tensorflow">,
): SplitFunction {
  const whole = record(fn, specs, provider);
  const waiting = waitingNodes(whole, late);
  const waits = (value: Value): boolean =>
    value.node !== undefined ? waiting.has(value.node.outputs[0]!) : late.has(value.input ?? "");
  const kept = keptValues(whole, waits);
  const name = (index: number): string => `kept/${index}`;
  const keptSpecs = Object.fromEntries(
    kept.map(({ shape }, i) => [name(i), { shape, dtype: "float32" as const }]),
  );
  const isLate = (key: string): boolean => waits(whole.graph.current(whole.outputs[key]!));
  const early = Object.fromEntries(Object.entries(specs).filter(([key]) => !late.has(key)));
  const first: Recording = {
    ...whole,
    inputs: pick(whole.inputs, (key) => !late.has(key)),
    outputs: {
      ...pick(whole.outputs, (key) => !isLate(key)),
      ...Object.fromEntries(kept.map((value, i) => [name(i), value])),
    },
  };
  // The same function gives the same nodes in the same order, here in a graph of their own in which kept values are inputs.
  const again = record(fn, specs, provider);
  const inputs: Record<string, Value> = { ...again.inputs };
  for (const [i, { shape, id }] of kept.entries()) {
    const value = valueById(again, id);
    inputs[name(i)] = again.graph.input(name(i), shape, "float32");
    again.graph.replace(value, inputs[name(i)]!);
  }
  const second: Recording = { ...again, inputs, outputs: pick(again.outputs, isLate) };
  return {
    first: recordedFunction(first, early, provider),
    second: recordedFunction(second, { ...specs, ...keptSpecs }, provider),
    kept: keptSpecs,
  };
}

const pick = <T>(record: Readonly<Record<string, T>>, wanted: (key: string) => boolean): Record<string, T> =>
  Object.fromEntries(Object.entries(record).filter(([key]) => wanted(key)));

/** The first outputs of all nodes that depend on a late input. */
function waitingNodes({ graph, outputs }: Recording, late: ReadonlySet<string>): Set<Value> {
  const waiting = new Set<Value>();
  for (const { inputs, outputs: made } of neededNodes(graph, Object.values(outputs)))
    if (inputs.some((value) => value && (late.has(value.input ?? "") || waiting.has(firstOf(value)))))
      waiting.add(made[0]!);
  return waiting;
}

const firstOf = (value: Value): Value => value.node?.outputs[0] ?? value;

/** From the outputs that wait, back through all nodes, as far as the first product that does not wait. */
function keptValues({ graph, outputs }: Recording, waits: (value: Value) => boolean): Value[] {
  const kept = new Set<Value>();
  const seen = new Set<OpNode>();
  const open = Object.values(outputs)
    .map((value) => graph.current(value))
    .filter(waits);
  for (let value = open.pop(); value !== undefined; value = open.pop()) {
    const { node } = value;
    if (node === undefined) continue;
    if (!waits(value) && value.type === "float32" && productDepth(node) > CHEAP_DEPTH) {
      kept.add(value);
      continue;
    }
    if (seen.has(node)) continue;
    seen.add(node);
    for (const input of node.inputs) if (input) open.push(graph.current(input));
  }
  return [...kept].sort((a, b) => a.id - b.id);
}

function valueById({ graph, outputs }: Recording, id: number): Value {
  for (const { outputs: made } of neededNodes(graph, Object.values(outputs)))
    for (const value of made) if (value.id === id) return value;
  throw new Error("the function records other nodes the second time");
}
