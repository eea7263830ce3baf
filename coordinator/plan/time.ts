/** Seconds of a step, from what its calls compute and move. */
import type { SamplingCost } from "../../rollout/index.js";
import type { Provider } from "../../tensor/index.js";
import type { RunConfig } from "../config.js";
import { type Speed, secondsOf, type Work } from "./speed.js";
import type { UpdateCost } from "./update.js";

export interface PlannedTime {
  readonly speed: Speed;
  /** Seconds of one step's sampling, every completion of full length; judging goes on beside it. */
  readonly sample: number;
  readonly update: number;
  /** What takes most of the two. */
  readonly dominatedBy: string;
}

const times = (work: Work, count: number): Work => ({
  flops: work.flops * count,
  movedBytes: work.movedBytes * count,
  productBytes: work.productBytes * count,
  nodes: work.nodes * count,
});

function limitOf(work: Work, speed: Speed): string {
  const products = Math.max(work.flops / speed.flops, work.productBytes / speed.bandwidth);
  if ((work.movedBytes - work.productBytes) / speed.bandwidth > products) return "passes over memory";
  return work.flops / speed.flops > work.productBytes / speed.bandwidth
    ? "matrix products"
    : "reading weights and cache";
}

export function plannedTime(
  { rollout }: RunConfig,
  cost: SamplingCost,
  update: UpdateCost,
  speed: Speed,
  provider: Provider,
): PlannedTime {
  const prompts = rollout.prompts_per_step;
  const slots = cost.lanes.reduce((sum, own) => sum + own, 0);
  const waves = Math.ceil((prompts * rollout.samples_per_prompt) / slots);
  // Lanes share the cores and the memory: together they take as long as all their work.
  const step = times(cost.step, cost.lanes.length * waves * rollout.max_new_tokens);
  const prefill = times(cost.prefill, Math.max(cost.lanes.length, Math.ceil(prompts / cost.prefillRows)));
  const stages = [
    { name: "decoding", work: step, seconds: secondsOf(step, speed, provider) },
    { name: "prompts", work: prefill, seconds: secondsOf(prefill, speed, provider) },
    { name: "the update", work: update.stage, seconds: secondsOf(update.stage, speed, provider) },
  ];
  const longest = stages.reduce((a, b) => (b.seconds > a.seconds ? b : a));
  return {
    speed,
    sample: stages[0]!.seconds + stages[1]!.seconds,
    update: stages[2]!.seconds,
    dominatedBy: `${longest.name}: ${limitOf(longest.work, speed)}`,
  };
}
