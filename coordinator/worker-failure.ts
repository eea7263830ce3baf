/** Errors keep their class across a thread: structured clone would leave of ours only the message. */
import { ConfigError } from "../core/index.js";
import { NonFiniteUpdateError } from "../trainer/index.js";

/** The policy's own outputs are NaN or infinite: the weights that it samples with are broken. */
export class NonFinitePolicyError extends Error {
  override readonly name = "NonFinitePolicyError";
}

export interface Failure {
  readonly failed: "ConfigError" | "NonFinitePolicyError" | "NonFiniteUpdateError";
  readonly message: string;
  readonly at: string;
}

/** What a call of the worker gives: its value, or one of our errors in plain data. Others are thrown as they are. */
export type Answer<T> = { readonly value: T } | Failure;

/** Worker's side. */
export async function answered<T>(call: () => T | Promise<T>): Promise<Answer<T>> {
  try {
    return { value: await call() };
  } catch (error) {
    if (error instanceof ConfigError) return { failed: error.name, message: error.message, at: error.at };
    if (error instanceof NonFinitePolicyError || error instanceof NonFiniteUpdateError) {
      return { failed: error.name, message: error.message, at: "" };
    }
    throw error;
  }
}

/** Host's side. @throws the error that the worker met */
export function unwrapped<T>(answer: Answer<T>): T {
  if ("value" in answer) return answer.value;
  const { failed, message, at } = answer;
  if (failed === "NonFiniteUpdateError") throw new NonFiniteUpdateError(message);
  if (failed === "NonFinitePolicyError") throw new NonFinitePolicyError(message);
  const error = new ConfigError({ at, need: "" });
  error.message = message;
  throw error;
}
