/**
 * What a canonical program prints, computed here: a twin of `programOf` for searching tests that tell senses apart,
 * thousands a second. Outputs that tasks keep come from real runs of Lua, and must agree.
 */
import type { Kind, Ops } from "./instructions.js";
import { opOf } from "./programs.js";
import type { EditOp, FilterOp, MapOp, ReduceOp } from "./vocabulary.js";

/** Lua's %: the sign of the divisor. */
const modulo = (a: number, b: number): number => a - b * Math.floor(a / b);

function passes({ test }: FilterOp, x: number): boolean {
  if (test === null) return true;
  const left = test.modulus === undefined ? x : modulo(x, test.modulus);
  switch (test.sign) {
    case "==":
      return left === test.value;
    case "~=":
      return left !== test.value;
    case ">":
      return left > test.value;
    case ">=":
      return left >= test.value;
    case "<":
      return left < test.value;
  }
}

function apply({ sign, value }: MapOp, x: number): number {
  switch (sign) {
    case "none":
      return x;
    case "square":
      return x * x;
    case "negate":
      return -x;
    case "*":
      return x * value;
    case "+":
      return x + value;
    case "-":
      return x - value;
    case "//":
      return Math.floor(x / value);
    case "%":
      return modulo(x, value);
  }
}

function fold({ name }: ReduceOp, elements: readonly number[]): number {
  switch (name) {
    case "sum":
      return elements.reduce((r, x) => r + x, 0);
    case "product":
      return elements.reduce((r, x) => r * x, 1);
    case "count":
      return elements.length;
    case "maximum":
      return Math.max(-100, ...elements);
    case "minimum":
      return Math.min(100, ...elements);
    case "last":
      return elements.at(-1) ?? 0;
  }
}

/** Lua's string.sub: 1-based, inclusive, negative from the end. */
function part(s: string, from: number, to: number): string {
  const start = from < 0 ? Math.max(s.length + from + 1, 1) : Math.max(from, 1);
  const end = to < 0 ? s.length + to + 1 : Math.min(to, s.length);
  return start > end ? "" : s.slice(start - 1, end);
}

function change(s: string, { edit }: EditOp): string {
  switch (edit.kind) {
    case "reverse":
      return [...s].reverse().join("");
    case "upper":
      return s.toUpperCase();
    case "repeat":
      return s + s;
    case "part":
      return part(s, edit.from, edit.to ?? -1);
    case "wrap":
      return edit.before + s + edit.after;
  }
}

function shownValue(kind: Kind, ops: Ops, input: string): string {
  if (kind === "string") {
    const edits = ops.filter((op): op is EditOp => op.slot === "edit");
    return edits.reduce(change, input.trimEnd());
  }
  const numbers = input
    .split(/\s+/)
    .filter((each) => each !== "")
    .map(Number);
  const [filter, map] = [opOf(ops, "filter"), opOf(ops, "map")];
  // Adding 0 turns JavaScript's -0 into 0: Lua's integers have no -0.
  const elements = numbers.filter((x) => passes(filter, x)).map((x) => apply(map, x) + 0);
  return kind === "list"
    ? elements.join(opOf(ops, "separator").text)
    : String(fold(opOf(ops, "reduce"), elements));
}

/** @returns what the program prints on stdout, newline included */
export function outputOf(kind: Kind, ops: Ops, input: string): string {
  const { before, after } = opOf(ops, "print");
  return `${before}${shownValue(kind, ops, input)}${after}\n`;
}
