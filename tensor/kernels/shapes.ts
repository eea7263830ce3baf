/** Ops that move elements: reshape, slice, join, repeat; and tensors made from attributes alone. */

import { expand } from "../arithmetic.js";
import { type Graph, sizeOf, type Value } from "../graph.js";
import { concat, reshape, slice, split, transpose } from "../layout.js";
import * as tf from "../tfjs.js";
import { defineKernel, elementType } from "../trace-backend.js";

/** The shape that tfjs's `[-1, n]` means. */
const inferred = (x: Value, shape: readonly number[]): number[] =>
  tf.util.inferFromImplicitShape([...shape], sizeOf(x.shape));

function pad(graph: Graph, x: Value, paddings: readonly (readonly [number, number])[], fill: number): Value {
  if (paddings.every(([before, after]) => before === 0 && after === 0)) return x;
  const shape = x.shape.map((length, axis) => length + paddings[axis]![0] + paddings[axis]![1]);
  const pads = graph.int64([...paddings.map(([before]) => before), ...paddings.map(([, after]) => after)]);
  return graph.node("Pad", [x, pads, graph.fill(fill, [], x.type)], { shape, type: x.type });
}

function defineSlices(): void {
  defineKernel("Slice", (graph, { x }, { begin, size }) => {
    const input = { shape: [...x!.shape] } as unknown as tf.Tensor;
    const [from, lengths] = tf.slice_util.parseSliceParams(input, begin as number[], size as number[]);
    return slice(graph, x!, from as number[], lengths as number[]);
  });
  defineKernel("StridedSlice", (graph, { x }, attributes) => {
    const a = attributes as unknown as tf.StridedSliceAttrs;
    const info = tf.slice_util.sliceInfo(
      [...x!.shape],
      a.begin,
      a.end,
      a.strides,
      a.beginMask,
      a.endMask,
      a.ellipsisMask,
      a.newAxisMask,
      a.shrinkAxisMask,
    );
    const size = tf.slice_util.computeOutShape(info.begin, info.end, info.strides);
    return reshape(graph, slice(graph, x!, info.begin, size, info.strides), info.finalShape);
  });
  defineKernel("Reverse", (graph, { x }, { dims }) => {
    const axes = tf.util.parseAxisParam(dims as number[], [...x!.shape]);
    const begin = x!.shape.map((length, axis) => (axes.includes(axis) ? length - 1 : 0));
    return slice(
      graph,
      x!,
      begin,
      x!.shape,
      x!.shape.map((_, axis) => (axes.includes(axis) ? -1 : 1)),
    );
  });
  defineKernel("PadV2", (graph, { x }, { paddings, constantValue }) =>
    pad(graph, x!, paddings as [number, number][], Number(constantValue)),
  );
}

function defineJoins(): void {
  defineKernel("Concat", (graph, inputs, { axis }) => {
    const parts = Object.values(inputs);
    const [at] = tf.util.parseAxisParam(axis as number, [...parts[0]!.shape]) as [number];
    return concat(graph, parts, at);
  });
  defineKernel("Pack", (graph, inputs, { axis }) => {
    const parts = Object.values(inputs);
    const [at] = tf.util.parseAxisParam(axis as number, [...parts[0]!.shape, 1]) as [number];
    return concat(
      graph,
      parts.map((part) => reshape(graph, part, part.shape.toSpliced(at, 0, 1))),
      at,
    );
  });
  defineKernel("Unpack", (graph, { value }, { axis }) => {
    const [at] = tf.util.parseAxisParam(axis as number, [...value!.shape]) as [number];
    const parts = split(graph, value!, Array<number>(value!.shape[at]!).fill(1), at);
    return parts.map((part) => reshape(graph, part, value!.shape.toSpliced(at, 1)));
  });
  defineKernel("SplitV", (graph, { x }, { numOrSizeSplits, axis }) => {
    const [at] = tf.util.parseAxisParam(axis as number, [...x!.shape]) as [number];
    const like = { shape: [...x!.shape] } as unknown as tf.Tensor;
    return split(graph, x!, tf.backend_util.prepareSplitSize(like, numOrSizeSplits as number[], at), at);
  });
}

function defineConstants(): void {
  defineKernel("Fill", (graph, _, { shape, value, dtype }) => {
    const type = dtype ?? tf.util.inferDtype(value as unknown as number);
    return graph.fill(Number(value), [...(shape as number[])], elementType(type as tf.DataType));
  });
  defineKernel("Range", (graph, _, { start, stop, step, dtype }) => {
    const [from, by] = [Number(start), Number(step)];
    const count = Math.max(0, Math.ceil((Number(stop) - from) / by));
    const numbers = Array.from({ length: count }, (__, i) => from + i * by);
    const isFloat = (dtype ?? "float32") === "float32";
    return graph.constant(
      isFloat ? Float32Array.from(numbers) : Int32Array.from(numbers),
      [count],
      isFloat ? "float32" : "int32",
    );
  });
  defineKernel("LinSpace", (graph, _, { start, stop, num }) => {
    const [from, count] = [Number(start), Number(num)];
    const by = count > 1 ? (Number(stop) - from) / (count - 1) : 0;
    return graph.constant(
      Float32Array.from({ length: count }, (__, i) => from + i * by),
      [count],
      "float32",
    );
  });
}

export function defineShapeKernels(): void {
  defineSlices();
  defineJoins();
  defineConstants();
  defineKernel("Reshape", (graph, { x }, { shape }) => reshape(graph, x!, inferred(x!, shape as number[])), {
    takesHalf: true,
  });
  defineKernel("ExpandDims", (graph, { input }, { dim }) => {
    const rank = input!.shape.length + 1;
    const at = Number(dim) < 0 ? Number(dim) + rank : Number(dim);
    return reshape(graph, input!, input!.shape.toSpliced(at, 0, 1));
  });
  defineKernel("Transpose", (graph, { x }, { perm }) => transpose(graph, x!, perm as number[]), {
    takesHalf: true,
  });
  defineKernel("BroadcastTo", (graph, { x }, { shape }) => expand(graph, x!, shape as number[]));
  defineKernel("Tile", (graph, { x }, { reps }) => {
    const times = reps as number[];
    const shape = x!.shape.map((length, axis) => length * times[axis]!);
    if (x!.shape.every((length, axis) => length === 1 || times[axis] === 1)) return expand(graph, x!, shape);
    return graph.node("Tile", [x!, graph.int64(times)], { shape, type: x!.type });
  });
}
