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

/** What the backward pass needs of a layer: its input, and its products where they are kept. */
interface LayerState {
  readonly x: Value;
  /** null: they are computed again. */
  readonly kept: Record<string, Value> | null;
}

/**
 * Hidden states of some rows, [N, D] each.
 * @param keptBytes - what the backward pass may be spared: the products of so many of the last layers are kept; null: there
 * is no backward pass
 * @returns the states of every layer, none without a backward pass, and what comes out of the last one
 */
export async function forwardPass(
  rows: PaddedRows,
  copy: WeightsCopy,
  values: Values,
  { parts, functions }: Layers,
  keptBytes: number | null,
): Promise<{ states: LayerState[]; last: Value }> {
  const embed = await functions.embed(rows);
  const embedded = await embed.run(0, { ...weightFeeds(parts.embedding, copy, values), ids: rows.ids });
  const tables = await functions.tables(rows.length);
  const count = parts.layers.length;
  const recomputed = keptBytes === null ? count : count - (await layersKept(rows, functions, keptBytes));
  const states: LayerState[] = [];
  let x = embedded.x!;
  for (const [index, part] of parts.layers.entries()) {
    const keeps = index >= recomputed;
    const layer = await (keeps ? functions.forwardKeeping(rows) : functions.forward(rows));
    const { y, ...kept } = await layer.run(index, { ...weightFeeds(part, copy, values), ...tables, x });
    if (keptBytes === null) disposeAll([x]);
    else states.push({ x, kept: keeps ? kept : null });
    x = y!;
  }
  return { states, last: x };
}

/** How many layers' products fit into so many bytes. */
async function layersKept(rows: PaddedRows, functions: LayerFunctions, bytes: number): Promise<number> {
  if (bytes === 0) return 0;
  const { outputs } = await functions.forwardKeeping(rows);
  const each = Object.entries(outputs)
    .filter(([name]) => name.startsWith("kept/"))
    .reduce((sum, [, { shape }]) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);
  return Math.floor(bytes / each);
}

/**
 * Gradients of the layers and the embedding, added to the sums. A layer whose products were not kept computes them again
 * from its input, so that those of one such layer exist at a time.
 * @param states - of every layer, from `forwardPass`; given up one by one
 * @param last - gradient of the loss at the last layer's output [N, D]; given up
 */
export async function backwardPass(
  rows: PaddedRows,
  values: Values,
  { states, last }: { states: LayerState[]; last: Value },
  sums: GradientSums,
  { parts, functions }: Layers,
): Promise<void> {
  const tables = await functions.tables(rows.length);
  const adds = hasSums(parts.layers[0]!, sums);
  let dy = last;
  for (let index = parts.layers.length - 1; index >= 0; index--) {
    const part = parts.layers[index]!;
    const { x, kept } = states.pop()!;
    const layer = await (kept === null
      ? functions.backward(rows, adds)
      : functions.backwardOfKept(rows, adds));
    const feeds = { ...weightFeeds(part, "weights", values), ...sumFeeds(part, sums), ...tables, x, dy };
    const { dx, ...gradients } = await layer.run(index, { ...feeds, ...kept });
    takeSums(part, sums, gradients);
    disposeAll([x, dy, ...Object.values(kept ?? {})]);
    dy = dx!;
  }
  if (isLearned(parts.embedding)) {
    const embed = await functions.embedBackward(rows, hasSums(parts.embedding, sums));
    const feeds = { ...sumFeeds(parts.embedding, sums), ids: rows.ids, dx: dy };
    takeSums(parts.embedding, sums, await embed.run(0, feeds));
  }
  disposeAll([dy]);
}
