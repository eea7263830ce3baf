/** Ops that read or write elements by index. */
import * as tf from "@tensorflow/tfjs-core";
import { binary, cast } from "../arithmetic.js";
import { type Graph, sizeOf, type Value } from "../graph.js";
import { reshape } from "../layout.js";
import { defineKernel, elementType } from "../trace-backend.js";

/** Adds updates into zeros of a shape at indices [..., depth]; repeated indices add up. */
export function scatterAdd(graph: Graph, indices: Value, updates: Value, shape: readonly number[]): Value {
  const zeros = graph.fill(0, shape, updates.type);
  const inputs = [zeros, cast(graph, indices, "int64"), updates];
  return graph.node("ScatterND", inputs, { shape, type: updates.type }, { reduction: { text: "add" } });
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
  defineKernel("GatherV2", (graph, { x, indices }, { axis, batchDims }) => {
    const [at] = tf.util.parseAxisParam(axis as number, [...x!.shape]) as [number];
    return gather(graph, x!, cast(graph, indices!, "int32"), at, Number(batchDims ?? 0));
  });
  defineKernel("GatherNd", (graph, { params, indices }) => {
    const depth = indices!.shape.at(-1)!;
    const shape = [...indices!.shape.slice(0, -1), ...params!.shape.slice(depth)];
    return graph.node("GatherND", [params!, cast(graph, indices!, "int64")], { shape, type: params!.type });
  });
  defineKernel("ScatterNd", (graph, { indices, updates }, { shape }) =>
    scatterAdd(graph, indices!, updates!, [...(shape as number[])]),
  );
  defineKernel("UnsortedSegmentSum", (graph, { x, segmentIds }, { numSegments }) => {
    const rank = segmentIds!.shape.length;
    const shape = [Number(numSegments), ...x!.shape.slice(rank)];
    return scatterAdd(graph, reshape(graph, segmentIds!, [...segmentIds!.shape, 1]), x!, shape);
  });
  defineKernel("OneHot", (graph, { indices }, { depth, dtype, onValue, offValue }) => {
    const type = elementType((dtype ?? "int32") as tf.DataType);
    const classes = graph.constant(
      Int32Array.from({ length: Number(depth) }, (_, i) => i),
      [Number(depth)],
      "int32",
    );
    const wanted = reshape(graph, indices!, [...indices!.shape, 1]);
    const isHit = cast(graph, binary(graph, "Equal", wanted, classes, "bool"), type);
    const [on, off] = [Number(onValue), Number(offValue)];
    const scaled = binary(graph, "Mul", isHit, graph.fill(on - off, [], type));
    return binary(graph, "Add", scaled, graph.fill(off, [], type));
  });
}
