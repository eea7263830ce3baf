/**
 * Matrix products in half precision. A weight that is stored in float16 is a float32 tensor to tfjs; here every op widens it
 * but those that move elements and the matrix product, which narrows its other operand and widens its result.
 */
import { binary, cast, unary } from "./arithmetic.js";
import type { Graph, Value } from "./graph.js";
import { reduce } from "./kernels/reductions.js";

let isScaling = false;

/**
 * Products recorded within are of gradients: their operand is divided by its largest element before it is narrowed, and
 * the result multiplied by it, since the small numbers of a gradient would be 0 in float16.
 */
export function ofGradients<T>(fn: () => T): T {
  const before = isScaling;
  isScaling = true;
  try {
    return fn();
  } finally {
    isScaling = before;
  }
}

/** A product of two operands of which one or both are float16. @param record - the product of operands of one type */
export function halfProduct(graph: Graph, a: Value, b: Value, record: (a: Value, b: Value) => Value): Value {
  const wide = [a, b].find(({ type }) => type !== "float16");
  if (wide === undefined || !isScaling) {
    return cast(graph, record(cast(graph, a, "float16"), cast(graph, b, "float16")), "float32");
  }
  const everyAxis = wide.shape.map((_, axis) => axis);
  const largest = reduce(graph, "ReduceMax", unary(graph, "Abs", wide), everyAxis, false);
  const scale = binary(graph, "Max", largest, graph.fill(1e-30, [], "float32"));
  const narrowed = cast(graph, binary(graph, "Div", wide, scale), "float16");
  const product = record(a === wide ? narrowed : a, b === wide ? narrowed : b);
  return binary(graph, "Mul", cast(graph, product, "float32"), scale);
}
