/**
 * Gradients that are summed in host memory, in the arrays of the sums themselves. As a graph, adding a few rows to the
 * gradient of an embedding makes zeros of its size, a sum of its size and a copy of that.
 */
import { currentDryRun, HostTensor, type Value } from "../../tensor/index.js";
import type { GraphOptions } from "../graphs.js";
import { hostArray } from "../learner-state.js";
import type { PartFunction } from "./part-function.js";
import { learnedShapes, type PartWeights, partSpecs } from "./part-weights.js";

/** Whether outputs of functions are arrays in host memory that nobody else holds. */
export const sumsOnHost = ({ compile }: GraphOptions): boolean =>
  compile.provider === "cpu" || compile.provider === "cuda";

/** As `LayerFunctions.embedBackward`: the one parameter of the embedding is its table of rows. */
export function hostEmbedBackward(embedding: PartWeights, adds: boolean): PartFunction {
  const [[local, shape] = []] = Object.entries(learnedShapes(embedding));
  if (local === undefined || shape === undefined) throw new Error("the embedding is not learned");
  return {
    inputs: adds ? partSpecs("sum", embedding) : {},
    outputs: partSpecs("gradients", embedding),
    run: async (_, feeds) => {
      const spec = { shape, dtype: "float32" } as const;
      const given = adds ? feeds[`sum/${local}`]! : null;
      const dry = currentDryRun();
      if (dry !== undefined) return { [`gradients/${local}`]: given ?? dry.value(spec, true) };
      const sum = given ?? new HostTensor(spec, new Float32Array(shape.reduce((a, b) => a * b, 1)));
      addRows(
        (await hostArray(sum)) as Float32Array,
        feeds.ids as Int32Array,
        (await hostArray(feeds.dx!)) as Float32Array,
      );
      return { [`gradients/${local}`]: sum };
    },
    dispose: () => Promise.resolve(),
  };
}

/** Adds each row [N, D] to the row of the table [V, D] that its id names. */
function addRows(table: Float32Array, ids: Int32Array, rows: Float32Array): void {
  const width = rows.length / ids.length;
  for (const [row, id] of ids.entries()) {
    const [from, to] = [row * width, id * width];
    for (let i = 0; i < width; i++) table[to + i] = table[to + i]! + rows[from + i]!;
  }
}

/** Adds one array to another. */
export async function addTo(sum: Value, value: Value): Promise<void> {
  if (currentDryRun() !== undefined) return;
  const [into, from] = [(await hostArray(sum)) as Float32Array, (await hostArray(value)) as Float32Array];
  for (let i = 0; i < from.length; i++) into[i] = into[i]! + from[i]!;
}
