/**
 * Which instructions are demonstrated, trained on by reward, held out, kept for tuning, or watched for forgetting. All
 * disjoint. Demonstrations do not depend on the run's seed: one warm start serves every seed.
 */
import { type Random, randomStream } from "../../core/index.js";
import { INSTRUCTIONS, type Instruction, KINDS, type Kind } from "./instructions.js";

/** The seed of everything that belongs to the family itself: the demonstrated instructions. */
export const FAMILY_SEED = 0;

/** How many instructions of a kind a part takes, by number of vague words. */
type Quota = Readonly<Record<Kind, Readonly<Record<number, number>>>>;

/** 255 tasks: 68, 123 and 64 with one, two and three vague words, a third of each kind. */
const TRAINING: Quota = {
  reduce: { 1: 23, 2: 41, 3: 21 },
  list: { 1: 23, 2: 41, 3: 21 },
  string: { 1: 22, 2: 41, 3: 22 },
};
/** 150 tasks in the same proportions. */
const EVALUATION: Quota = {
  reduce: { 1: 13, 2: 24, 3: 13 },
  list: { 1: 13, 2: 24, 3: 13 },
  string: { 1: 13, 2: 24, 3: 13 },
};
/** 49 tasks without vague words; there are no more than 9 about words. */
const PROBE: Quota = { reduce: { 0: 20 }, list: { 0: 20 }, string: { 0: 9 } };
/** About numbers any; about words only 315 are vague, and what the other parts need is left to them. */
const DEMONSTRATED_NUMBERS = 425;
const DEMONSTRATED_STRINGS: Readonly<Record<number, number>> = { 1: 21, 2: 67, 3: 42 };

/** Disjoint parts of the family. */
export interface Splits {
  readonly rl: readonly Instruction[];
  readonly heldout: readonly Instruction[];
  readonly probe: readonly Instruction[];
  /** For choosing hyper-parameters: like `heldout`, so that `heldout` need not be looked at. */
  readonly tuning: readonly Instruction[];
}

const sameOrder = (chosen: ReadonlySet<Instruction>): Instruction[] =>
  INSTRUCTIONS.filter((each) => chosen.has(each));

/** The 980 instructions that demonstrations are about, in the family's order. Drawing them takes 0.1 s: only who needs them waits. */
export function demonstrated(): readonly Instruction[] {
  drawn ??= drawDemonstrated();
  return drawn;
}
let drawn: readonly Instruction[] | undefined;

function drawDemonstrated(): Instruction[] {
  const random = randomStream(FAMILY_SEED, "lua-words/demonstrated");
  const shuffled = random.shuffle(INSTRUCTIONS);
  const strings = shuffled.filter(({ kind }) => kind === "string");
  return sameOrder(
    new Set([
      ...shuffled.filter(({ kind }) => kind === "reduce").slice(0, DEMONSTRATED_NUMBERS),
      ...shuffled.filter(({ kind }) => kind === "list").slice(0, DEMONSTRATED_NUMBERS),
      ...Object.entries(DEMONSTRATED_STRINGS).flatMap(([vague, count]) =>
        strings.filter(({ vagueWords }) => vagueWords === Number(vague)).slice(0, count),
      ),
    ]),
  );
}

/** Takes a quota out of a shuffled pool; what is taken is gone from it. */
function take(pool: Instruction[], quota: Quota, random: Random): Instruction[] {
  const taken = KINDS.flatMap((kind) =>
    Object.entries(quota[kind]).flatMap(([vague, count]) => {
      const fitting = pool.filter((each) => each.kind === kind && each.vagueWords === Number(vague));
      if (fitting.length < count)
        throw new Error(`only ${fitting.length} ${kind} tasks with ${vague} vague words`);
      return fitting.slice(0, count);
    }),
  );
  const gone = new Set(taken);
  pool.splice(0, pool.length, ...pool.filter((each) => !gone.has(each)));
  return random.shuffle(taken);
}

/** The parts of a run's seed, out of what is not demonstrated. */
export function drawSplits(seed: number): Splits {
  const random = randomStream(seed, "lua-words/splits");
  const shown = new Set(demonstrated());
  const pool = random.shuffle(INSTRUCTIONS.filter((each) => !shown.has(each)));
  const heldout = take(pool, EVALUATION, random);
  const rl = take(pool, TRAINING, random);
  const tuning = take(pool, EVALUATION, random);
  return { rl, heldout, probe: take(pool, PROBE, random), tuning };
}
