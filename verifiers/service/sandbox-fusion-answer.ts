/** SandboxFusion's language ids, and the shape of its answers. */
import { constants } from "node:os";
import type { TestOutcome } from "../../core/index.js";
import type { LanguageSet } from "../language-set.js";
import type { Language } from "../languages.js";

/** Their language ids, and the names that they have here. */
const LANGUAGE_IDS: Readonly<Record<string, string>> = {
  python: "python",
  cpp: "cpp",
  nodejs: "javascript",
  js: "javascript",
  go: "go",
  java: "java",
  php: "php",
  csharp: "csharp",
  bash: "bash",
  typescript: "typescript",
  ts: "typescript",
  sql: "sql",
  rust: "rust",
  lua: "lua",
  R: "r",
  perl: "perl",
  ruby: "ruby",
  scala: "scala",
  julia: "julia",
  verilog: "verilog",
  lean: "lean",
  swift: "swift",
  racket: "racket",
};
/** Ids that mean a test framework, a script dialect or a GPU, which no language here stands for. */
const OTHER_IDS = ["go_test", "pytest", "junit", "jest", "D_ut", "kotlin_script", "cuda", "python_gpu"];

export interface CommandResult {
  readonly status: "Finished" | "Error" | "TimeLimitExceeded";
  readonly execution_time: number;
  readonly return_code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunCodeAnswer {
  readonly status: "Success" | "Failed" | "SandboxError";
  readonly message: string;
  readonly compile_result: CommandResult | null;
  readonly run_result: CommandResult | null;
  readonly executor_pod_name: string | null;
  readonly files: Readonly<Record<string, string>>;
}

/** @returns a reason where their id has no counterpart here; null for what is not an id at all */
export function languageOf(id: string, languages: LanguageSet): Language | string | null {
  const known = LANGUAGE_IDS[id];
  const language = languages.find(known ?? id);
  if (OTHER_IDS.includes(id)) return `language ${id} is not offered here`;
  if (language !== undefined) return language;
  return known === undefined
    ? null
    : `language ${id} is not offered here: no language file is named ${known}`;
}

/** A command that passed its memory or output limit was killed: it finished, by SIGKILL. */
export function commandResult(outcome: TestOutcome): CommandResult {
  const isLate = outcome.status === "time_limit";
  return {
    status: isLate ? "TimeLimitExceeded" : "Finished",
    execution_time: outcome.time_ms / 1000,
    return_code: isLate ? null : returnCode(outcome),
    stdout: outcome.stdout,
    stderr: outcome.stderr,
  };
}

/** As Python says it: a signal is its number below zero. */
function returnCode({ exit_code, signal, status }: TestOutcome): number {
  if (exit_code !== null && (exit_code !== 0 || status === "accepted")) return exit_code;
  return -(constants.signals[signal as NodeJS.Signals] ?? constants.signals.SIGKILL);
}

export function sandboxError(message: string): RunCodeAnswer {
  return {
    status: "SandboxError",
    message,
    compile_result: null,
    run_result: null,
    executor_pod_name: null,
    files: {},
  };
}

/** For messages. */
export const knownIds = (): string => [...Object.keys(LANGUAGE_IDS), ...OTHER_IDS].join(", ");
