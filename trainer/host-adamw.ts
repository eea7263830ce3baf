/** AdamW in host memory: one pass over a parameter's arrays, where a graph of its fifteen ops makes fifteen. */
import { ADAMW_EPSILON } from "./adamw.js";
import { adamwKernel, BLOCK, type KernelScalars } from "./adamw-kernel.js";

/** Largest float32. */
export const LARGEST = (2 - 2 ** -23) * 2 ** 127;

/** Arrays of one parameter, all of one length; `teacher` where it has one. */
export interface AdamwArrays {
  readonly weights: Float32Array;
  readonly gradients: Float32Array;
  readonly moment1: Float32Array;
  readonly moment2: Float32Array;
  readonly teacher: Float32Array | null;
}

/** Scalars of one step; see `stepScalars`. */
export interface AdamwScalars {
  readonly lr: number;
  readonly betas: readonly [number, number];
  readonly correction1: number;
  readonly correction2: number;
  /** What the gradients are multiplied by, at most 1. */
  readonly clip: number;
  readonly decay: number;
  readonly teacherRate: number;
}

/** Four sums side by side: one would wait for itself. Squares of float32 never overflow a double. */
export function sumOfSquares(values: Float32Array): number {
  let [a, b, c, d] = [0, 0, 0, 0];
  const even = values.length & ~3;
  for (let i = 0; i < even; i += 4) {
    a += values[i]! * values[i]!;
    b += values[i + 1]! * values[i + 1]!;
    c += values[i + 2]! * values[i + 2]!;
    d += values[i + 3]! * values[i + 3]!;
  }
  for (let i = even; i < values.length; i++) a += values[i]! * values[i]!;
  return a + b + c + d;
}

/** Largest size of an element; Infinity where one is NaN. */
export function largestOf(values: Float32Array): number {
  let largest = 0;
  for (const value of values) {
    if (Number.isNaN(value)) return Number.POSITIVE_INFINITY;
    if (Math.abs(value) > largest) largest = Math.abs(value);
  }
  return largest;
}

/**
 * `adamw` and `averageTeacher` on one parameter, with the bits that their graph gives.
 * @param stores - false: nothing is written, it only tells what would be
 * @returns the sum of the squares of the new weights; not finite when that is beyond float32 or a new moment is
 * @see Loshchilov & Hutter, arXiv 1711.05101
 */
export function adamwInPlace(arrays: AdamwArrays, scalars: AdamwScalars, stores: boolean): number {
  const kernel = adamwKernel();
  const kinds = (["weights", "moment1", "moment2", "teacher"] as const).filter(
    (kind) => arrays[kind] !== null,
  );
  const read = [...kinds, "gradients"] as const;
  const own = kernelScalars(scalars);
  const { length } = arrays.weights;
  let squares = 0;
  for (let start = 0; start < length; start += BLOCK) {
    const count = Math.min(BLOCK, length - start);
    const padded = (count + 3) & ~3;
    for (const kind of read) {
      kernel.arrays[kind].set(arrays[kind]!.subarray(start, start + count));
      kernel.arrays[kind].fill(0, count, padded);
    }
    squares += kernel.step(padded, own);
    if (stores) for (const kind of kinds) arrays[kind]!.set(kernel.arrays[kind].subarray(0, count), start);
  }
  return squares <= LARGEST ? squares : Number.POSITIVE_INFINITY;
}

const kernelScalars = ({ betas: [beta1, beta2], ...scalars }: AdamwScalars): KernelScalars => ({
  ...scalars,
  ...{ beta1, rest1: 1 - beta1, beta2, rest2: 1 - beta2 },
  epsilon: ADAMW_EPSILON,
});

/** Upper bounds of the sizes of a parameter's elements. */
export interface AdamwBounds {
  readonly weights: number;
  readonly moment1: number;
  readonly moment2: number;
}

/** Rounding makes no element this much larger than its bound. */
const ROUNDING = 1 + 1e-6;

/**
 * Bounds after a step, from those before it and a bound of the gradients: every new element is a sum of terms that are
 * each largest at their bounds, and the divisor of the direction is never below epsilon. Far too large, and yet for every
 * step that makes sense within float32: then it needs no look at the result to know that it will be finite.
 */
export function boundsAfter(before: AdamwBounds, gradient: number, scalars: AdamwScalars): AdamwBounds {
  const { lr, betas, correction1, clip, decay } = scalars;
  const g = gradient * clip;
  const moment1 = (before.moment1 * betas[0] + g * (1 - betas[0])) * ROUNDING;
  const moment2 = (before.moment2 * betas[1] + g * g) * ROUNDING; // the square alone must be within float32 too
  const change = (moment1 * correction1) / ADAMW_EPSILON + before.weights * decay;
  return { weights: (before.weights + lr * change) * ROUNDING, moment1, moment2 };
}
