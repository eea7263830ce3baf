/**
 * What a self-teacher may read of a verdict, in SDPO's layouts, for any language: visible tests only, messages without
 * host paths or addresses, the same text each time. "" when every visible test passed.
 */
import type { Checker, IoTest, Status, TestOutcome } from "../core/index.js";
import { cutMiddle } from "./judge.js";
import type { Language } from "./languages.js";
import {
  incorrectFormat,
  joinBlocks,
  type SdpoRecord,
  shortestTests,
  showInput,
  showValue,
  TRUNCATED_ATTEMPT,
  wrongAnswerBlocks,
} from "./sdpo-feedback.js";

export interface FeedbackOptions {
  /** Characters of a compiler's or interpreter's message, cut in the middle. Default 700. */
  readonly messageChars?: number;
  /** Characters in all. Default 2000, as SDPO. */
  readonly maxChars?: number;
}

const MESSAGE_CHARS = 700;
const MAX_CHARS = 2000;
const LIMIT_TITLES: Partial<Record<Status, string>> = {
  time_limit: "Time Limit Exceeded",
  memory_limit: "Memory Limit Exceeded",
  output_limit: "Output Limit Exceeded",
};
const SIGNAL_WORDS: Readonly<Record<string, string>> = {
  SIGSEGV: "segmentation fault",
  SIGABRT: "aborted",
  SIGFPE: "arithmetic error",
  SIGILL: "illegal instruction",
  SIGBUS: "bus error",
  SIGKILL: "killed",
  SIGXFSZ: "file too large",
  SIGSYS: "forbidden system call",
};

/** Paths made relative to the program, addresses and process numbers taken out. */
export function cleanMessage(
  raw: string,
  language: Pick<Language, "messages">,
  chars = MESSAGE_CHARS,
): string {
  let lines = raw.replaceAll("\r", "").split("\n");
  const { until, remove = [] } = language.messages ?? {};
  const stop = until === undefined ? -1 : lines.findIndex((line) => new RegExp(until).test(line));
  if (stop >= 0) lines = lines.slice(0, stop);
  let text = lines.join("\n");
  for (const pattern of remove) text = text.replace(new RegExp(pattern, "gm"), "");
  text = text
    .replace(/(?:file:\/\/)?\/(?:w|tmp)\/(?=[\w.+-])/g, "")
    .replace(/0x[0-9a-fA-F]{5,}/g, "0x...")
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n")
    .replace(/\n{3,}/g, "\n\n")
    .trim();
  return cutMiddle(text, chars);
}

/** How a run ended that no limit stopped. */
export function endingOf(test: TestOutcome): string {
  if (test.signal !== null) {
    const words = SIGNAL_WORDS[test.signal];
    return `Killed by ${test.signal}${words ? ` (${words})` : ""}`;
  }
  return `Exited with status ${test.exit_code ?? "unknown"}`;
}

export function compileFeedback(
  compile: TestOutcome,
  language: Language,
  options: FeedbackOptions = {},
): string {
  const message = cleanMessage(compile.stderr.trim() || compile.stdout, language, options.messageChars);
  return joinBlocks([`Compile Error\n${message || endingOf(compile)}`], options.maxChars ?? MAX_CHARS);
}

export function missingProgramFeedback(language: Language, isTruncated: boolean): string {
  return isTruncated ? TRUNCATED_ATTEMPT : incorrectFormat(language.fences[0] ?? language.name);
}

/** @param outcomes - [tests that ran], in order; may be shorter than `tests` */
export function testFeedback(
  tests: readonly IoTest[],
  outcomes: readonly TestOutcome[],
  language: Language,
  options: FeedbackOptions = {},
  checker: Checker | null = null,
): string {
  const maxChars = options.maxChars ?? MAX_CHARS;
  const failing = outcomes
    .map((outcome, i) => ({ outcome, test: tests[i]!, test_idx: i }))
    .filter(({ outcome, test }) => test.visible && outcome.status !== "accepted");
  const crashed = failing.find(({ outcome }) => outcome.status === "runtime_error");
  if (crashed) {
    const message =
      cleanMessage(crashed.outcome.stderr, language, options.messageChars) || endingOf(crashed.outcome);
    return joinBlocks(
      [`Runtime Error\n${message}`, `Last Executed Input\n${showInput(crashed.test.input)}`],
      maxChars,
    );
  }
  for (const status of ["time_limit", "memory_limit", "output_limit"] as const) {
    const stopped = failing.find(({ outcome }) => outcome.status === status);
    if (stopped)
      return joinBlocks(
        [LIMIT_TITLES[status]!, `Last Executed Input\n${showInput(stopped.test.input)}`],
        maxChars,
      );
  }
  const records = failing.map(({ outcome, test, test_idx }) => ({
    test_idx,
    input: test.input,
    expected: test.output.trim(),
    actual: outcome.stdout.trim(),
    passed: false,
    message: outcome.message ?? "",
  }));
  const blocksOf =
    checker === null ? wrongAnswerBlocks : (record: CheckedRecord) => checkedBlocks(record, checker);
  return joinBlocks(shortestTests(records).flatMap(blocksOf), maxChars);
}

type CheckedRecord = SdpoRecord & { readonly message: string };

/** SDPO's layout with the checker's words. Its expected output is one of those that are right, if it is one at all. */
function checkedBlocks(record: CheckedRecord, { accepts_answer }: Checker): string[] {
  const hasExample = accepts_answer && record.expected !== "";
  return [
    ...wrongAnswerBlocks(record).slice(0, -1),
    ...(hasExample ? [`Expected, for example\n${showValue(record.expected)}`] : []),
    ...(record.message === "" ? [] : [`Checker\n${record.message}`]),
  ];
}
