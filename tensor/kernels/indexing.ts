/** Ops that read or write elements by index. */

import { binary, cast, expand } from "../arithmetic.js";
import { type ElementType, type Graph, sizeOf, type Value } from "../graph.js";
import { reshape } from "../layout.js";
import * as tf from "../tfjs.js";
import { defineKernel, elementType } from "../trace-backend.js";
import { matrixProduct } from "./products.js";
import { reduce } from "./reductions.js";

/** Up to this many rows a segment sum is a product with one-hot rows, which runs at the speed of a matrix product. */
const ONE_HOT_ROWS = 1024;

/** 1 where an id [N] equals the number of a class, else 0: [N, classes]. */
function oneHot(graph: Graph, ids: Value, classes: number, type: ElementType): Value {
  const all = graph.constant(
    Int32Array.from({ length: classes }, (_, i) => i),
    [classes],
    "int32",
  );
  return cast(graph, binary(graph, "Equal", reshape(graph, ids, [...ids.shape, 1]), all, "bool"), type);
}

/**
 * Sums of rows [N, M] that share an id [N]: [rows, M]. ScatterND with add would say it in one node, but ONNX Runtime's
 * CPU kernel adds from several threads without locking and loses updates of repeated ids.
 */
function segmentSum(graph: Graph, updates: Value, ids: Value, rows: number): Value {
  const [count, width] = updates.shape as [number, number];
  const output = { shape: [rows, width], type: updates.type };
  if (updates.type === "float32" && width > 1 && rows <= ONE_HOT_ROWS) {
    return matrixProduct(graph, oneHot(graph, ids, rows, "float32"), updates, true, false);
  }
  const zeros = graph.fill(0, output.shape, updates.type);
  const index = cast(graph, reshape(graph, ids, [count, 1]), "int64");
  if (!graph.dialect.racingScatter) {
    return graph.node("ScatterND", [zeros, index, updates], output, { reduction: { text: "add" } });
  }
  const inputs = [zeros, expand(graph, index, [count, width]), updates];
  return graph.node("ScatterElements", inputs, output, { axis: { int: 0 }, reduction: { text: "add" } });
}

/** Adds updates into zeros of a shape at indices [..., depth]; repeated indices add up. */
function scatterAdd(graph: Graph, indices: Value, updates: Value, shape: readonly number[]): Value {
  const depth = indices.shape.at(-1)!;
  const count = sizeOf(indices.shape) / depth;
  const strides = Array.from({ length: depth }, (_, axis) => sizeOf(shape.slice(axis + 1, depth)));
  const offsets = binary(graph, "Mul", indices, graph.constant(Int32Array.from(strides), [depth], "int32"));
  const ids = reduce(graph, "ReduceSum", reshape(graph, offsets, [count, depth]), [1], false);
  const rows = sizeOf(shape.slice(0, depth));
  const sums = segmentSum(graph, reshape(graph, updates, [count, sizeOf(shape) / rows]), ids, rows);
  return reshape(graph, sums, shape);
}

function gather(graph: Graph, x: Value, indices: Value, axis: number, batchDims: number): Value {
  if (batchDims === 0) {
    const shape = [...x.shape.slice(0, axis), ...indices.shape, ...x.shape.slice(axis + 1)];
    return graph.node("Gather", [x, indices], { shape, type: x.type }, { axis: { int: axis } });
  }
  return gatherInBatches(graph, x, indices, axis, batchDims);
}

/** Rows of a flattened x, each batch offset by its own start: a plain Gather again. */
function gatherInBatches(graph: Graph, x: Value, indices: Value, axis: number, batchDims: number): Value {
  if (axis !== batchDims)
    throw new Error("compile() records tf.gather with batchDims only along axis batchDims");
  const batch = x.shape.slice(0, batchDims);
  const [count, length] = [sizeOf(batch), x.shape[axis]!];
  const rest = x.shape.slice(axis + 1);
  const starts = graph.constant(
    Int32Array.from({ length: count }, (_, i) => i * length),
    [count, 1],
    "int32",
  );
  const flat = binary(graph, "Add", reshape(graph, indices, [count, sizeOf(indices.shape) / count]), starts);
  const rows = gather(graph, reshape(graph, x, [count * length, ...rest]), flat, 0, 0);
  return reshape(graph, rows, [...indices.shape, ...rest]);
}

export function defineIndexingKernels(): void {
  defineKernel(
    "GatherV2",
    (graph, { x, indices }, { axis, batchDims }) => {
      const [at] = tf.util.parseAxisParam(axis as number, [...x!.shape]) as [number];
      const rows = gather(graph, x!, cast(graph, indices!, "int32"), at, Number(batchDims ?? 0));
      return rows.type === "float16" ? cast(graph, rows, "float32") : rows;
    },
    { takesHalf: true },
  );
  defineKernel("GatherNd", (graph, { params, indices }) => {
    const depth = indices!.shape.at(-1)!;
    const shape = [...indices!.shape.slice(0, -1), ...params!.shape.slice(depth)];
    return graph.node("GatherND", [params!, cast(graph, indices!, "int64")], { shape, type: params!.type });
  });
  defineKernel("ScatterNd", (graph, { indices, updates }, { shape }) =>
    scatterAdd(graph, indices!, updates!, [...(shape as number[])]),
  );
  defineKernel("UnsortedSegmentSum", (graph, { x, segmentIds }, { numSegments }) => {
    const [rows, count] = [Number(numSegments), sizeOf(segmentIds!.shape)];
    const rest = x!.shape.slice(segmentIds!.shape.length);
    const updates = reshape(graph, x!, [count, sizeOf(rest)]);
    return reshape(graph, segmentSum(graph, updates, reshape(graph, segmentIds!, [count]), rows), [
      rows,
      ...rest,
    ]);
  });
  defineKernel("OneHot", (graph, { indices }, { depth, dtype, onValue, offValue }) => {
    const type = elementType((dtype ?? "int32") as tf.DataType);
    const isHit = oneHot(graph, indices!, Number(depth), type);
    const [on, off] = [Number(onValue), Number(offValue)];
    const scaled = binary(graph, "Mul", isHit, graph.fill(on - off, [], type));
    return binary(graph, "Add", scaled, graph.fill(off, [], type));
  });
}
