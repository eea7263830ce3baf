import { CommanderError } from "commander";
import { ConfigError } from "../core/index.js";

/** 0 for --help and --version, 2 for wrong usage or configuration, 1 for what failed while it ran. */
export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  return error instanceof ConfigError ? 2 : 1;
}

/** One paragraph for a person; RETORT_DEBUG=1 adds the stack and the causes. */
export function explain(error: unknown): string {
  if (!(error instanceof Error)) return `retort: ${String(error)}`;
  if (process.env.RETORT_DEBUG) return `retort: ${error.stack ?? error.message}${causes(error)}`;
  const hint = error instanceof ConfigError ? "" : "\nRETORT_DEBUG=1 shows where it happened.";
  return `retort: ${error.message}${hint}`;
}

function causes(error: Error): string {
  const { cause } = error;
  return cause instanceof Error ? `\ncaused by: ${cause.stack ?? cause.message}${causes(cause)}` : "";
}
