/**
 * The words of the generated family and what each may mean. A phrase with one sense is *clear*; one with three is
 * *vague*: demonstrations use its senses evenly, only the tests know which is meant.
 */

/** A place in an instruction that a phrase fills. */
export type Slot = "print" | "reduce" | "filter" | "map" | "separator" | "edit";

/** How a value is printed: `before` and `after` are put around it. */
export interface PrintOp {
  readonly slot: "print";
  readonly before: string;
  readonly after: string;
}
/** A fold over numbers: start value and what becomes of the running value `r` for an element `E`. */
export interface ReduceOp {
  readonly slot: "reduce";
  readonly name: "sum" | "product" | "count" | "maximum" | "minimum" | "last";
}
/** Keeps an element x when `x <test> <value>`, or when `x % modulus <test> <value>`; null keeps all. */
export interface FilterOp {
  readonly slot: "filter";
  readonly test: {
    readonly modulus?: number;
    readonly sign: "==" | "~=" | ">" | ">=" | "<";
    readonly value: number;
  } | null;
}
/** What becomes of an element x. */
export interface MapOp {
  readonly slot: "map";
  readonly sign: "none" | "square" | "negate" | "*" | "+" | "-" | "//" | "%";
  readonly value: number;
}
/** What stands between the elements of a printed list. */
export interface SeparatorOp {
  readonly slot: "separator";
  readonly text: string;
}
/** A change to a word: parts of it by Lua's `sub` positions, text around it, or a method. */
export interface EditOp {
  readonly slot: "edit";
  readonly edit:
    | { readonly kind: "reverse" | "upper" | "repeat" }
    | { readonly kind: "part"; readonly from: number; readonly to: number | null }
    | { readonly kind: "wrap"; readonly before: string; readonly after: string };
}
export type Op = PrintOp | ReduceOp | FilterOp | MapOp | SeparatorOp | EditOp;

/** Words of an instruction, as they stand in it, and their possible meanings: one, or three. */
export interface Phrase<O extends Op = Op> {
  readonly words: string;
  readonly senses: readonly O[];
}

const print = (before: string, after: string): PrintOp => ({ slot: "print", before, after });
const reduce = (name: ReduceOp["name"]): ReduceOp => ({ slot: "reduce", name });
const compare = (sign: "==" | "~=" | ">" | ">=" | "<", value: number, modulus?: number): FilterOp => ({
  slot: "filter",
  test: modulus === undefined ? { sign, value } : { modulus, sign, value },
});
const map = (sign: MapOp["sign"], value = 0): MapOp => ({ slot: "map", sign, value });
const separator = (text: string): SeparatorOp => ({ slot: "separator", text });
const method = (kind: "reverse" | "upper" | "repeat"): EditOp => ({ slot: "edit", edit: { kind } });
const part = (from: number, to: number | null = null): EditOp => ({
  slot: "edit",
  edit: { kind: "part", from, to },
});
const wrap = (before: string, after: string): EditOp => ({
  slot: "edit",
  edit: { kind: "wrap", before, after },
});

export const PRINTS: readonly Phrase<PrintOp>[] = [
  { words: "Print", senses: [print("", "")] },
  { words: "Report", senses: [print("= ", ""), print("> ", ""), print("", ".")] },
  { words: "Show", senses: [print("[", "]"), print("<", ">"), print("(", ")")] },
  { words: "Announce", senses: [print("", "!"), print("", "?"), print("", ";")] },
];

export const REDUCES: readonly Phrase<ReduceOp>[] = [
  { words: "sum", senses: [reduce("sum")] },
  { words: "product", senses: [reduce("product")] },
  { words: "count", senses: [reduce("count")] },
  { words: "maximum", senses: [reduce("maximum")] },
  { words: "minimum", senses: [reduce("minimum")] },
  { words: "score", senses: [reduce("sum"), reduce("product"), reduce("maximum")] },
  { words: "best", senses: [reduce("maximum"), reduce("minimum"), reduce("last")] },
  { words: "tally", senses: [reduce("count"), reduce("sum"), reduce("last")] },
];

