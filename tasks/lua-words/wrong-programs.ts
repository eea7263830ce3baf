/** Wrong programs, as a policy would write them: other meanings of vague words above all, sometimes a slip, rarely a bug. */
import type { Random } from "../../core/index.js";
import type { Instruction, Ops } from "./instructions.js";
import { programOf } from "./programs.js";
import { drawOps } from "./senses.js";
import { OPS } from "./vocabulary.js";

/** Shares of the three sorts; the rest is bugs. */
const OTHER_SENSES = 0.8;
const ONE_WRONG_OP = 0.13;

/** Ops with one place changed to another op of its slot. */
function withOneWrongOp(ops: Ops, random: Random): Ops {
  const place = random.integer(ops.length);
  const right = JSON.stringify(ops[place]);
  return ops.with(place, random.pick(OPS[ops[place]!.slot].filter((op) => JSON.stringify(op) !== right)));
}

/** Senses drawn afresh until one differs; a slip where no word is vague. */
function withOtherSenses(instruction: Instruction, ops: Ops, random: Random): Ops {
  if (instruction.vagueWords === 0) return withOneWrongOp(ops, random);
  for (;;) {
    const drawn = drawOps(instruction, random);
    if (drawn.some((op, place) => op !== ops[place])) return drawn;
  }
}

/** The text without one of its matches, or with another in its place. */
function replaceOne(text: string, find: RegExp, by: () => string, random: Random): string {
  const match = random.pick([...text.matchAll(find)]);
  return text.slice(0, match.index) + by() + text.slice(match.index + match[0].length);
}

/** A syntax or runtime error: an `end` or a bracket gone, a line gone, or one name mistaken. */
export function withBug(program: string, random: Random): string {
  const nothing = (): string => "";
  switch (random.integer(3)) {
    case 0:
      return replaceOne(program, /\n *end\b|[()[\]{}]/g, nothing, random);
    case 1:
      return replaceOne(program, /^.*\n/gm, nothing, random);
    default:
      return replaceOne(program, /\b[xs]\b(?!")/g, () => random.pick(["y", "n", "t"]), random);
  }
}

/** @param ops - the right meanings; the result may still pass some tests, by chance all of them */
export function wrongProgram(instruction: Instruction, ops: Ops, random: Random): string {
  const ticket = random.next();
  if (ticket < OTHER_SENSES) return programOf(instruction.kind, withOtherSenses(instruction, ops, random));
  if (ticket < OTHER_SENSES + ONE_WRONG_OP) return programOf(instruction.kind, withOneWrongOp(ops, random));
  return withBug(programOf(instruction.kind, ops), random);
}
