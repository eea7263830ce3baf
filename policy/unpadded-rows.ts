/**
 * Rows without their padding: N tokens one after the other, and where they stand in the rows [B, T] that attention needs.
 * Everything but attention treats tokens apart and is spared the padding.
 */
import * as tf from "../tensor/tfjs.js";

export interface UnpaddedRows {
  /** [B, T] int32: the token at each place of the rows; at padding, one that nothing is read from. */
  readonly tokenAt: tf.Tensor2D;
  /** [N] int32: the place of each token in the flattened rows. */
  readonly placeOf: tf.Tensor1D;
}

/** Tokens to their places in the rows: [N, ...] -> [B * T, ...]. */
export const padRows = (x: tf.Tensor, { tokenAt, placeOf }: UnpaddedRows): tf.Tensor =>
  moveRows(x, tf.reshape(tokenAt, [tokenAt.size]) as tf.Tensor1D, placeOf);

/** And back: [B * T, ...] -> [N, ...]. */
export const unpadRows = (x: tf.Tensor, { tokenAt, placeOf }: UnpaddedRows): tf.Tensor =>
  moveRows(x, placeOf, tf.reshape(tokenAt, [tokenAt.size]) as tf.Tensor1D);

/**
 * Rows of x by index. The gradient is a gather too, by the index of the way back, where the general one is a scatter-add:
 * right as long as what is taken more than once has a gradient of zero, as padding has.
 */
function moveRows(x: tf.Tensor, to: tf.Tensor1D, back: tf.Tensor1D): tf.Tensor {
  return tf.customGrad((input) => ({
    value: tf.gather(input as tf.Tensor, to),
    gradFunc: (dy: tf.Tensor) => tf.gather(dy, back),
  }))(x);
}
