import { join } from "node:path";
import type { CheckpointStore } from "../checkpoints/index.js";
import { NonFinitePolicyError, nonFinitePolicy } from "../policy/index.js";
import { NonFiniteUpdateError } from "../trainer/index.js";

/** A run that ended because its numbers are NaN or infinite; the message names the last good checkpoint. */
export class NonFiniteRunError extends Error {
  override readonly name = "NonFiniteRunError";
}

/**
 * What to tell of a step whose numbers are not finite; every other error is handed through. A failed update leaves good
 * weights behind, those before it, which are saved now. A policy that samples NaN was broken by the update before, whose
 * checkpoint looked right when it was saved: the last good one is older. Before the first update it was broken when it came.
 * @param origin - policy folder that the run began with
 * @param saveBefore - saves the state before the step, unless it is saved
 */
export async function explainNonFinite(
  error: unknown,
  step: number,
  origin: string,
  store: CheckpointStore,
  saveBefore: () => Promise<void>,
): Promise<unknown> {
  const isUpdate = error instanceof NonFiniteUpdateError;
  if (!isUpdate && !(error instanceof NonFinitePolicyError)) return error;
  if (!isUpdate && step === 1) return nonFinitePolicy(origin);
  const before = step - 1;
  if (isUpdate && !(await store.steps()).includes(before)) await saveBefore();
  const good = (await store.steps()).filter((saved) => saved <= (isUpdate ? before : before - 1)).at(-1);
  const where = good === undefined ? null : (await store.load(good)).folder;
  const advice =
    where === null
      ? "No checkpoint of this run is good: start again with a lower optimizer.lr, or from another policy.path."
      : `The last good checkpoint is ${where} (after step ${good}). Train on from it in a run of its own, more gently: --set policy.path=${join(where, "policy")} --set run.dir=DIR --set optimizer.lr=LOWER`;
  return new NonFiniteRunError(`step ${step}: ${error.message}\n${advice}`, { cause: error });
}
