/**
 * RMSNorm as one node. tfjs records x / sqrt(mean(x^2) + epsilon) in six, and as many passes over memory; ONNX Runtime's
 * SimplifiedLayerNormalization does it in one, and gives 1 / sqrt(...) as well, which the gradient needs.
 */
import type { Graph, Value } from "./graph.js";

/** The node behind a value, when it is of this op. */
const inputsOf = (value: Value | null | undefined, op: string): readonly (Value | null)[] | undefined =>
  value?.node?.op === op ? value.node.inputs : undefined;

/** epsilon, when the value is sqrt(mean(x^2 over the last axis) + epsilon). */
function epsilonOf(root: Value | null | undefined, x: Value): number | undefined {
  const [shifted] = inputsOf(root, "Sqrt") ?? [];
  const terms = inputsOf(shifted, "Add");
  const mean = terms?.find((term) => term?.node?.op === "ReduceMean");
  const epsilon = terms?.find((term) => term !== mean)?.constant;
  const [square, axes] = inputsOf(mean, "ReduceMean") ?? [];
  const factors = inputsOf(square, "Mul");
  const axis =
    axes?.constant && "data" in axes.constant && axes.constant.data.length === 1
      ? axes.constant.data[0]
      : null;
  const isOverRows = Number(axis) === x.shape.length - 1 && root?.shape.length === x.shape.length;
  if (!factors?.every((factor) => factor === x) || !isOverRows) return undefined;
  return epsilon && "fill" in epsilon ? epsilon.fill : undefined;
}

/** The norm's node: x over its root mean square times a weight; and 1 / the root. */
function normalize(graph: Graph, x: Value, weight: Value, epsilon: number): readonly Value[] {
  const outputs = [
    { shape: x.shape, type: x.type },
    { shape: [...x.shape.slice(0, -1), 1], type: x.type },
  ];
  return graph.nodes("SimplifiedLayerNormalization", [x, weight], outputs, {
    axis: { int: -1 },
    epsilon: { float: epsilon },
    stash_type: { int: 1 },
  });
}

/**
 * The norm that an elementwise op of a and b completes, if it does.
 * @param op - Div of x by the root, Mul of x by its reciprocal, or Mul of a norm by its weight
 */
export function recognizeNorm(graph: Graph, op: string, a: Value, b: Value): Value | undefined {
  if (a.type !== "float32" || a.shape.length < 2) return undefined;
  const width = a.shape.at(-1)!;
  const [reciprocal] = op === "Mul" ? (inputsOf(b, "Reciprocal") ?? []) : [];
  const root = op === "Div" ? b : reciprocal;
  const epsilon = root ? epsilonOf(root, a) : undefined;
  if (epsilon !== undefined) {
    const [normed, inverse] = normalize(graph, a, graph.fill(1, [width], a.type), epsilon);
    if (reciprocal && graph.dialect.inverseOfNorm) graph.replace(b, inverse!);
    return normed;
  }
  const norm = inputsOf(a, "SimplifiedLayerNormalization");
  const isPlain = norm?.[1]?.constant && "fill" in norm[1].constant && norm[1].constant.fill === 1;
  if (op !== "Mul" || !isPlain || a !== a.node!.outputs[0] || b.shape.length !== 1 || b.shape[0] !== width)
    return undefined;
  return normalize(graph, norm[0]!, b, (a.node!.attributes.epsilon as { float: number }).float)[0];
}
