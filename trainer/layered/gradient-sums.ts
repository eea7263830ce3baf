/** Gradients by parameter that grow part by part: a function takes its part's sums so far and gives the new ones. */
import type { Value } from "../../tensor/index.js";
import type { Values } from "../computation.js";
import { disposeAll } from "../learner-state.js";
import { addTo } from "./host-sums.js";
import type { PartWeights } from "./part-weights.js";

/** `gradients/` by full name; a parameter that nothing has been added to is absent. */
export type GradientSums = Record<string, Value>;

/** The sums of a part so far, as the feeds `sum/` of its function; none before the first. */
export function sumFeeds({ parameters }: PartWeights, sums: GradientSums): Record<string, Value> {
  const feeds: Record<string, Value> = {};
  for (const { name, local, isLearned } of parameters) {
    const sum = sums[`gradients/${name}`];
    if (isLearned && sum !== undefined) feeds[`sum/${local}`] = sum;
  }
  return feeds;
}

/** Whether a part has sums already: its function then adds to them. All of its parameters have, or none. */
export const hasSums = (part: PartWeights, sums: GradientSums): boolean =>
  Object.keys(sumFeeds(part, sums)).length > 0;

/** Puts the outputs `gradients/` of a part's function in place of the sums that it was fed. */
export function takeSums(part: PartWeights, sums: GradientSums, outputs: Values): void {
  for (const { name, local, isLearned } of part.parameters) {
    if (!isLearned) continue;
    const before = sums[`gradients/${name}`];
    const after = outputs[`gradients/${local}`]!;
    if (before !== undefined && before !== after) disposeAll([before]);
    sums[`gradients/${name}`] = after;
  }
}

/** Adds them to the sums themselves, which are in host memory, each with an array of its own. */
export async function addToSums(part: PartWeights, sums: GradientSums, outputs: Values): Promise<void> {
  for (const { name, local, isLearned } of part.parameters) {
    if (!isLearned) continue;
    const gradient = outputs[`gradients/${local}`]!;
    await addTo(sums[`gradients/${name}`]!, gradient);
    disposeAll([gradient]);
  }
}
