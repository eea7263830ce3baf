/** Gradients by parameter that grow part by part: a function takes its part's sums so far and gives the new ones. */
import type { Value } from "../../tensor/index.js";
import type { Values } from "../computation.js";
import { disposeAll } from "../learner-state.js";
import type { PartWeights } from "./part-weights.js";

/** `gradients/` by full name; a parameter that nothing has been added to is absent. */
export type GradientSums = Record<string, Value>;

let zeros = new Float32Array(0);

/** Zeros of which all callers share one array: never written to. */
function sharedZeros(size: number): Float32Array {
  if (zeros.length < size) zeros = new Float32Array(size);
  return zeros.subarray(0, size);
}

/** The sums of a part so far, as the feeds `sum/` of its function. */
export function sumFeeds(part: PartWeights, sums: GradientSums): Record<string, Value> {
  const feeds = part.parameters.flatMap(({ name, local, shape, isLearned }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    return isLearned ? [[`sum/${local}`, sums[`gradients/${name}`] ?? sharedZeros(size)] as const] : [];
  });
  return Object.fromEntries(feeds);
}

/** Puts the outputs `gradients/` of a part's function in place of the sums that it was fed. */
export function takeSums(part: PartWeights, sums: GradientSums, outputs: Values): void {
  for (const { name, local, isLearned } of part.parameters) {
    if (!isLearned) continue;
    const before = sums[`gradients/${name}`];
    if (before !== undefined) disposeAll([before]);
    sums[`gradients/${name}`] = outputs[`gradients/${local}`]!;
  }
}
