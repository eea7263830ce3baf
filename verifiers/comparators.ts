/**
 * How an output is compared with the expected one. Both come as latin1 views of their bytes, so that NUL and invalid
 * UTF-8 are ordinary wrong bytes, and white space is ASCII white space.
 */
import { isUtf8 } from "node:buffer";
import type { ComparatorName } from "../core/index.js";

type Compare = (expected: string, actual: string) => boolean;

const SPACE = /[ \t\n\r\v\f]+/;
const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const INTEGER = /^[+-]?\d+$/;
const ZERO_FRACTION = /^\.0+$/;
/** A little more than 1e-6, so that 0.333333 and 0.333334 are within it in binary as they are on paper. */
const FLOAT_TOLERANCE = 1e-6 * (1 + 1e-9);

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

/** What Python's str.strip() takes away. */
const PYTHON_SPACES = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
);
const PYTHON_FLOAT = /^[+-]?(\d+(_\d+)*\.?|(\d+(_\d+)*)?\.\d+(_\d+)*)(e[+-]?\d+(_\d+)*)?$/;
const FUSION_TOLERANCE = 1e-5;

function strip(text: string): string {
  let end = text.length;
  while (end > 0 && PYTHON_SPACES.has(text[end - 1]!)) end--;
  let start = 0;
  while (start < end && PYTHON_SPACES.has(text[start]!)) start++;
  return text.slice(start, end);
}

/** Lines of the same case-folded text, or both one number alone, within 1e-5 of the expected one. */
function sameFusionLine(expected: string, actual: string): boolean {
  const [want, got] = [strip(expected.toLowerCase()), strip(actual.toLowerCase())];
  if (want === got) return true;
  if (!PYTHON_FLOAT.test(want) || !PYTHON_FLOAT.test(got)) return false;
  const [a, b] = [want, got].map((number) => Number(number.replaceAll("_", ""))) as [number, number];
  return Math.abs(a - b) / Math.max(Math.abs(a), 1e-15) < FUSION_TOLERANCE;
}

/** SandboxFusion's default rules (its sandbox/utils/testing.py), for scores that compare with those measured there. */
function sameForSandboxFusion(expected: string, actual: string): boolean {
  const [want, got] = [expected, actual].map((text) => strip(asText(text)).split("\n")) as [
    string[],
    string[],
  ];
  return want.length === got.length && want.every((line, i) => sameFusionLine(line, got[i]!));
}

/** The text behind a latin1 view; bytes that are no UTF-8 stay as they are, and equal nothing but themselves. */
function asText(latin1: string): string {
  const bytes = Buffer.from(latin1, "latin1");
  return isUtf8(bytes) ? bytes.toString("utf8") : latin1;
}

const COMPARE: Readonly<Record<ComparatorName, Compare>> = {
  tokens: (expected, actual) => sameTokens(expected, actual, sameToken),
  exact: (expected, actual) => expected === actual,
  // Agnostics: trailing white space of the whole output only.
  trailing: (expected, actual) => trimEnd(expected) === trimEnd(actual),
  lines: (expected, actual) => sameList(trimmedLines(expected), trimmedLines(actual)),
  unordered: (expected, actual) => sameList(trimmedLines(expected).sort(), trimmedLines(actual).sort()),
  float: (expected, actual) => sameTokens(expected, actual, sameNumber),
  exit: () => true,
  sandboxfusion: sameForSandboxFusion,
};

/** @param expected - text of the task; @param actual - bytes that the program printed */
export function sameOutput(comparator: ComparatorName, expected: string, actual: Buffer): boolean {
  return COMPARE[comparator](Buffer.from(expected, "utf8").toString("latin1"), actual.toString("latin1"));
}
