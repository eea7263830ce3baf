/** What a checker program's run says, and in which words. */
import { InfrastructureError } from "../core/errors.js";
import { endingOf } from "./feedback.js";
import type { CheckerPlan } from "./job.js";
import { outcomeOf } from "./judge.js";
import { cleanMessage } from "./message.js";
import type { RunReport } from "./protocol.js";

/** A checker did not work: no program is to blame, and its language's tools are what may be missing. */
export class CheckerFailure extends InfrastructureError {}

/** It said yes or no. */
export const hasAnswered = (report: RunReport): boolean =>
  report.kind === "exited" && !report.outOfMemory && (report.code === 0 || report.code === 1);

export const hasAccepted = (report: RunReport): boolean => hasAnswered(report) && report.code === 0;

export const nameOf = (plan: CheckerPlan): string => `the checker (${plan.language})`;

/** Its message: what it printed, else what it complained of. */
export function message(report: RunReport, plan: CheckerPlan): string {
  const text = report.stdout.toString("utf8").trim() || report.stderr.toString("utf8");
  return cleanMessage(text, plan);
}

export function how(report: RunReport): string {
  if (report.outOfMemory) return "out of memory";
  if (report.kind === "timed_out") return "time limit";
  if (report.kind === "output_full") return "it prints too much";
  return endingOf(outcomeOf(report, "runtime_error", 0)).replace(/^./, (first) => first.toLowerCase());
}

/** Why a checker that should have worked did not, in one line or more. */
export const failureOf = (report: RunReport, plan: CheckerPlan): string => {
  const words = message(report, plan);
  return hasAnswered(report) ? words || "no message" : [how(report), words].filter(Boolean).join(": ");
};
