/**
 * Feedback text in the layouts of SDPO (arXiv 2601.20802; its format_test_feedback, described in words and matched by
 * test vectors): a runtime error first, else a timeout, else a missing program, else the two failing tests whose input
 * and output are shortest.
 */
import { cutEnd } from "./cut.js";

const MAX_TESTS_SHOWN = 2;
const MAX_CHARS = 2000;
const INPUT_LINES = 8;
const LINE_CHARS = 250;
const VALUE_CHARS = 250;
const DEBUG_LINES = 10;
const DEBUG_LINE_CHARS = 300;

export const TRUNCATED_ATTEMPT =
  "Truncated Attempt: Your previous response was too long and truncated because it reached the maximum response length. Try again with a shorter response.";

export function incorrectFormat(fence: string): string {
  return `Incorrect Format: Put your code inside a \`\`\`${fence} ... \`\`\` block.`;
}

/** One test as SDPO records it; the kind of failure is coded in `actual`. */
export interface SdpoRecord {
  readonly test_idx: number;
  readonly input: unknown;
  readonly expected: unknown;
  readonly actual: unknown;
  readonly passed: boolean;
  readonly debug?: string;
}

/** Python's str(): feedback sorts by its length. */
function show(value: unknown): string {
  return typeof value === "string"
    ? value
    : value === null || value === undefined
      ? "None"
      : JSON.stringify(value);
}

function cut(text: string, chars: number): string {
  return text.length > chars ? `${cutEnd(text, chars)}...` : text;
}

/** Looks at the shown lines alone and only counts the rest: an input may have fifty megabytes. */
function cutLines(text: string, lines: number, chars: number): string {
  const shown: string[] = [];
  let at = 0;
  while (shown.length < lines && at <= text.length) {
    const end = text.indexOf("\n", at);
    const stop = end < 0 ? text.length : end;
    shown.push(cut(text.slice(at, stop), chars));
    at = stop + 1;
  }
  let more = 0;
  for (; at <= text.length; more++) {
    const end = text.indexOf("\n", at);
    at = end < 0 ? text.length + 1 : end + 1;
  }
  if (more > 0) shown.push(`... (${more} more lines)`);
  return shown.join("\n");
}

export function showInput(input: unknown): string {
  const text =
    typeof input === "object" && input !== null && !Array.isArray(input)
      ? Object.entries(input)
          .map(([name, value]) => `${name} = ${show(value)}`)
          .join("\n")
      : show(input);
  return cutLines(text.trimEnd(), INPUT_LINES, LINE_CHARS);
}

export function showValue(value: unknown): string {
  return cut(show(value), VALUE_CHARS);
}

export function showDebug(debug: string): string {
  return cutLines(debug, DEBUG_LINES, DEBUG_LINE_CHARS);
}

function debugBlock(debug: string | undefined): string[] {
  const text = (debug ?? "").trimEnd();
  return text === "" ? [] : [`Debug Output\n${showDebug(text)}`];
}

/** Blocks with a blank line between, cut to the whole's budget, which costs the end: as SDPO does. */
function joinBlocks(blocks: readonly string[]): string {
  return cutEnd(blocks.join("\n\n").trimEnd(), MAX_CHARS);
}

function wrongAnswerBlocks(record: SdpoRecord): string[] {
  return [
    `Test Case ${record.test_idx + 1}: Wrong Answer`,
    `Input\n${showInput(record.input)}`,
    `Output\n${showValue(record.actual)}`,
    `Expected\n${showValue(record.expected)}`,
    ...debugBlock(record.debug),
  ];
}

/** The failing tests to show: shortest input and output first. */
export function shortestTests<T extends { readonly input: unknown; readonly actual: unknown }>(
  failing: readonly T[],
): T[] {
  const size = (record: T) => show(record.input).length + show(record.actual).length;
  return [...failing].sort((a, b) => size(a) - size(b)).slice(0, MAX_TESTS_SHOWN);
}

/** SDPO's own function over its own records. */
export function formatTestFeedback(
  records: readonly SdpoRecord[],
  wasTruncated = false,
  fence = "python",
): string {
  if (records.length === 0) return "No test execution information available.";
  const failed = (predicate: (actual: string) => boolean) =>
    records.find((record) => typeof record.actual === "string" && predicate(record.actual));
  const error = failed((actual) => actual.startsWith("Error: "));
  if (error) {
    const message = String(error.actual).slice("Error: ".length);
    return joinBlocks([
      `Runtime Error\n${message}`,
      `Last Executed Input\n${showInput(error.input)}`,
      ...debugBlock(error.debug),
    ]);
  }
  const timeout = failed((actual) => actual === "Time out");
  if (timeout) return joinBlocks(["Time Limit Exceeded", `Last Executed Input\n${showInput(timeout.input)}`]);
  if (failed((actual) => actual === "Incorrect format"))
    return wasTruncated ? TRUNCATED_ATTEMPT : incorrectFormat(fence);
  return joinBlocks(shortestTests(records.filter((record) => !record.passed)).flatMap(wrongAnswerBlocks));
}
