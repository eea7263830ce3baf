/** Gradients by parameter that grow part by part: a function takes its part's sums so far and gives the new ones. */
import type { Value } from "../../tensor/index.js";
import type { Values } from "../computation.js";
import { disposeAll } from "../learner-state.js";
import type { LayerFunctions } from "./functions.js";
import type { PartWeights } from "./part-weights.js";

/** `gradients/` by full name; a parameter that nothing has been added to is absent. */
export type GradientSums = Record<string, Value>;

/** The sums of a part so far, as the feeds `sum/` of its function. */
export async function sumFeeds(
  { parameters }: PartWeights,
  sums: GradientSums,
  { zeros }: LayerFunctions,
): Promise<Record<string, Value>> {
  const feeds: Record<string, Value> = {};
  for (const { name, local, shape, isLearned } of parameters)
    if (isLearned) feeds[`sum/${local}`] = sums[`gradients/${name}`] ?? (await zeros(shape));
  return feeds;
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
