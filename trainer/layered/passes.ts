/** The policy's layers one after the other: forward for hidden states, backward for gradients. */
import type { Value } from "../../tensor/index.js";
import type { Values, WeightsCopy } from "../computation.js";
import { disposeAll } from "../learner-state.js";
import type { PaddedRows } from "../pack-batch.js";
import type { LayerFunctions } from "./functions.js";
import { type GradientSums, hasSums, sumFeeds, takeSums } from "./gradient-sums.js";
import { isLearned, type PolicyParts, weightFeeds } from "./part-weights.js";

export interface Layers {
  readonly parts: PolicyParts;
  readonly functions: LayerFunctions;
}

/**
 * Hidden states of some rows, [N, D] each.
 * @returns the input of every layer and what comes out of the last one; only that when `keepAll` is false
 */
export async function forwardPass(
  rows: PaddedRows,
  copy: WeightsCopy,
  values: Values,
  { parts, functions }: Layers,
  keepAll: boolean,
): Promise<{ inputs: Value[]; last: Value }> {
  const embed = await functions.embed(rows);
  const embedded = await embed.run(0, { ...weightFeeds(parts.embedding, copy, values), ids: rows.ids });
  const [layer, tables] = [await functions.forward(rows), await functions.tables(rows.length)];
  const inputs: Value[] = [];
  let x = embedded.x!;
  for (const [index, part] of parts.layers.entries()) {
    const { y } = await layer.run(index, { ...weightFeeds(part, copy, values), ...tables, x });
    if (keepAll) inputs.push(x);
    else disposeAll([x]);
    x = y!;
  }
  return { inputs, last: x };
}

/**
 * Gradients of the layers and the embedding, added to the sums. Each layer computes its activations again from its
 * input, so that those of one layer exist at a time.
 * @param inputs - of every layer, from `forwardPass`; given up one by one
 * @param last - gradient of the loss at the last layer's output [N, D]; given up
 */
export async function backwardPass(
  rows: PaddedRows,
  values: Values,
  { inputs, last }: { inputs: Value[]; last: Value },
  sums: GradientSums,
  { parts, functions }: Layers,
): Promise<void> {
  const [layer, tables] = [
    await functions.backward(rows, hasSums(parts.layers[0]!, sums)),
    await functions.tables(rows.length),
  ];
  let dy = last;
  for (let index = parts.layers.length - 1; index >= 0; index--) {
    const part = parts.layers[index]!;
    const x = inputs.pop()!;
    const feeds = { ...weightFeeds(part, "weights", values), ...sumFeeds(part, sums), ...tables, x, dy };
    const { dx, ...gradients } = await layer.run(index, feeds);
    takeSums(part, sums, gradients);
    disposeAll([x, dy]);
    dy = dx!;
  }
  if (isLearned(parts.embedding)) {
    const embed = await functions.embedBackward(rows, hasSums(parts.embedding, sums));
    const feeds = { ...sumFeeds(parts.embedding, sums), ids: rows.ids, dx: dy };
    takeSums(parts.embedding, sums, await embed.run(0, feeds));
  }
  disposeAll([dy]);
}
