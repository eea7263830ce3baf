/** Nodes that move elements without changing them: reshape, transpose, slice, concatenate; simplified as recorded. */
import { expand } from "./arithmetic.js";
import { type Graph, sameShape, type Value } from "./graph.js";

/** Keeps the order of elements, changes the shape. */
export function reshape(graph: Graph, x: Value, shape: readonly number[]): Value {
  if (sameShape(x.shape, shape)) return x;
  if (x.constant && "fill" in x.constant) return graph.fill(x.constant.fill, shape, x.type);
  if (x.constant) return graph.constant(x.constant.data, shape, x.type);
  if (x.node?.op === "Reshape") return reshape(graph, x.node.inputs[0]!, shape);
  const kept = keepReducedAxes(graph, x, shape);
  if (kept) return kept;
  const expanded = reshapeExpanded(graph, x, shape);
  if (expanded) return expanded;
  return graph.node("Reshape", [x, graph.int64(shape)], { shape, type: x.type });
}

/** A reduction whose dropped axes are put back as 1 by this reshape keeps them in the first place. */
function keepReducedAxes(graph: Graph, x: Value, shape: readonly number[]): Value | undefined {
  const node = x.node;
  if (!node?.op.startsWith("Reduce")) return undefined;
  const [source, axes] = node.inputs;
  const reduced = new Set(readInt64(axes!));
  const kept = source!.shape.map((length, axis) => (reduced.has(axis) ? 1 : length));
  if (!sameShape(kept, shape)) return undefined;
  return graph.node(node.op, node.inputs, { shape, type: x.type }, { keepdims: { int: 1 } });
}

/** Moves a reshape that only inserts or drops axes of length 1 before the broadcast it follows. */
function reshapeExpanded(graph: Graph, x: Value, shape: readonly number[]): Value | undefined {
  if (x.node?.op !== "Expand") return undefined;
  const source = x.node.inputs[0]!;
  const full = x.shape.map((_, axis) => source.shape[axis - x.shape.length + source.shape.length] ?? 1);
  const lengths = full.filter((_, axis) => x.shape[axis] !== 1);
  if (
    !sameShape(
      x.shape.filter((n) => n !== 1),
      shape.filter((n) => n !== 1),
    )
  )
    return undefined;
  const small = shape.map((length) => (length === 1 ? 1 : lengths.shift()!));
  return expand(graph, reshape(graph, source, small), shape);
}

/** Numbers of an int64 constant. */
export function readInt64(value: Value): number[] {
  if (!value.constant || !("data" in value.constant)) throw new Error("not an int64 constant");
  return Array.from(value.constant.data as BigInt64Array, Number);
}

/** Permutes axes: axis i of the result is axis perm[i] of x. */
export function transpose(graph: Graph, x: Value, perm: readonly number[]): Value {
  if (perm.every((axis, i) => axis === i)) return x;
  const shape = perm.map((axis) => x.shape[axis]!);
  if (x.constant && "fill" in x.constant) return graph.fill(x.constant.fill, shape, x.type);
  const long = perm.filter((axis) => x.shape[axis] !== 1);
  if (long.every((axis, i) => i === 0 || axis > long[i - 1]!)) return reshape(graph, x, shape);
  if (x.node?.op === "Transpose") {
    const first = (x.node.attributes.perm as { ints: readonly number[] }).ints;
    return transpose(
      graph,
      x.node.inputs[0]!,
      perm.map((axis) => first[axis]!),
    );
  }
  return graph.node("Transpose", [x], { shape, type: x.type }, { perm: { ints: perm } });
}

/** Elements begin, begin + stride, ... along each axis; `size` of them. A negative stride walks backwards. */
export function slice(
  graph: Graph,
  x: Value,
  begin: readonly number[],
  size: readonly number[],
  strides: readonly number[] = begin.map(() => 1),
): Value {
  const axes = x.shape
    .map((_, axis) => axis)
    .filter((axis) => size[axis] !== x.shape[axis] || strides[axis] !== 1);
  if (axes.length === 0) return x;
  if (x.constant && "fill" in x.constant) return graph.fill(x.constant.fill, size, x.type);
  const ends = axes.map((axis) => {
    const end = begin[axis]! + size[axis]! * strides[axis]!;
    return end < 0 ? -(2 ** 31) : end;
  });
  const steps = axes.map((axis) => strides[axis]!);
  const inputs = [x, graph.int64(axes.map((axis) => begin[axis]!)), graph.int64(ends), graph.int64(axes)];
  if (steps.some((step) => step !== 1)) inputs.push(graph.int64(steps));
  return graph.node("Slice", inputs, { shape: size, type: x.type });
}

/** Joins along an axis; empty parts are left out. */
export function concat(graph: Graph, parts: readonly Value[], axis: number): Value {
  const filled = parts.filter((part) => part.shape[axis] !== 0);
  if (filled.length <= 1) return filled[0] ?? parts[0]!;
  const shape = [...filled[0]!.shape];
  shape[axis] = filled.reduce((sum, part) => sum + part.shape[axis]!, 0);
  return graph.node("Concat", filled, { shape, type: filled[0]!.type }, { axis: { int: axis } });
}

/** Cuts along an axis into parts of given lengths. */
export function split(graph: Graph, x: Value, lengths: readonly number[], axis: number): readonly Value[] {
  if (lengths.length === 1) return [x];
  const outputs = lengths.map((length) => ({
    shape: x.shape.map((n, i) => (i === axis ? length : n)),
    type: x.type,
  }));
  return graph.nodes("Split", [x, graph.int64(lengths)], outputs, { axis: { int: axis } });
}
