/**
 * What SandboxFusion accepts by default (its sandbox/utils/testing.py), for scores that compare with those measured there:
 * both outputs stripped, as many lines, each stripped and in lower case the same, or one number within 1e-5 of the expected.
 */
import { isUtf8 } from "node:buffer";

/** What Python's str.strip() takes away. */
const PYTHON_SPACES = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000",
);
const PYTHON_FLOAT = /^[+-]?(\d+(_\d+)*\.?|(\d+(_\d+)*)?\.\d+(_\d+)*)(e[+-]?\d+(_\d+)*)?$/;
const TOLERANCE = 1e-5;
const SMALLEST = 1e-15;
const NEWLINE = 10;

function strip(text: string): string {
  let end = text.length;
  while (end > 0 && PYTHON_SPACES.has(text[end - 1]!)) end--;
  let start = 0;
  while (start < end && PYTHON_SPACES.has(text[start]!)) start++;
  return text.slice(start, end);
}

/**
 * Lines, stripped and in lower case, without the empty ones that stripping the whole takes away. Bytes that are no UTF-8
 * stay as they are, and equal nothing but themselves.
 */
function* linesOf(bytes: Buffer): Generator<string, null> {
  const encoding = isUtf8(bytes) ? "utf8" : "latin1";
  let hasBegun = false;
  let empty = 0;
  for (let start = 0; start <= bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, start);
    const end = newline < 0 ? bytes.length : newline;
    const line = strip(bytes.toString(encoding, start, end).toLowerCase());
    start = end + 1;
    if (line === "") {
      empty++;
      continue;
    }
    for (; hasBegun && empty > 0; empty--) yield "";
    [hasBegun, empty] = [true, 0];
    yield line;
  }
  return null;
}

function sameLine(expected: string, actual: string): boolean {
  if (expected === actual) return true;
  if (!PYTHON_FLOAT.test(expected) || !PYTHON_FLOAT.test(actual)) return false;
  const [a, b] = [expected, actual].map((number) => Number(number.replaceAll("_", ""))) as [number, number];
  return Math.abs(a - b) / Math.max(Math.abs(a), SMALLEST) < TOLERANCE;
}

export function sameForSandboxFusion(expected: Buffer, actual: Buffer): boolean {
  const [wanted, printed] = [linesOf(expected), linesOf(actual)];
  for (;;) {
    const [want, got] = [wanted.next().value, printed.next().value];
    if (want === null || got === null) return want === got;
    if (!sameLine(want, got)) return false;
  }
}
