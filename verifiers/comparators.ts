/**
 * How an output is compared with the expected one. Both come as latin1 views of their bytes, so that NUL and invalid
 * UTF-8 are ordinary wrong bytes, and white space is ASCII white space.
 */
import type { Comparator } from "../core/index.js";

type Compare = (expected: string, actual: string) => boolean;

const SPACE = /[ \t\n\r\v\f]+/;
const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const INTEGER = /^[+-]?\d+$/;
const ZERO_FRACTION = /^\.0+$/;
const FLOAT_TOLERANCE = 1e-6;

/** Without regular expressions: `/\s+$/` is quadratic in a long run of inner spaces. */
function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace(text.charCodeAt(end - 1))) end--;
  return text.slice(0, end);
}

function isSpace(code: number): boolean {
  return code === 32 || (code >= 9 && code <= 13);
}

function tokens(text: string): string[] {
  return text.split(SPACE).filter((token) => token !== "");
}

function trimmedLines(text: string): string[] {
  return trimEnd(text).split("\n").map(trimEnd);
}

function sameList(expected: readonly string[], actual: readonly string[]): boolean {
  return expected.length === actual.length && expected.every((item, i) => item === actual[i]);
}

function sameTokens(expected: string, actual: string, same: Compare): boolean {
  const [want, got] = [tokens(expected), tokens(actual)];
  return want.length === got.length && want.every((token, i) => same(token, got[i]!));
}

/** Equal text, or decimal numbers within 1e-6 of each other, relative or absolute. */
function sameNumber(expected: string, actual: string): boolean {
  if (expected === actual) return true;
  if (!DECIMAL.test(expected) || !DECIMAL.test(actual)) return false;
  const [a, b] = [Number(expected), Number(actual)];
  return Math.abs(a - b) <= FLOAT_TOLERANCE * Math.max(1, Math.abs(a));
}

/**
 * Equal text; and where a whole number is expected, the same one written as a float (240.0 for 240): what a language prints
 * after a division is not what a task asks about. LiveCodeBench is as lenient; 12 of the 485 MBPP references need it.
 */
function sameToken(expected: string, actual: string): boolean {
  if (expected === actual) return true;
  return (
    INTEGER.test(expected) && actual.startsWith(expected) && ZERO_FRACTION.test(actual.slice(expected.length))
  );
}

const COMPARE: Readonly<Record<Comparator, Compare>> = {
  tokens: (expected, actual) => sameTokens(expected, actual, sameToken),
  exact: (expected, actual) => expected === actual,
  // Agnostics: trailing white space of the whole output only.
  trailing: (expected, actual) => trimEnd(expected) === trimEnd(actual),
  lines: (expected, actual) => sameList(trimmedLines(expected), trimmedLines(actual)),
  unordered: (expected, actual) => sameList(trimmedLines(expected).sort(), trimmedLines(actual).sort()),
  float: (expected, actual) => sameTokens(expected, actual, sameNumber),
  exit: () => true,
};

/** @param expected - text of the task; @param actual - bytes that the program printed */
export function sameOutput(comparator: Comparator, expected: string, actual: Buffer): boolean {
  return COMPARE[comparator](Buffer.from(expected, "utf8").toString("latin1"), actual.toString("latin1"));
}
