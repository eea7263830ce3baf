/** Which of its senses a vague phrase has: drawn once a seed for the tests, evenly for demonstrations. */
import { type Random, randomStream } from "../../core/index.js";
import type { Instruction, Ops } from "./instructions.js";
import { isVague, VAGUE_PHRASES } from "./vocabulary.js";

/** Index of the true sense by the vague phrase's words. */
export type Senses = Readonly<Record<string, number>>;

/** The senses that the tests of a seed go by. */
export function drawSenses(seed: number): Senses {
  const random = randomStream(seed, "lua-words/senses");
  return Object.fromEntries(VAGUE_PHRASES.map(({ words, senses }) => [words, random.integer(senses.length)]));
}

/** The meaning of each phrase under these senses. */
export function opsOf({ phrases }: Instruction, senses: Senses): Ops {
  return phrases.map((phrase) => phrase.senses[isVague(phrase) ? (senses[phrase.words] ?? 0) : 0]!);
}

/** Every sense of an instruction's vague words drawn evenly, as demonstrations have them. */
export function drawOps({ phrases }: Instruction, random: Random): Ops {
  return phrases.map((phrase) => (isVague(phrase) ? random.pick(phrase.senses) : phrase.senses[0]!));
}

/** The meanings one step away: one vague word takes another of its senses. Tests must tell each from the truth. */
export function alternatives({ phrases }: Instruction, ops: Ops): Ops[] {
  return phrases.flatMap((phrase, place) =>
    phrase.senses.filter((sense) => sense !== ops[place]).map((sense) => ops.with(place, sense)),
  );
}
