/** Products of a decoding step's few rows with a weight: how the weight stands in memory decides how fast it is read. */
import * as tf from "../tensor/tfjs.js";

/**
 * `rows`: [out, in], as checkpoints have them; read once for many sequences, in `columnProduct`.
 * `blocks`: [out / b, 1, in, b], of which a product with one row reads the memory from one end to the other; a small one
 * [in, out].
 */
export type WeightLayout = "rows" | "blocks";

/** Outputs of a block. Measured with one row, GB/s: 16 19, 32 21, 64 20, 128 10; undivided 12 to 17, [out, in] 12. */
const BLOCK = 32;
/** Elements up to which a weight stays in a core's own cache, where dividing it only costs time. */
const UNDIVIDED = 2 ** 17;

/** The shape in which a weight [out, in] is kept. */
export function storedShape(layout: WeightLayout, [out, width]: readonly [number, number]): number[] {
  if (layout === "rows") return [out, width];
  const isDivided = out % BLOCK === 0 && out * width > UNDIVIDED;
  return isDivided ? [out / BLOCK, 1, width, BLOCK] : [width, out];
}

/** A weight [out, in] as the layout keeps it. */
export function stored(weight: tf.Tensor, layout: WeightLayout): tf.Tensor {
  if (layout === "rows") return weight;
  const shape = storedShape(layout, weight.shape as [number, number]);
  if (shape.length === 2) return tf.transpose(weight);
  const [blocks, , width, block] = shape as [number, number, number, number];
  return tf.reshape(tf.transpose(tf.reshape(weight, [blocks, block, width]), [0, 2, 1]), shape);
}

/** x [1, in] times W [out, in], transposed: [1, out, 1]. A CPU has a kernel for it that reads the weights just once. */
const productOfOne = (weight: tf.Tensor, x: tf.Tensor): tf.Tensor =>
  tf.reshape(tf.matMul(x as tf.Tensor2D, weight as tf.Tensor2D, false, true), [1, weight.shape[0]!, 1]);

/**
 * W x^T for x [S, in] and W [out, in]: [1, out, S]. A CPU packs the right operand of a product before it multiplies; this
 * way round that is the small one. The leading 1 keeps ONNX Runtime from turning the product round again.
 */
const columnProduct = (weight: tf.Tensor, x: tf.Tensor): tf.Tensor =>
  x.shape[0] === 1 ? productOfOne(weight, x) : tf.matMul(weight, tf.expandDims(x, 0), false, true);

/**
 * x [S, in] times a weight in blocks, one row at a time: [out / b, S, 1, b]; of a small one [1, S, 1, out], of one row [1, out].
 * A block is read from memory once, however many the rows.
 */
function blockProduct(weight: tf.Tensor, x: tf.Tensor): tf.Tensor {
  const [rows, width] = x.shape as [number, number];
  if (rows === 1) return tf.matMul(x, weight);
  const blocks = weight.rank === 4 ? weight : tf.reshape(weight, [1, 1, ...weight.shape]);
  return tf.matMul(tf.reshape(x, [1, rows, 1, width]), blocks);
}

/** x [S, in] times a weight, in the order that its layout gives: elementwise ops may follow, then `byRow`. */
export const product = (weight: tf.Tensor, x: tf.Tensor, layout: WeightLayout): tf.Tensor =>
  layout === "blocks" ? blockProduct(weight, x) : columnProduct(weight, x);

/** What `product` gave to [S, out]. */
export function byRow(x: tf.Tensor): tf.Tensor {
  const [blocks, rows, , block] = x.shape as [number, number, number, number];
  if (x.rank === 4) return tf.reshape(tf.transpose(x, [1, 0, 2, 3]), [rows, blocks * block]);
  return x.rank === 2 ? x : tf.reshape(tf.transpose(x, [0, 2, 1]), [x.shape[2]!, x.shape[1]!]);
}

/** x [S, in] times W [out, in], transposed: [S, out]. */
export const linear = (x: tf.Tensor, weight: tf.Tensor, layout: WeightLayout): tf.Tensor =>
  byRow(product(weight, x, layout));

/** What `product` gave, times the next weight: [S, out]. */
export function linearOfProduct(x: tf.Tensor, weight: tf.Tensor, layout: WeightLayout): tf.Tensor {
  const isTurned = layout === "rows" && x.shape[2] !== 1;
  return isTurned ? byRow(tf.matMul(weight, x)) : linear(byRow(x), weight, layout);
}
