/** The canonical Lua program of an instruction whose every phrase has been given a meaning. */
import type { Kind, Ops } from "./instructions.js";
import type { EditOp, FilterOp, MapOp, Op, PrintOp, ReduceOp, SeparatorOp, Slot } from "./vocabulary.js";

type OpOf<S extends Slot> = Extract<Op, { readonly slot: S }>;

/** The one op of a slot. @throws Error where an instruction of that kind has none: ops of another instruction */
export function opOf<S extends Slot>(ops: Ops, slot: S): OpOf<S> {
  const found = ops.find((op): op is OpOf<S> => op.slot === slot);
  if (found === undefined) throw new Error(`no ${slot} op in ${JSON.stringify(ops)}`);
  return found;
}

const quoted = (text: string): string => `"${text}"`;

function printLine({ before, after }: PrintOp, value: string): string {
  const parts = [before && quoted(before), value, after && quoted(after)].filter((each) => each !== "");
  return `print(${parts.join(" .. ")})`;
}

export function condition({ test }: FilterOp): string | null {
  if (test === null) return null;
  const left = test.modulus === undefined ? "x" : `x % ${test.modulus}`;
  return `${left} ${test.sign} ${test.value}`;
}

export function mapped({ sign, value }: MapOp): string {
  switch (sign) {
    case "none":
      return "x";
    case "square":
      return "x * x";
    case "negate":
      return "-x";
    default:
      return `x ${sign} ${value}`;
  }
}

const STARTS: Readonly<Record<ReduceOp["name"], number>> = {
  sum: 0,
  product: 1,
  count: 0,
  maximum: -100,
  minimum: 100,
  last: 0,
};

function folded({ name }: ReduceOp, element: string): string {
  switch (name) {
    case "sum":
      return `r + ${element}`;
    case "product":
      // `r * x + 1` would be another number than r times (x + 1).
      return element === "x" ? "r * x" : `r * (${element})`;
    case "count":
      return "r + 1";
    case "maximum":
      return `math.max(r, ${element})`;
    case "minimum":
      return `math.min(r, ${element})`;
    case "last":
      return element;
  }
}

export function edited({ edit }: EditOp): string {
  switch (edit.kind) {
    case "reverse":
      return "s:reverse()";
    case "upper":
      return "s:upper()";
    case "repeat":
      return "s .. s";
    case "part":
      return edit.to === null ? `s:sub(${edit.from})` : `s:sub(${edit.from}, ${edit.to})`;
    case "wrap":
      return [edit.before && quoted(edit.before), "s", edit.after && quoted(edit.after)]
        .filter((each) => each !== "")
        .join(" .. ");
  }
}

function loop(filter: FilterOp, body: string): string[] {
  const test = condition(filter);
  const inner = test === null ? [`  ${body}`] : [`  if ${test} then`, `    ${body}`, "  end"];
  return ['for x in io.lines(nil, "n") do', ...inner, "end"];
}

function reduceProgram(ops: Ops): string[] {
  const fold = opOf(ops, "reduce");
  const body = `r = ${folded(fold, mapped(opOf(ops, "map")))}`;
  return [
    `local r = ${STARTS[fold.name]}`,
    ...loop(opOf(ops, "filter"), body),
    printLine(opOf(ops, "print"), "r"),
  ];
}

function listProgram(ops: Ops): string[] {
  const between: SeparatorOp = opOf(ops, "separator");
  return [
    "local t = {}",
    ...loop(opOf(ops, "filter"), `t[#t + 1] = ${mapped(opOf(ops, "map"))}`),
    printLine(opOf(ops, "print"), `table.concat(t, ${quoted(between.text)})`),
  ];
}

function stringProgram(ops: Ops): string[] {
  const edits = ops.filter((op): op is EditOp => op.slot === "edit");
  return [
    "local s = io.read()",
    ...edits.map((op) => `s = ${edited(op)}`),
    printLine(opOf(ops, "print"), "s"),
  ];
}

/** @param ops - one op for each phrase of the instruction, in its order */
export function programOf(kind: Kind, ops: Ops): string {
  const lines = { reduce: reduceProgram, list: listProgram, string: stringProgram }[kind](ops);
  return lines.join("\n");
}
