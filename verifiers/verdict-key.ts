/** Everything that decides a verdict and its feedback, as one short text: equal keys, equal verdicts. */
import { createHash } from "node:crypto";
import type { Limits, Task } from "../core/index.js";
import type { FeedbackOptions } from "./feedback.js";
import type { Isolation } from "./job.js";
import type { Language } from "./languages.js";

/** A language as it is here: its file's content, and what its tool says of its version. */
export interface Tool {
  readonly language: Language;
  readonly version: string | null;
}

export interface Judging {
  readonly program: string;
  readonly tool: Tool;
  readonly task: Pick<Task, "tests" | "comparator" | "limits" | "harness">;
  /** Of the task's checker program, if it has one. */
  readonly checkerTool: Tool | null;
  /** The pool's, for what language and task leave open. */
  readonly limits: Limits;
  readonly stopAfterFailures: number | null;
  readonly keepChars: number;
  readonly feedback: FeedbackOptions;
  /** What the machine enforces, or the machines that may judge. */
  readonly isolation: Isolation | readonly Readonly<Record<string, unknown>>[];
}

const digests = new WeakMap<object, string>();

const digest = (value: unknown): string =>
  createHash("sha256").update(JSON.stringify(value)).digest("base64");

/** Of a record that nobody changes: taken once, for a task's tests may be large. */
function digestOnce(record: object, parts: () => unknown): string {
  const known = digests.get(record) ?? digest(parts());
  digests.set(record, known);
  return known;
}

/** Not where its file lies. */
function toolDigest({ language, version }: Tool): string {
  const content = digestOnce(language, () => ({ ...language, source: "" }));
  return digest([content, version]);
}

export function verdictKey(judging: Judging): string {
  const { task } = judging;
  return digest([
    judging.program,
    toolDigest(judging.tool),
    digestOnce(task, () => [task.tests, task.comparator, task.limits, task.harness ?? null]),
    judging.checkerTool && toolDigest(judging.checkerTool),
    judging.limits,
    judging.stopAfterFailures,
    judging.keepChars,
    judging.feedback,
    judging.isolation,
  ]);
}
