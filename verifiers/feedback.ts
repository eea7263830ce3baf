/**
 * What a self-teacher may read of a verdict, in SDPO's layouts, for any language: visible tests only, messages without
 * host paths or addresses, the same text each time. "" when every visible test passed.
 */
import type { Checker, IoTest, TestOutcome } from "../core/index.js";
import { type Block, fitBlocks } from "./cut.js";
import type { Language } from "./languages.js";
import { cleanMessage, compilerMessage, visible } from "./message.js";
import {
  incorrectFormat,
  shortestTests,
  showDebug,
  showInput,
  showValue,
  TRUNCATED_ATTEMPT,
} from "./sdpo-feedback.js";

export interface FeedbackOptions {
  /** Characters of a compiler's or interpreter's message, cut in the middle. Default 700. */
  readonly messageChars?: number;
  /** Characters in all. Default 2000, as SDPO. */
  readonly maxChars?: number;
  /** Of source that the policy may not read, trimmed: a line of a message that quotes one is left out. */
  readonly secretLines?: readonly string[];
}

const MAX_CHARS = 2000;
/** In the order in which one is told before another. */
const LIMIT_TITLES = {
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
  const raw = withoutSecrets(compile.stderr.trim() || compile.stdout, options.secretLines);
  const message = compilerMessage(raw, language, options.messageChars);
  return fitted([{ title: "Compile Error", body: message || endingOf(compile) }], options);
}

export function missingProgramFeedback(language: Language, isTruncated: boolean): string {
  return isTruncated ? TRUNCATED_ATTEMPT : incorrectFormat(language.fences[0] ?? language.name);
}

/**
 * @param outcomes - [tests that ran], in order; may be shorter than `tests`
 * @param checker - the program that judged the outputs, if one did
 */
export function testFeedback(
  tests: readonly IoTest[],
  outcomes: readonly TestOutcome[],
  language: Language,
  options: FeedbackOptions = {},
  checker: Checker | null = null,
): string {
  const failing = outcomes
    .map((outcome, i) => ({ outcome, test: tests[i]!, test_idx: i }))
    .filter(({ outcome, test }) => test.visible && outcome.status !== "accepted");
  const said = ({ stderr }: TestOutcome) =>
    cleanMessage(withoutSecrets(stderr, options.secretLines), language, options.messageChars);
  const lastInput = (test: IoTest): Block => ({
    title: "Last Executed Input",
    body: visible(showInput(test.input)),
  });
  const crashed = failing.find(({ outcome }) => outcome.status === "runtime_error");
  if (crashed) {
    const message = said(crashed.outcome) || endingOf(crashed.outcome);
    return fitted([{ title: "Runtime Error", body: message }, lastInput(crashed.test)], options);
  }
  for (const [status, title] of Object.entries(LIMIT_TITLES)) {
    const stopped = failing.find(({ outcome }) => outcome.status === status);
    if (stopped) return fitted([{ title }, lastInput(stopped.test)], options);
  }
  const records = failing.map(({ outcome, test, test_idx }) => ({
    test_idx,
    input: test.input,
    expected: test.output.trim(),
    actual: outcome.stdout.trim(),
    debug: said(outcome),
    message: outcome.message ?? "",
  }));
  return fitted(
    shortestTests(records).flatMap((record) => wrongAnswer(record, checker)),
    options,
  );
}

interface WrongAnswer {
  readonly test_idx: number;
  readonly input: string;
  readonly expected: string;
  readonly actual: string;
  /** What the program wrote on stderr. */
  readonly debug: string;
  /** The checker's. */
  readonly message: string;
}

/** With a checker, the expected output is one of those that are right, if it is one at all. */
function wrongAnswer(record: WrongAnswer, checker: Checker | null): Block[] {
  const hasExample = checker?.accepts_answer && record.expected !== "";
  const expected: Block[] =
    checker === null || hasExample
      ? [{ title: checker ? "Expected, for example" : "Expected", body: visible(showValue(record.expected)) }]
      : [];
  return [
    { title: `Test Case ${record.test_idx + 1}: Wrong Answer` },
    { title: "Input", body: visible(showInput(record.input)) },
    { title: "Output", body: visible(showValue(record.actual)) },
    ...expected,
    ...(record.message === "" ? [] : [{ title: "Checker", body: visible(record.message) }]),
    ...(record.debug === "" ? [] : [{ title: "Debug Output", body: showDebug(record.debug) }]),
  ];
}

const fitted = (blocks: readonly Block[], { maxChars = MAX_CHARS }: FeedbackOptions): string =>
  fitBlocks(blocks, maxChars);

/** A compiler quotes the lines that it complains of, and an interpreter those that it was in. */
function withoutSecrets(message: string, secretLines: readonly string[] = []): string {
  if (secretLines.length === 0) return message;
  const isSecret = (line: string) => secretLines.some((secret) => line.includes(secret));
  return message
    .split("\n")
    .filter((line) => !isSecret(line))
    .join("\n");
}
