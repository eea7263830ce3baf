import { randomStream } from "../../core/index.js";
import { outputOf } from "./evaluate.js";
import { drawInputs } from "./inputs.js";
import type { Instruction, Kind, Ops } from "./instructions.js";
import { alternatives } from "./senses.js";

/** Draws before a task keeps the best inputs so far: some pairs of senses no input can tell apart. */
const MAX_DRAWS = 15;

/** Test inputs of a task, and how many wrong senses of a single word would pass them all. */
export interface SeparatingInputs {
  readonly inputs: readonly string[];
  readonly survivors: number;
}

/** Wrong senses, one word away, that print the same as the truth on every input. */
export function survivorsOf(
  kind: Kind,
  truth: Ops,
  others: readonly Ops[],
  inputs: readonly string[],
): number {
  const expected = inputs.map((input) => outputOf(kind, truth, input));
  return others.filter((ops) => inputs.every((input, i) => outputOf(kind, ops, input) === expected[i]))
    .length;
}

/**
 * Inputs on which every other sense of every vague word fails at least once, where such are found in 15 draws; else
 * those of the draw that left the fewest.
 */
export function separatingInputs(
  instruction: Instruction,
  truth: Ops,
  lengths: readonly number[],
  seed: number,
): SeparatingInputs {
  const others = alternatives(instruction, truth);
  let best: SeparatingInputs | null = null;
  for (let draw = 0; draw < MAX_DRAWS && best?.survivors !== 0; draw++) {
    const inputs = drawInputs(
      instruction.kind,
      lengths,
      randomStream(seed, "lua-words/inputs", instruction.id, draw),
    );
    const survivors = survivorsOf(instruction.kind, truth, others, inputs);
    if (best === null || survivors < best.survivors) best = { inputs, survivors };
  }
  return best!;
}
