/** What a call of the policy's worker gives back: its value, or one of our errors. */
import { InfrastructureError } from "../core/index.js";
import { errorOf, failureOf, isOurs, type ThreadFailure } from "../rollout/index.js";
import { NonFiniteUpdateError } from "../trainer/index.js";

export type Failure = ThreadFailure | { readonly name: "NonFiniteUpdateError"; readonly message: string };

/** A value, or one of our errors in plain data. Others are thrown as they are. */
export type Answer<T> = { readonly value: T } | { readonly failed: Failure };

/** Worker's side. */
export async function answered<T>(call: () => T | Promise<T>): Promise<Answer<T>> {
  try {
    return { value: await call() };
  } catch (error) {
    if (error instanceof NonFiniteUpdateError)
      return { failed: { name: error.name, message: error.message } };
    // Whose fault a failure of ours was stands in its stack, which plain data would lack.
    if (!isOurs(error) || error instanceof InfrastructureError) throw error;
    return { failed: failureOf(error) };
  }
}

/** Host's side. @throws the error that the worker met */
export function unwrapped<T>(answer: Answer<T>): T {
  if ("value" in answer) return answer.value;
  const { failed } = answer;
  throw failed.name === "NonFiniteUpdateError" ? new NonFiniteUpdateError(failed.message) : errorOf(failed);
}
