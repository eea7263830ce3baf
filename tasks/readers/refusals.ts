/** Why a row does not become a task, or a test is left out: every reason has a name, and nothing is dropped without one. */

/** Reasons, in the words of a report. */
export const REASONS = {
  not_json: "the line is not JSON",
  not_utf8: "the line is not UTF-8",
  too_large: "the row is too long to be read",
  wrong_shape: "the row is not of the format",
  unsupported: "the row is of the format, and cannot be judged here",
  not_stdin: "the problem asks for a function, not for a program that reads stdin",
  outside_dates: "the problem is not of the dates asked for",
  empty_prompt: "the prompt is empty",
  no_tests: "there are no tests, so every program would pass",
  too_few_tests: "there are fewer tests than asked for",
  blank_test: "a test has no input or no output, where that means nothing",
  no_answer: "no test expects any output, so a program that prints nothing would pass",
  contradictory_tests: "two tests have the same input and different outputs",
  control_characters: "a text holds control characters or half a character",
  duplicate_id: "an earlier task has the id",
  duplicate_task: "an earlier task has the same prompt and tests",
  duplicate_test: "an earlier test of the task is the same",
} as const;
export type Reason = keyof typeof REASONS;

/** Thrown by whoever reads a row; caught where rows are counted. */
export class RowRefused extends Error {
  override readonly name = "RowRefused";
  readonly reason: Reason;
  constructor(reason: Reason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** A piece of a text that fits a message. */
export function excerpt(text: string, chars = 60): string {
  const shown = JSON.stringify(text.length > chars ? text.slice(0, chars) : text);
  return text.length > chars ? `${shown}... (${text.length} characters)` : shown;
}