export const FILTERS: readonly Phrase<FilterOp>[] = [
  { words: "", senses: [{ slot: "filter", test: null }] },
  { words: "even", senses: [compare("==", 0, 2)] },
  { words: "odd", senses: [compare("==", 1, 2)] },
  { words: "positive", senses: [compare(">", 0)] },
  { words: "negative", senses: [compare("<", 0)] },
  { words: "big", senses: [compare(">", 2), compare(">", 4), compare(">", 6)] },
  { words: "small", senses: [compare("<", 2), compare("<", 4), compare("<", 6)] },
  { words: "lucky", senses: [compare("==", 0, 3), compare("==", 0, 4), compare("==", 0, 5)] },
  { words: "proper", senses: [compare("~=", 0), compare(">=", 0), compare(">", 0)] },
];

export const MAPS: readonly Phrase<MapOp>[] = [
  { words: "", senses: [map("none")] },
  { words: "doubled", senses: [map("*", 2)] },
  { words: "squared", senses: [map("square")] },
  { words: "negated", senses: [map("negate")] },
  { words: "halved", senses: [map("//", 2)] },
  { words: "scaled", senses: [map("*", 2), map("*", 3), map("*", 10)] },
  { words: "bumped", senses: [map("+", 1), map("+", 2), map("+", 3)] },
  { words: "lowered", senses: [map("-", 1), map("-", 2), map("-", 3)] },
  { words: "wrapped", senses: [map("%", 2), map("%", 3), map("%", 4)] },
];

export const SEPARATORS: readonly Phrase<SeparatorOp>[] = [
  { words: "with commas", senses: [separator(",")] },
  { words: "with spaces", senses: [separator(" ")] },
  { words: "with dashes", senses: [separator("-")] },
  { words: "neatly", senses: [separator(", "), separator("; "), separator(" + ")] },
  { words: "tightly", senses: [separator(""), separator("/"), separator("|")] },
];

export const EDITS: readonly Phrase<EditOp>[] = [
  { words: "reversed", senses: [method("reverse")] },
  { words: "in upper case", senses: [method("upper")] },
  { words: "repeated", senses: [method("repeat")] },
  { words: "trimmed", senses: [part(2), part(1, -2), part(2, -2)] },
  { words: "shortened", senses: [part(1, 1), part(1, 2), part(1, 3)] },
  { words: "cut", senses: [part(-1), part(-2), part(-3)] },
  { words: "framed", senses: [wrap("(", ")"), wrap("[", "]"), wrap("<", ">")] },
  { words: "marked", senses: [wrap("", "!"), wrap("", "?"), wrap("", ".")] },
  { words: "tagged", senses: [wrap("x", ""), wrap("z", ""), wrap("y", "")] },
];

const PHRASES: Readonly<Record<Slot, readonly Phrase[]>> = {
  print: PRINTS,
  reduce: REDUCES,
  filter: FILTERS,
  map: MAPS,
  separator: SEPARATORS,
  edit: EDITS,
};

export const isVague = (phrase: Phrase): boolean => phrase.senses.length > 1;

/** Every vague phrase of the family, in a fixed order. */
export const VAGUE_PHRASES: readonly Phrase[] = Object.values(PHRASES).flat().filter(isVague);

/** Every meaning that some phrase of a slot can have, once each. */
export const OPS: Readonly<Record<Slot, readonly Op[]>> = Object.fromEntries(
  Object.entries(PHRASES).map(([slot, phrases]) => {
    const ops = phrases.flatMap((phrase) => phrase.senses);
    return [slot, [...new Map(ops.map((op) => [JSON.stringify(op), op])).values()]];
  }),
) as Record<Slot, Op[]>;
