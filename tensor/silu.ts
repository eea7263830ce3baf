/**
 * The gradient of SiLU, y = x s with s = sigmoid(x), in four elementwise passes. tfjs's gradients of its two factors add
 * up to dy s + (dy x) (s (1 - s)), which is six; the same number is dy (s + y (1 - s)).
 */
import type { Graph, Value } from "./graph.js";

const factors = (value: Value | null | undefined): readonly [Value, Value] | undefined =>
  value?.node?.op === "Mul" ? (value.node.inputs as readonly [Value, Value]) : undefined;

/** s, when the value is s (1 - s) for the sigmoid s. */
function sigmoidOfSlope(value: Value): Value | undefined {
  const [s, rest] = factors(value) ?? [];
  const [one, again] = rest?.node?.op === "Sub" ? rest.node.inputs : [];
  const isOne = one?.constant && "fill" in one.constant && one.constant.fill === 1;
  return s?.node?.op === "Sigmoid" && isOne && again === s ? s : undefined;
}

/** dy and s, when `direct` is dy s and `through` is (dy x) (s (1 - s)) with s = sigmoid(x). */
function siluTerms(direct: Value, through: Value): { dy: Value; s: Value; x: Value } | undefined {
  const [outer, slope] = factors(through) ?? [];
  const s = slope && sigmoidOfSlope(slope);
  const [dy, other] = factors(direct) ?? [];
  const x = s?.node?.inputs[0];
  const [dyAgain, xAgain] = factors(outer) ?? [];
  return s && x && dy && other === s && dyAgain === dy && xAgain === x ? { dy, s, x } : undefined;
}

/** The sum of a and b, when the two are the parts of SiLU's gradient. */
export function recognizeSiluGradient(
  graph: Graph,
  a: Value,
  b: Value,
  record: (graph: Graph, op: string, a: Value, b: Value) => Value,
): Value | undefined {
  const terms = siluTerms(a, b) ?? siluTerms(b, a);
  if (!terms) return undefined;
  const { dy, s, x } = terms;
  const rest = record(graph, "Sub", graph.fill(1, [], s.type), s);
  return record(
    graph,
    "Mul",
    dy,
    record(graph, "Add", s, record(graph, "Mul", record(graph, "Mul", x, s), rest)),
  );
}
