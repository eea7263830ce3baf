/** Test inputs: a line of small numbers, or a word. */
import type { Random } from "../../core/index.js";
import type { Kind } from "./instructions.js";

/** Numbers in each test of a list. Short ones first: one number shows map and print style directly. */
export const TRAINING_LENGTHS: readonly number[] = [1, 1, 2, 2, 3, 4];
export const HELDOUT_LENGTHS: readonly number[] = [1, 1, 2, 2, 3, 3, 4, 4];

/** -9 to 9, non-negative ones twice as likely. */
function drawNumber(random: Random): number {
  const ticket = random.integer(29);
  return ticket < 20 ? ticket >> 1 : 19 - ticket;
}

/** 3 to 6 letters of a to h. */
function drawWord(random: Random): string {
  return Array.from({ length: 3 + random.integer(4) }, () => "abcdefgh"[random.integer(8)]!).join("");
}

/**
 * One input a test, all different.
 * @param lengths - [tests] numbers in each; for words only how many tests there are counts
 */
export function drawInputs(kind: Kind, lengths: readonly number[], random: Random): string[] {
  const inputs: string[] = [];
  for (const length of lengths) {
    const draw = (): string =>
      kind === "string"
        ? `${drawWord(random)}\n`
        : `${Array.from({ length }, () => drawNumber(random)).join(" ")}\n`;
    let input = draw();
    while (inputs.includes(input)) input = draw();
    inputs.push(input);
  }
  return inputs;
}
