/**
 * Gradients registered in place of tfjs's own: where tfjs forgets that an operand was broadcast, has none at all, or
 * takes a detour that shows in the training step. They hold for every backend, eager ones too.
 */

import { ofGradients } from "./half-precision.js";
import * as tf from "./tfjs.js";

type Gradient = (
  dy: tf.Tensor,
  saved: readonly tf.Tensor[],
  attributes: tf.NamedAttrMap,
) => Record<string, () => tf.Tensor>;

function replaceGradient(
  kernelName: string,
  inputsToSave: string[],
  gradient: Gradient,
  outputs = false,
): void {
  if (tf.getGradient(kernelName)) tf.unregisterGradient(kernelName);
  tf.registerGradient({
    kernelName,
    inputsToSave,
    ...(outputs ? { outputsToSave: [true] } : {}),
    gradFunc: (dy, saved, attributes) => gradient(dy as tf.Tensor, saved, attributes),
  });
}

/** Sums over the axes along which an operand of the given shape was broadcast. */
export function sumToShape(x: tf.Tensor, shape: readonly number[]): tf.Tensor {
  const axes = tf.broadcast_util.getReductionAxes([...shape], x.shape);
  return tf.reshape(axes.length > 0 ? tf.sum(x, axes) : x, [...shape]);
}

/** tfjs wants float32 gradients, of integers and truth values too. */
const noGradient = (x: tf.Tensor) => (): tf.Tensor => tf.zeros(x.shape);

const asFloat = (condition: tf.Tensor): tf.Tensor => tf.cast(condition, "float32");

/** Of a larger or smaller of two: to the one that was taken, to the first where both are equal. */
const extremum =
  (isFirst: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor): Gradient =>
  (dy, [a, b]) => ({
    a: () => sumToShape(tf.mul(dy, asFloat(isFirst(a!, b!))), a!.shape),
    b: () => sumToShape(tf.mul(dy, asFloat(tf.logicalNot(isFirst(a!, b!)))), b!.shape),
  });

/** Of op(a) op(b): both are products again; summed where a batch axis was broadcast. */
const matMul: Gradient = (dy, [a, b], attributes) => {
  const { transposeA, transposeB } = attributes as unknown as tf.BatchMatMulAttrs;
  const product = (x: tf.Tensor, y: tf.Tensor, flipX: boolean, flipY: boolean): tf.Tensor =>
    ofGradients(() => tf.matMul(x, y, flipX, flipY));
  const byRows = (x: tf.Tensor): tf.Tensor => tf.reshape(x, [-1, x.shape.at(-1)!]);
  return {
    a: () =>
      sumToShape(
        transposeA ? product(b!, dy, transposeB, true) : product(dy, b!, false, !transposeB),
        a!.shape,
      ),
    b: () => {
      // One matrix for every batch: its gradient is one long product, not the sum of a product per batch.
      const [left, outer] = b!.rank === 2 && a!.rank > 2 && !transposeA ? [byRows(a!), byRows(dy)] : [a!, dy];
      return sumToShape(
        transposeB ? product(outer, left, true, transposeA) : product(left, outer, !transposeA, false),
        b!.shape,
      );
    },
  };
};

/** Of rows taken by index: added back at their index. One flat segment sum, for every axis and batchDims. */
const gather: Gradient = (dy, [x, indices], attributes) => {
  const { axis, batchDims = 0 } = attributes as unknown as tf.GatherV2Attrs;
  const at = tf.util.parseAxisParam(axis, x!.shape)[0]!;
  const outer = x!.shape.slice(0, at);
  const [count, length] = [tf.util.sizeFromShape(outer), x!.shape[at]!];
  const rest = x!.shape.slice(at + 1);
  const batches = tf.util.sizeFromShape(x!.shape.slice(0, batchDims));
  const taken = indices!.size / batches;
  // One number picked from each row: no two picks meet, so no sum is needed.
  if (taken === 1 && batches === count && rest.length === 0) {
    const picked = (): tf.Tensor =>
      tf.oneHot(tf.reshape(tf.cast(indices!, "int32"), outer), length, 1, 0, "float32");
    return {
      x: () => tf.mul(tf.reshape(dy, [...outer, 1]), picked()),
      indices: noGradient(indices!),
    };
  }
  return {
    x: () => {
      // [batches, outer axes after the batch, indices of one batch], the position in a flattened [outer, length]
      const starts = tf.reshape(tf.range(0, count * length, length, "int32"), [batches, count / batches, 1]);
      const flat = tf.add(starts, tf.reshape(tf.cast(indices!, "int32"), [batches, 1, taken]));
      const values = tf.reshape(dy, [count * taken, ...rest]);
      const ids = tf.reshape(flat, [count * taken]) as tf.Tensor1D;
      return tf.reshape(tf.unsortedSegmentSum(values, ids, count * length), x!.shape);
    },
    indices: noGradient(indices!),
  };
};

