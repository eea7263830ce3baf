/** Seconds of a step, from what its calls compute and move. */
import type { SamplingCost } from "../../rollout/index.js";
import type { Provider } from "../../tensor/index.js";
import type { RunConfig } from "../config.js";
import { type Speed, secondsOf, type Work } from "./speed.js";
import type { UpdateCost } from "./update.js";

export interface PlannedTime {
  readonly speed: Speed;
  readonly samplerSpeed: Speed;
  /** Seconds of one step's sampling, every completion of full length; judging goes on beside it. null: a server samples. */
  readonly sample: number | null;
  readonly update: number;
  /** What takes most of the two. */
  readonly dominatedBy: string;
}

/**
 * Of a parameter whose moments stand in host memory while a GPU computes: 3.7 ns of AdamW and 0.7 of the norm, measured on a core
 * of a busy machine; that its 16 bytes cross at 10 GB/s is assumed.
 */
const OFFLOADED_SECONDS = 6e-9;

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

/** What computes, and how fast. */
interface Pace {
  readonly speed: Speed;
  readonly provider: Provider;
}

/** @param cost - of the sampler; null where a server samples */
export function plannedTime(
  config: RunConfig,
  cost: SamplingCost | null,
  update: UpdateCost,
  learner: Pace,
  sampler: Pace,
): PlannedTime {
  const stage = ({ name, work }: { name: string; work: Work }, { speed, provider }: Pace) => ({
    name,
    seconds: secondsOf(work, speed, provider),
    limit: limitOf(work, speed),
  });
  const sampling = cost === null ? null : samplingWork(config, cost).map((work) => stage(work, sampler));
  const updating = stage({ name: "the update", work: update.stage }, learner);
  const longest = [...(sampling ?? []), updating].reduce((a, b) => (b.seconds > a.seconds ? b : a));
  return {
    speed: learner.speed,
    samplerSpeed: sampler.speed,
    sample: sampling === null ? null : sampling.reduce((sum, { seconds }) => sum + seconds, 0),
    update:
      updating.seconds + (update.isOffloaded ? ((update.state.weights ?? 0) / 4) * OFFLOADED_SECONDS : 0),
    dominatedBy: `${longest.name}: ${longest.limit}`,
  };
}

function samplingWork({ rollout }: RunConfig, cost: SamplingCost): { name: string; work: Work }[] {
  const prompts = rollout.prompts_per_step;
  const slots = cost.lanes.reduce((sum, own) => sum + own, 0);
  const waves = Math.ceil((prompts * rollout.samples_per_prompt) / slots);
  // Lanes share the cores and the memory: together they take as long as all their work.
  const step = times(cost.step, cost.lanes.length * waves * rollout.max_new_tokens);
  const prefill = times(cost.prefill, Math.max(cost.lanes.length, Math.ceil(prompts / cost.prefillRows)));
  return [
    { name: "decoding", work: step },
    { name: "prompts", work: prefill },
  ];
}
