/** From the facts of a run to its status: all the rules, no waiting. */
import { constants } from "node:os";
import type { ComparatorName, Status, TestOutcome } from "../core/index.js";
import { sameOutput } from "./comparators.js";
import { keptText } from "./cut.js";
import type { RunLimits, RunReport } from "./protocol.js";

/** The usual name comes first: 6 is SIGABRT, and SIGIOT only to historians. */
const SIGNAL_NAMES = new Map(
  Object.entries(constants.signals)
    .reverse()
    .map(([name, number]) => [number as number, name]),
);

/**
 * Status of one run. Our failure first, then the limits in the order in which one explains the next, then how it ended.
 * A right answer with a non-zero exit status is a runtime error. `expected` null: nothing to compare.
 */
export function statusOf(
  run: RunReport,
  limits: RunLimits,
  expected: string | Buffer | null,
  comparator: ComparatorName,
): Status {
  if (run.kind === "exec_failed") return isMissingTool(run) ? "infrastructure" : "runtime_error";
  if (run.kind === "broken") return run.outOfMemory ? "memory_limit" : "infrastructure";
  if (run.kind === "output_full") return "output_limit";
  if (run.outOfMemory) return "memory_limit";
  if (run.kind === "timed_out" || (run.cpuMs ?? 0) > limits.cpuMs) return "time_limit";
  if (run.kind === "signalled")
    return run.code === constants.signals.SIGXCPU ? "time_limit" : "runtime_error";
  if (run.code !== 0) return "runtime_error";
  return expected === null || sameOutput(comparator, expected, run.stdout) ? "accepted" : "wrong_answer";
}

/** The interpreter is not there; a file of the program's own that cannot be executed is the program's failure. */
function isMissingTool(run: RunReport): boolean {
  const { ENOENT, EACCES, ENOTDIR } = constants.errno;
  // The compiler runs code of the program's too (macros), which may take away the very file that would be run.
  const isOwn = /^(\/w\/|\/tmp\/|[^/:]+\/)/.test(run.message);
  return !isOwn && [ENOENT, EACCES, ENOTDIR].includes(run.code);
}

/** @param keepChars - of stdout and of stderr */
export function outcomeOf(run: RunReport, status: Status, keepChars: number): TestOutcome {
  return {
    status,
    time_ms: Math.round(run.wallMs * 100) / 100,
    memory_kb: run.maxRssKb,
    exit_code: run.kind === "exited" ? run.code : null,
    signal: run.kind === "signalled" ? (SIGNAL_NAMES.get(run.code) ?? `signal ${run.code}`) : null,
    stdout: keptText(run.stdout, keepChars),
    stderr: keptText(run.stderr, keepChars),
  };
}

/** A program's status: that of its first test, in order, that was not accepted. */
export function programStatus(tests: readonly TestOutcome[]): Status {
  return tests.find((test) => test.status !== "accepted")?.status ?? "accepted";
}
