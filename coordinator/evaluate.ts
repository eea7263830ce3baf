import type { Status, Task } from "../core/index.js";
import type { SamplingOptions } from "../rollout/index.js";
import { type Attempt, type AttemptContext, type AttemptTiming, attemptTasks } from "./attempts.js";

/** Mean pass rate of a task set. Infrastructure failures are left out of both counts and reported beside it. */
export interface PassRate {
  readonly rate: number;
  readonly passed: number;
  readonly judged: number;
  readonly infrastructure: number;
  readonly statuses: Readonly<Partial<Record<Status, number>>>;
}

/**
 * Samples each task and judges the programs. The random numbers are those of (seed, task, sample), the same at every
 * evaluation of a run, so before and after differ in the policy alone.
 */
export async function evaluateTasks(
  context: AttemptContext,
  tasks: readonly Task[],
  samples: number,
  options: SamplingOptions,
  policyVersion: number,
  onVerdict: () => void = () => {},
): Promise<{ passRate: PassRate; attempts: Attempt[][]; timing: AttemptTiming }> {
  const drawn = tasks.map((task, group) => ({ task, group, randomKey: `evaluation/${task.id}` }));
  const { attempts, timing } = await attemptTasks(context, drawn, samples, options, policyVersion, onVerdict);
  return { passRate: passRateOf(attempts.flat()), attempts, timing };
}

/** Pass rate and verdict mix of attempts; a rate of no judged attempt is 0. */
export function passRateOf(attempts: readonly Pick<Attempt, "verdict">[]): PassRate {
  const statuses: Partial<Record<Status, number>> = {};
  for (const { verdict } of attempts) statuses[verdict.status] = (statuses[verdict.status] ?? 0) + 1;
  const infrastructure = statuses.infrastructure ?? 0;
  const judged = attempts.length - infrastructure;
  const passed = statuses.accepted ?? 0;
  return { rate: judged === 0 ? 0 : passed / judged, passed, judged, infrastructure, statuses };
}
