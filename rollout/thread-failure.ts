/** Errors keep their class across a thread: structured clone would leave of ours only the message. */
import { ConfigError, InfrastructureError } from "../core/index.js";
import { NonFinitePolicyError } from "../policy/index.js";

export interface ThreadFailure {
  readonly name: "ConfigError" | "NonFinitePolicyError" | "InfrastructureError";
  readonly message: string;
  /** Of a ConfigError; else "". */
  readonly at: string;
}

/** Whether an error already says whose fault it is. */
export const isOurs = (error: unknown): error is ConfigError | NonFinitePolicyError | InfrastructureError =>
  error instanceof ConfigError ||
  error instanceof NonFinitePolicyError ||
  error instanceof InfrastructureError;

/** The thread's side: plain data. What nobody foresaw is a failure of ours. */
export function failureOf(error: unknown): ThreadFailure {
  if (!isOurs(error))
    return { name: "InfrastructureError", message: `a sampling thread failed: ${String(error)}`, at: "" };
  const { name, message } = error;
  return { name, message, at: error instanceof ConfigError ? error.at : "" };
}

/** The caller's side: the error that the thread met. */
export function errorOf({ name, message, at }: ThreadFailure): Error {
  if (name === "InfrastructureError") return new InfrastructureError(message);
  if (name === "NonFinitePolicyError") return new NonFinitePolicyError(message);
  const error = new ConfigError({ at, need: "" });
  error.message = message;
  return error;
}
