import type { OptimizerConfig } from "./optimizer-config.js";

type Schedule = Pick<OptimizerConfig, "warmup_steps" | "schedule" | "decay_fraction" | "final_fraction">;

/**
 * Learning rate of a step as a fraction of its peak: a linear rise over the warm-up, then constant, then the fall.
 * @param step - 1 for the first step of the run
 * @param totalSteps - steps of the whole run; the last one has the final fraction
 */
export function learningRateScale(schedule: Schedule, step: number, totalSteps: number): number {
  const warmup = schedule.warmup_steps === 0 ? 1 : Math.min(1, step / schedule.warmup_steps);
  if (schedule.schedule === "constant") return warmup;
  const decaySteps = schedule.decay_fraction * totalSteps;
  const progress = decaySteps === 0 ? 0 : Math.min(1, Math.max(0, 1 - (totalSteps - step) / decaySteps));
  const fall = schedule.schedule === "linear" ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
  return warmup * (schedule.final_fraction + (1 - schedule.final_fraction) * fall);
}