/** Of a repeated tensor: the sum over its copies. */
const tile: Gradient = (dy, [x], attributes) => {
  const { reps } = attributes as unknown as tf.TileAttrs;
  const interleaved = x!.shape.flatMap((length, axis) => [reps[axis]!, length]);
  const copies = x!.shape.map((_, axis) => 2 * axis);
  return { x: () => tf.reshape(tf.sum(tf.reshape(dy, interleaved), copies), x!.shape) };
};

/** Of the k largest along the last axis: to where they stood. */
const topK = (
  dy: tf.Tensor | tf.Tensor[],
  [x, indices]: readonly tf.Tensor[],
): Record<string, () => tf.Tensor> => ({
  x: () => {
    const [values, taken] = [(dy as tf.Tensor[])[0]!, indices!.shape.at(-1)!];
    const length = x!.shape.at(-1)!;
    const rows = x!.size / length;
    const starts = tf.reshape(tf.range(0, x!.size, length, "int32"), [rows, 1]);
    const flat = tf.reshape(tf.add(starts, tf.reshape(indices!, [rows, taken])), [-1]) as tf.Tensor1D;
    return tf.reshape(tf.unsortedSegmentSum(tf.reshape(values, [-1]), flat, x!.size), x!.shape);
  },
});

/** Of a sum or mean over axes: repeated along them. tfjs makes an array of ones for it, which may be of all logits' size. */
const repeated =
  (isMean: boolean): Gradient =>
  (dy, [x], attributes) => ({
    x: () => {
      const { axis } = attributes as unknown as tf.SumAttrs;
      const axes = tf.util.parseAxisParam(axis, x!.shape);
      const kept = x!.shape.map((length, i) => (axes.includes(i) ? 1 : length));
      const all = tf.mul(tf.reshape(dy, kept), tf.fill(x!.shape, 1));
      const count = axes.reduce((product, i) => product * x!.shape[i]!, 1);
      return isMean ? tf.div(all, count) : all;
    },
  });

const COMPARISONS = [
  "Equal",
  "NotEqual",
  "Greater",
  "GreaterEqual",
  "Less",
  "LessEqual",
  "LogicalAnd",
  "LogicalOr",
];

/** Registers all of them; again does no harm. */
export function registerGradients(): void {
  // tfjs stops with an error at a condition that depends on a parameter; its derivative is 0.
  for (const name of COMPARISONS) {
    replaceGradient(name, ["a", "b"], (_, [a, b]) => ({ a: noGradient(a!), b: noGradient(b!) }));
  }
  for (const name of ["LogicalNot", "All", "Any"]) {
    replaceGradient(name, ["x"], (_, [x]) => ({ x: noGradient(x!) }));
  }
  tf.registerGradient({
    kernelName: "TopK",
    inputsToSave: ["x"],
    outputsToSave: [false, true],
    gradFunc: topK,
  });
  replaceGradient("BatchMatMul", ["a", "b"], matMul);
  replaceGradient("GatherV2", ["x", "indices"], gather);
  replaceGradient("Tile", ["x"], tile);
  replaceGradient("Sum", ["x"], repeated(false));
  replaceGradient("Mean", ["x"], repeated(true));
  replaceGradient("Maximum", ["a", "b"], extremum(tf.greaterEqual));
  replaceGradient("Minimum", ["a", "b"], extremum(tf.lessEqual));
  replaceGradient("SquaredDifference", ["a", "b"], (dy, [a, b]) => {
    const slope = (): tf.Tensor => tf.mul(dy, tf.mul(tf.sub(a!, b!), 2));
    return { a: () => sumToShape(slope(), a!.shape), b: () => sumToShape(tf.neg(slope()), b!.shape) };
  });
  // tfjs transposes the result once more where the axis is not the last
  replaceGradient("Cumsum", [], (dy, _, attributes) => {
    const { axis, exclusive, reverse } = attributes as unknown as tf.CumsumAttrs;
    return { x: () => tf.cumsum(dy, axis, exclusive, !reverse) };
  });
  // d x^(-1/2) = -1/2 y^3: no power, no division
  replaceGradient(
    "Rsqrt",
    [],
    (dy, [y]) => ({ x: () => tf.mul(tf.mul(dy, -0.5), tf.mul(y!, tf.mul(y!, y!))) }),
    true,
  );
  replaceGradient("GatherNd", ["params", "indices"], (dy, [params, indices]) => ({
    params: () => tf.scatterND(indices as tf.Tensor<tf.Rank>, dy, params!.shape as [number]),
    indices: noGradient(indices!),
  }));
  replaceGradient("ScatterNd", ["indices"], (dy, [indices]) => ({
    updates: () => tf.gatherND(dy, indices!),
    indices: noGradient(indices!),
  }));
}
