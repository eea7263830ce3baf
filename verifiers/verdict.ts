/** From what the broker reports of a program to its verdict. */
import { type Checker, comparatorName, type Task, type TestOutcome, type Verdict } from "../core/index.js";
import { compileFeedback, type FeedbackOptions, missingProgramFeedback, testFeedback } from "./feedback.js";
import type { JobResult } from "./job.js";
import { programStatus } from "./judge.js";
import { installHint, type Language } from "./languages.js";

function harnessOf({ harness }: Task, { name, aliases }: Language) {
  return [name, ...aliases].map((key) => harness?.[key]).find((found) => found !== undefined);
}

/** The program between the harness that the task has for its language, if any. */
export function withHarness(program: string, task: Task, language: Language): string {
  const harness = harnessOf(task, language);
  if (!harness) return program;
  return [harness.before, program, harness.after].filter((part) => part !== "").join("\n");
}

/** A reason with what helps: how to install a missing tool, or to make a mount readable. */
export function withInstall(reason: string, language: Language): string {
  if (/Can't find source path .*: Permission denied/.test(reason))
    return `${reason} (programs run as another user than root, who may not enter this place of the mounts of ${language.name}: put the tool into /opt, or open the folders above it)`;
  const hint = installHint(language);
  const isMissing = /No such file|not found/.test(reason);
  return isMissing && hint !== null
    ? `${reason} (to install ${language.name}: ${hint.replaceAll("\n", "; ")})`
    : reason;
}

export function checkerOf({ comparator }: Task): Checker | null {
  return typeof comparator === "string" ? null : comparator.checker;
}

/** Too short to be told from any other line. */
const SECRET_LINE_CHARS = 6;

/** Lines of the harness, where some tests are hidden: its assertions are those tests. */
function secretLines(task: Task, language: Language): string[] {
  if (task.tests.every(({ visible }) => visible)) return [];
  const { before = "", after = "" } = harnessOf(task, language) ?? {};
  const lines = `${before}\n${after}`.split("\n").map((line) => line.trim());
  return lines.filter((line) => line.length >= SECRET_LINE_CHARS);
}

export function noProgramVerdict(task: Task, language: Language, isTruncated: boolean): Verdict {
  return {
    status: "no_program",
    reward: 0,
    passed: 0,
    total: task.tests.length,
    tests: [],
    feedback: missingProgramFeedback(language, isTruncated),
    comparator: comparatorName(task.comparator),
    cached: false,
  };
}

/** @param tools - the language whose tools an infrastructure failure may be for want of */
export function verdictOf(
  task: Task,
  language: Language,
  result: JobResult,
  tools: Language = language,
  budgets: FeedbackOptions = {},
): Verdict {
  const options = { ...budgets, secretLines: secretLines(task, language) };
  const base = { total: task.tests.length, comparator: comparatorName(task.comparator), cached: false };
  if (result.infrastructure !== null) {
    const reason = withInstall(result.infrastructure, tools);
    return { ...base, status: "infrastructure", reward: null, passed: 0, tests: [], feedback: "", reason };
  }
  if (result.compile !== null) {
    const tests: TestOutcome[] = [];
    return {
      ...base,
      status: "compile_error",
      reward: 0,
      passed: 0,
      tests,
      feedback: compileFeedback(result.compile, language, options),
    };
  }
  const status = programStatus(result.tests);
  return {
    ...base,
    status,
    reward: status === "accepted" ? 1 : 0,
    passed: result.tests.filter((test) => test.status === "accepted").length,
    tests: result.tests,
    feedback: testFeedback(task.tests, result.tests, language, options, checkerOf(task)),
  };
}
