/** Every instruction of the family: a sentence whose places are filled by phrases. */
import {
  EDITS,
  FILTERS,
  isVague,
  MAPS,
  type Op,
  type Phrase,
  PRINTS,
  REDUCES,
  SEPARATORS,
} from "./vocabulary.js";

/** reduce: one number of many; list: many of many; string: a word changed. */
export const KINDS = ["reduce", "list", "string"] as const;
export type Kind = (typeof KINDS)[number];

/** One instruction; its id is stable, whatever the seed. */
export interface Instruction {
  /** E.g. "reduce/report-score-big-doubled". */
  readonly id: string;
  readonly kind: Kind;
  readonly text: string;
  /** In the order of the sentence: print, then reduce, filter, map; or filter, map, separator; or the edits. */
  readonly phrases: readonly Phrase[];
  readonly vagueWords: number;
}

/** Meaning of each of an instruction's phrases, in the same order. */
export type Ops = readonly Op[];

function instruction(kind: Kind, text: string, phrases: readonly Phrase[]): Instruction {
  const words = phrases.map((phrase) => phrase.words.replaceAll(" ", "-")).filter((word) => word !== "");
  const vagueWords = phrases.filter(isVague).length;
  return { id: `${kind}/${words.join("-").toLowerCase()}`, kind, text, phrases, vagueWords };
}

const spaced = (words: string): string => (words === "" ? "" : ` ${words}`);

function reduceInstructions(): Instruction[] {
  return PRINTS.flatMap((verb) =>
    REDUCES.flatMap((fold) =>
      FILTERS.flatMap((filter) => {
        // A count has no use for changed elements. The other vague "tally" keeps them: two of its senses use them.
        const maps = fold.words === "count" ? [MAPS[0]!] : MAPS;
        return maps.map((map) =>
          instruction(
            "reduce",
            `Read numbers. ${verb.words} the ${fold.words} of the${spaced(filter.words)} numbers${spaced(map.words)}.`,
            [verb, fold, filter, map],
          ),
        );
      }),
    ),
  );
}

function listInstructions(): Instruction[] {
  return PRINTS.flatMap((verb) =>
    FILTERS.flatMap((filter) =>
      MAPS.flatMap((map) =>
        SEPARATORS.map((separator) =>
          instruction(
            "list",
            `Read numbers. ${verb.words} the${spaced(filter.words)} numbers${spaced(map.words)} ${separator.words}.`,
            [verb, filter, map, separator],
          ),
        ),
      ),
    ),
  );
}

function stringInstructions(): Instruction[] {
  return PRINTS.flatMap((verb) =>
    EDITS.flatMap((first) => [
      instruction("string", `Read a word. ${verb.words} it ${first.words}.`, [verb, first]),
      ...EDITS.filter((second) => second !== first).map((second) =>
        instruction("string", `Read a word. ${verb.words} it ${first.words} and ${second.words}.`, [
          verb,
          first,
          second,
        ]),
      ),
    ]),
  );
}

/** All 4248 instructions, in a fixed order. */
export const INSTRUCTIONS: readonly Instruction[] = [
  ...reduceInstructions(),
  ...listInstructions(),
  ...stringInstructions(),
];
