/**
 * How an output is compared with the expected one: byte by byte, so that NUL and invalid UTF-8 are ordinary wrong bytes
 * and white space is that of ASCII; and in one walk over both, for either may have a hundred megabytes.
 */
import type { ComparatorName } from "../core/index.js";
import { sameForSandboxFusion } from "./sandboxfusion-rules.js";

type Compare = (expected: Buffer, actual: Buffer) => boolean;
/** A part of a text: [start, end). */
type Span = readonly [start: number, end: number];

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const INTEGER = /^[+-]?\d+$/;
const ZERO_FRACTION = /^\.0+$/;
/** A little more than 1e-6, so that 0.333333 and 0.333334 are within it in binary as they are on paper. */
const FLOAT_TOLERANCE = 1e-6 * (1 + 1e-9);
/** No number that anybody means is longer; words of megabytes stay bytes. */
const NUMBER_BYTES = 4096;
/** From here on a call into native code is faster. */
const LONG_BYTES = 64;
const NEWLINE = 10;

function isSpace(byte: number): boolean {
  return byte === 32 || (byte >= 9 && byte <= 13);
}

function trimEnd(text: Buffer, start = 0, end = text.length): number {
  let last = end;
  while (last > start && isSpace(text[last - 1]!)) last--;
  return last;
}

function nextWord(text: Buffer, from: number): Span | null {
  let start = from;
  while (start < text.length && isSpace(text[start]!)) start++;
  let end = start;
  while (end < text.length && !isSpace(text[end]!)) end++;
  return start === end ? null : [start, end];
}

/** Lines without white space at their ends, and without that at the end of the whole. */
function nextLine(text: Buffer, from: number, end: number): Span | null {
  if (from > end) return null;
  const newline = text.indexOf(NEWLINE, from);
  const stop = newline < 0 || newline > end ? end : newline;
  return [from, stop];
}

function sameBytes(a: Buffer, [aStart, aEnd]: Span, b: Buffer, [bStart, bEnd]: Span): boolean {
  if (aEnd - aStart !== bEnd - bStart) return false;
  if (aEnd - aStart > LONG_BYTES) return a.compare(b, bStart, bEnd, aStart, aEnd) === 0;
  for (let i = aStart, j = bStart; i < aEnd; ) if (a[i++] !== b[j++]) return false;
  return true;
}

type SameWord = (expected: string, actual: string) => boolean;

/** The same number of words, each equal or the same in the eyes of `same`. */
function sameWords(expected: Buffer, actual: Buffer, same: SameWord): boolean {
  let [want, got] = [nextWord(expected, 0), nextWord(actual, 0)];
  while (want !== null && got !== null) {
    if (!sameBytes(expected, want, actual, got)) {
      if (Math.max(want[1] - want[0], got[1] - got[0]) > NUMBER_BYTES) return false;
      if (!same(expected.toString("latin1", ...want), actual.toString("latin1", ...got))) return false;
    }
    [want, got] = [nextWord(expected, want[1]), nextWord(actual, got[1])];
  }
  return want === got;
}

/** Decimal numbers within 1e-6 of each other, relative or absolute. */
function nearNumber(expected: string, actual: string): boolean {
  if (!DECIMAL.test(expected) || !DECIMAL.test(actual)) return false;
  const [a, b] = [Number(expected), Number(actual)];
  return Math.abs(a - b) <= FLOAT_TOLERANCE * Math.max(1, Math.abs(a));
}

/**
 * Where a whole number is expected, the same one written as a float (240.0 for 240): what a language prints after a
 * division is not what a task asks about. LiveCodeBench is as lenient; 12 of the 485 MBPP references need it.
 */
function wholeAsFloat(expected: string, actual: string): boolean {
  return (
    INTEGER.test(expected) && actual.startsWith(expected) && ZERO_FRACTION.test(actual.slice(expected.length))
  );
}

function sameLines(expected: Buffer, actual: Buffer): boolean {
  const [wantEnd, gotEnd] = [trimEnd(expected), trimEnd(actual)];
  let [want, got] = [nextLine(expected, 0, wantEnd), nextLine(actual, 0, gotEnd)];
  while (want !== null && got !== null) {
    const wantText: Span = [want[0], trimEnd(expected, ...want)];
    const gotText: Span = [got[0], trimEnd(actual, ...got)];
    if (!sameBytes(expected, wantText, actual, gotText)) return false;
    [want, got] = [nextLine(expected, want[1] + 1, wantEnd), nextLine(actual, got[1] + 1, gotEnd)];
  }
  return want === got;
}

function* trimmedLines(text: Buffer): Generator<string> {
  const end = trimEnd(text);
  for (let line = nextLine(text, 0, end); line !== null; line = nextLine(text, line[1] + 1, end))
    yield text.toString("latin1", line[0], trimEnd(text, ...line));
}

/** Counts the lines of the output, which its limit bounds, and takes the expected ones off. */
function sameLinesInAnyOrder(expected: Buffer, actual: Buffer): boolean {
  const counts = new Map<string, number>();
  let surplus = 0;
  for (const line of trimmedLines(actual)) {
    counts.set(line, (counts.get(line) ?? 0) + 1);
    surplus++;
  }
  for (const line of trimmedLines(expected)) {
    const count = counts.get(line) ?? 0;
    if (count === 0) return false;
    counts.set(line, count - 1);
    surplus--;
  }
  return surplus === 0;
}

const COMPARE: Readonly<Record<ComparatorName, Compare>> = {
  tokens: (expected, actual) => sameWords(expected, actual, wholeAsFloat),
  exact: (expected, actual) => expected.equals(actual),
  // Agnostics: trailing white space of the whole output only.
  trailing: (expected, actual) => sameBytes(expected, [0, trimEnd(expected)], actual, [0, trimEnd(actual)]),
  lines: sameLines,
  unordered: sameLinesInAnyOrder,
  float: (expected, actual) => sameWords(expected, actual, nearNumber),
  exit: () => true,
  sandboxfusion: sameForSandboxFusion,
};

/** @param expected - of the task: text, or its UTF-8 bytes; @param actual - bytes that the program printed */
export function sameOutput(comparator: ComparatorName, expected: string | Buffer, actual: Buffer): boolean {
  const bytes = typeof expected === "string" ? Buffer.from(expected, "utf8") : expected;
  return bytes.equals(actual) || COMPARE[comparator](bytes, actual);
}
