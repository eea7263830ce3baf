/** One optimizer step over all parameters, as a function of tensors that can be traced into a graph. */

import type { TensorMap, TensorSpec } from "../tensor/index.js";
import * as tf from "../tensor/tfjs.js";
import { adamw, biasCorrections } from "./adamw.js";
import { isHiddenMatrix, muon } from "./muon.js";
import type { OptimizerConfig } from "./optimizer-config.js";
import { averageTeacher } from "./teacher-average.js";

export type Shapes = Readonly<Record<string, readonly number[]>>;

/** Names of the moments kept for each parameter, by which optimizer trains it. */
export function momentNames(optimizer: OptimizerConfig, shapes: Shapes): string[] {
  return Object.entries(shapes).flatMap(([name, shape]) =>
    optimizer.type === "muon" && isHiddenMatrix(name, shape)
      ? [`momentum/${name}`]
      : [`moment1/${name}`, `moment2/${name}`],
  );
}

const SCALARS = ["lr", "adamw_lr", "correction1", "correction2", "teacher_rate"] as const;

/** The scalar inputs of step t. `teacherRate` is 0 for all but the last optimizer step of a batch. */
export function stepScalars(
  optimizer: OptimizerConfig,
  lrScale: number,
  t: number,
  teacherRate: number,
): Record<(typeof SCALARS)[number], number> {
  const adamwLr = optimizer.type === "muon" ? optimizer.adamw_lr : optimizer.lr;
  return {
    lr: optimizer.lr * lrScale,
    adamw_lr: adamwLr * lrScale,
    ...biasCorrections(optimizer.betas, t),
    teacher_rate: teacherRate,
  };
}

/** Inputs of `optimizerStep` under their names. */
export function optimizerSpecs(
  optimizer: OptimizerConfig,
  shapes: Shapes,
  withTeacher: boolean,
): Record<string, TensorSpec> {
  const specs: Record<string, TensorSpec> = {};
  const add = (key: string, shape: readonly number[]): void => {
    specs[key] = { shape, dtype: "float32" };
  };
  for (const [name, shape] of Object.entries(shapes)) {
    add(`weights/${name}`, shape);
    add(`gradients/${name}`, shape);
    if (withTeacher) add(`teacher/${name}`, shape);
  }
  for (const key of momentNames(optimizer, shapes)) add(key, shapes[key.slice(key.indexOf("/") + 1)]!);
  for (const scalar of SCALARS) {
    const isUsed =
      scalar === "teacher_rate" ? withTeacher : scalar === "lr" ? optimizer.type === "muon" : true;
    if (isUsed) add(scalar, []);
  }
  return specs;
}

/** Sum of the squares of all elements of all tensors. */
export function squaredNorm(tensors: readonly tf.Tensor[]): tf.Scalar {
  const squares = tensors.map((tensor) => tf.reshape(tf.sum(tf.mul(tensor, tensor)), [1]));
  return tf.sum(tf.concat(squares)) as tf.Scalar;
}

/** What gradients of a global norm are multiplied by. */
const clipFactor = (gradNorm: tf.Scalar, clipNorm: number): tf.Scalar =>
  tf.minimum(tf.div(clipNorm, tf.add(gradNorm, 1e-6)), tf.scalar(1));

/**
 * Clips the gradients by their global norm and applies them: Muon or AdamW by parameter, then the teacher's average.
 * @param inputs - see `optimizerSpecs`
 * @returns new `weights/`, moments and `teacher/`; `grad_norm` before clipping and `weight_norm` after the step: one
 * NaN or Infinity anywhere makes one of the two not finite
 */
export function optimizerStep(
  inputs: TensorMap,
  optimizer: OptimizerConfig,
  shapes: Shapes,
  withTeacher: boolean,
): Record<string, tf.Tensor> {
  const names = Object.keys(shapes);
  const gradNorm = tf.sqrt(squaredNorm(names.map((name) => inputs[`gradients/${name}`]!))) as tf.Scalar;
  const outputs = scaledStep(inputs, optimizer, shapes, withTeacher, gradNorm);
  outputs.grad_norm = gradNorm;
  outputs.weight_norm = tf.sqrt(squaredNorm(names.map((name) => outputs[`weights/${name}`]!)));
  return outputs;
}

/**
 * The step of some of the parameters, given the norm of all gradients.
 * @returns their new `weights/`, moments and `teacher/`
 */
export function scaledStep(
  inputs: TensorMap,
  optimizer: OptimizerConfig,
  shapes: Shapes,
  withTeacher: boolean,
  gradNorm: tf.Scalar,
): Record<string, tf.Tensor> {
  const clip = optimizer.clip_norm === null ? null : clipFactor(gradNorm, optimizer.clip_norm);
  const outputs: Record<string, tf.Tensor> = {};
  for (const name of Object.keys(shapes)) {
    const raw = inputs[`gradients/${name}`]!;
    const updated = updateParameter(inputs, name, clip === null ? raw : tf.mul(raw, clip), optimizer);
    for (const [kind, tensor] of Object.entries(updated)) outputs[`${kind}/${name}`] = tensor;
    if (withTeacher) {
      const rate = inputs.teacher_rate as tf.Scalar;
      outputs[`teacher/${name}`] = averageTeacher(inputs[`teacher/${name}`]!, updated.weights!, rate);
    }
  }
  return outputs;
}

/** Norms and biases are never decayed. */
export const decayOf = ({ weight_decay }: OptimizerConfig, shape: readonly number[]): number =>
  shape.length >= 2 ? weight_decay : 0;

function updateParameter(
  inputs: TensorMap,
  name: string,
  gradient: tf.Tensor,
  optimizer: OptimizerConfig,
): Record<string, tf.Tensor> {
  const weight = inputs[`weights/${name}`]!;
  const decay = decayOf(optimizer, weight.shape);
  if (optimizer.type === "muon" && isHiddenMatrix(name, weight.shape)) {
    const matrices = { weight, gradient, momentum: inputs[`momentum/${name}`]! } as Record<
      "weight" | "gradient" | "momentum",
      tf.Tensor2D
    >;
    const moved = muon(matrices, inputs.lr as tf.Scalar, optimizer.momentum, decay);
    return { weights: moved.weight, momentum: moved.momentum };
  }
  const [moment1, moment2] = [inputs[`moment1/${name}`]!, inputs[`moment2/${name}`]!];
  const step = {
    lr: inputs.adamw_lr as tf.Scalar,
    correction1: inputs.correction1 as tf.Scalar,
    correction2: inputs.correction2 as tf.Scalar,
  };
  const moved = adamw({ weight, gradient, moment1, moment2 }, step, optimizer.betas, decay);
  return { weights: moved.weight, moment1: moved.moment1, moment2: moved.moment2 };
}
