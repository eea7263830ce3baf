/** Reductions, softmax, and the order of elements along an axis. */

import { asNumber, cast } from "../arithmetic.js";
import { type ElementType, type Graph, sizeOf, type Value } from "../graph.js";
import * as tf from "../tfjs.js";
import { defineKernel } from "../trace-backend.js";

/** Sum, mean, max, min or product over axes. */
export function reduce(
  graph: Graph,
  op: string,
  x: Value,
  axes: readonly number[],
  keepDims: boolean,
): Value {
  const shape = x.shape.flatMap((length, axis) => (axes.includes(axis) ? (keepDims ? [1] : []) : [length]));
  if (axes.length === 0) return x;
  const fill = x.constant && "fill" in x.constant ? x.constant.fill : undefined;
  if (fill !== undefined && op !== "ReduceProd") {
    const count = op === "ReduceSum" ? sizeOf(axes.map((axis) => x.shape[axis]!)) : 1;
    return graph.fill(Math.fround(fill * count), shape, x.type);
  }
  return graph.node(
    op,
    [x, graph.int64(axes)],
    { shape, type: x.type },
    { keepdims: { int: keepDims ? 1 : 0 } },
  );
}

const REDUCTIONS: Record<string, { op: string; axes: "axis" | "reductionIndices" }> = {
  Sum: { op: "ReduceSum", axes: "axis" },
  Mean: { op: "ReduceMean", axes: "axis" },
  Prod: { op: "ReduceProd", axes: "axis" },
  Max: { op: "ReduceMax", axes: "reductionIndices" },
  Min: { op: "ReduceMin", axes: "axis" },
  // true is 1: all of them is the smallest, any of them the largest
  All: { op: "ReduceMin", axes: "axis" },
  Any: { op: "ReduceMax", axes: "axis" },
};

function defineReductions(): void {
  for (const [name, { op, axes: key }] of Object.entries(REDUCTIONS)) {
    defineKernel(name, (graph, { x }, attributes) => {
      const isLogic = name === "All" || name === "Any";
      const given = attributes[key] as number | number[] | null | undefined;
      const axes = tf.util.parseAxisParam(given ?? (null as unknown as number[]), [...x!.shape]);
      const numbers = op === "ReduceMean" ? cast(graph, x!, "float32") : asNumber(graph, x!);
      const result = reduce(graph, op, numbers, axes, Boolean(attributes.keepDims));
      return isLogic ? cast(graph, result, "bool") : result;
    });
  }
}

/** An op along one axis that keeps the shape. */
function alongAxis(graph: Graph, op: string, x: Value, axis: number): Value {
  const at = axis < 0 ? axis + x.shape.length : axis;
  return graph.node(op, [x], { shape: x.shape, type: x.type }, { axis: { int: at } });
}

function argument(graph: Graph, op: string, x: Value, axis: number | number[]): Value {
  const [at] = tf.util.parseAxisParam(axis, [...x.shape]) as [number];
  const output = { shape: x.shape.filter((_, i) => i !== at), type: "int64" as ElementType };
  const found = graph.node(op, [asNumber(graph, x)], output, { axis: { int: at }, keepdims: { int: 0 } });
  return cast(graph, found, "int32");
}

export function defineReductionKernels(): void {
  defineReductions();
  defineKernel("Softmax", (graph, { logits }, { dim }) => alongAxis(graph, "Softmax", logits!, Number(dim)));
  defineKernel("LogSoftmax", (graph, { logits }, { axis }) =>
    alongAxis(graph, "LogSoftmax", logits!, Number(axis)),
  );
  defineKernel("ArgMax", (graph, { x }, { axis }) => argument(graph, "ArgMax", x!, axis as number));
  defineKernel("ArgMin", (graph, { x }, { axis }) => argument(graph, "ArgMin", x!, axis as number));
  defineKernel("TopK", (graph, { x }, { k }) => {
    const shape = [...x!.shape.slice(0, -1), Number(k)];
    const outputs = [
      { shape, type: x!.type },
      { shape, type: "int64" as ElementType },
    ];
    const [values, indices] = graph.nodes("TopK", [x!, graph.int64([Number(k)])], outputs, {
      axis: { int: -1 },
    });
    return [values!, cast(graph, indices!, "int32")];
  });
  for (const [name, onnx] of [["Cumsum", "CumSum"]] as const) {
    defineKernel(name, (graph, { x }, { axis, exclusive, reverse }) => {
      const at = graph.constant(Int32Array.of(Number(axis)), [], "int32");
      const flags = {
        exclusive: { int: Number(Boolean(exclusive)) },
        reverse: { int: Number(Boolean(reverse)) },
      };
      return graph.node(onnx, [asNumber(graph, x!), at], { shape: x!.shape, type: x!.type }, flags);
    });
  }
}
