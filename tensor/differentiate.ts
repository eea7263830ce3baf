/** Gradients by name, of functions written over tfjs ops. */

import { registerGradients } from "./gradients.js";
import * as tf from "./tfjs.js";

/** Tensors by name. */
export type TensorMap = Readonly<Record<string, tf.Tensor>>;

/** Outputs by name. Called once while it is compiled (on `tensorflow`: in every run). */
export type TracedFunction = (inputs: TensorMap) => Record<string, tf.Tensor>;

tf.whenLoaded(registerGradients);

/** The same tensor, through which no gradient flows. */
export function stopGradient<T extends tf.Tensor>(x: T): T {
  const cut = tf.customGrad((y) => ({ value: tf.clone(y as T), gradFunc: (dy: T) => tf.zerosLike(dy) }));
  return cut(x);
}

/** A loss and what else its forward pass shows, such as metrics. No gradient flows from the extras. */
export interface LossWithExtras {
  readonly loss: tf.Scalar;
  readonly extras: Record<string, tf.Tensor>;
}

/**
 * A loss and its gradient for every parameter; zeros for a parameter that the loss does not use.
 * @param loss - scalar loss of the parameters, or the loss with extra tensors to hand on
 */
export function valueAndGradients(
  loss: (params: TensorMap) => tf.Scalar | LossWithExtras,
  params: TensorMap,
): { value: tf.Scalar; gradients: Record<string, tf.Tensor>; extras: Record<string, tf.Tensor> } {
  const names = Object.keys(params);
  const xs = Object.values(params);
  let extras: Record<string, tf.Tensor> = {};
  const forward = (): tf.Scalar => {
    const result = loss(params);
    if ("dataId" in result) return result;
    // Kept until the backward pass is over: it ends the scope in which they were made.
    extras = Object.fromEntries(
      Object.entries(result.extras).map(([name, x]) => [name, tf.keep(tf.clone(x))]),
    );
    return result.loss;
  };
  const engine = tf.engine();
  const { value, grads } = engine.gradients(forward, xs, undefined as unknown as tf.Tensor, true);
  for (const extra of Object.values(extras)) {
    (extra as { kept: boolean }).kept = false;
    (engine as unknown as { track(tensor: tf.Tensor): void }).track(extra); // back into the caller's scope
  }
  const gradients = names.map((name, i) => [name, grads[i] ?? tf.zerosLike(xs[i]!)] as const);
  return { value: value as tf.Scalar, gradients: Object.fromEntries(gradients), extras };
}
