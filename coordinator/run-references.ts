/** Whether a task's own reference passes its tests, and whether a program that does nothing passes them too. */
import type { Status, Task, Verdict } from "../core/index.js";
import type { VerifierPool } from "../verifiers/index.js";

/** What running a task's references showed. */
export interface ReferenceRun {
  /** By language; empty where the task has no reference that can be run here. */
  readonly verdicts: readonly { readonly language: string; readonly verdict: Verdict }[];
  /** Languages of references that no file defines. */
  readonly unknown: readonly string[];
  /** A program without a letter passes: the tests ask nothing. */
  readonly isVacuous: boolean;
}

export interface ReferencePool extends Pick<VerifierPool, "verify"> {
  readonly languages: { find(name: string): { readonly name: string } | undefined };
}

/** Runs every reference of a task, and an empty program in the language of the first. */
export async function runReferences(pool: ReferencePool, task: Task): Promise<ReferenceRun> {
  const names = Object.keys(task.reference ?? {});
  const known = names.filter((name) => pool.languages.find(name) !== undefined);
  const judge = (language: string, program: string): Promise<Verdict> =>
    pool.verify({ id: `${task.id}/${language}`, task, language, program });
  const probe =
    known[0] ?? (task.language !== undefined && pool.languages.find(task.language) ? task.language : null);
  const [empty, ...verdicts] = await Promise.all([
    probe === null ? null : judge(probe, "\n"),
    ...known.map(async (language) => ({
      language,
      verdict: await judge(language, task.reference![language]!),
    })),
  ]);
  return {
    verdicts,
    unknown: names.filter((name) => !known.includes(name)),
    isVacuous: empty?.status === "accepted",
  };
}

/** The first line of what a failed reference has to say. */
export function whyFailed({ status, reason, feedback, passed, total }: Verdict): string {
  const said =
    reason ??
    feedback
      .split("\n")
      .filter((line) => line.trim() !== "")
      .slice(0, 3)
      .join(" | ");
  const message = said.length > 200 ? `${said.slice(0, 200)}...` : said;
  return `${status}, ${passed} of ${total} tests${message === "" ? "" : `: ${message}`}`;
}

export const isFailure = (status: Status): boolean => status !== "accepted" && status !== "infrastructure";
