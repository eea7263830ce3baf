/** What makes a run fit, each change with the bytes that it saves: found by planning the changed run. */
import type { Provider } from "../../tensor/index.js";
import { hasTeacher } from "../../trainer/index.js";
import type { RunConfig } from "../config.js";
import { samplerFor } from "../devices.js";
import { highest } from "./items.js";
import { type Plan, type PlanOptions, planRun } from "./plan.js";

export interface Advice {
  /** As --set takes it. */
  readonly set: string;
  readonly peakBytes: number;
  readonly savedBytes: number;
}

interface Change {
  readonly set: string;
  readonly config: RunConfig;
}

/** Less than this much of the whole is not worth telling. */
const LEAST_SAVED = 0.02;
/** A quarter of what there is; never below what a single sequence needs anyway. */
const quarter = (value: number, least: number): number => Math.max(least, Math.ceil(value / 4));

/** What may lower the peak of a run, whether or not it does. */
export function changesOf(config: RunConfig, provider: Provider): Change[] {
  const { policy, rollout, objective, optimizer } = config;
  const changes: Change[] = [];
  const change = (set: string, part: Partial<RunConfig>): void => {
    changes.push({ set, config: { ...config, ...part } });
  };
  if (policy.lora === null && optimizer.type === "adamw")
    change("policy.lora.rank=16", {
      policy: {
        ...policy,
        lora: {
          rank: 16,
          alpha: 32,
          targets: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        },
      },
    });
  const all = [provider, samplerFor(provider, rollout) ?? provider];
  const isGpu = all.every((each) => each === "webgpu" || each === "cuda");
  if (isGpu && policy.lora !== null && policy.precision === "float32")
    change("policy.precision=float16", { policy: { ...policy, precision: "float16" } });
  const tokens = quarter(optimizer.microbatch_tokens, 256);
  if (tokens < optimizer.microbatch_tokens)
    change(`optimizer.microbatch_tokens=${tokens}`, {
      optimizer: { ...optimizer, microbatch_tokens: tokens },
    });
  if (
    provider === "webgpu" &&
    optimizer.type === "adamw" &&
    !optimizer.offload &&
    optimizer.recompute !== "none"
  )
    change("optimizer.offload=true", { optimizer: { ...optimizer, offload: true } });
  if (optimizer.recompute === "none")
    change("optimizer.recompute=layers", { optimizer: { ...optimizer, recompute: "layers" } });
  if (optimizer.recompute === "auto" && optimizer.kept_mb > 0)
    change("optimizer.kept_mb=0", { optimizer: { ...optimizer, kept_mb: 0 } });
  const slots = quarter(Math.min(rollout.slots, rollout.prompts_per_step * rollout.samples_per_prompt), 1);
  if (slots < rollout.slots) change(`rollout.slots=${slots}`, { rollout: { ...rollout, slots } });
  const length = quarter(rollout.max_new_tokens, 32);
  if (length < rollout.max_new_tokens)
    change(`rollout.max_new_tokens=${length}`, { rollout: { ...rollout, max_new_tokens: length } });
  if (hasTeacher(objective) && objective.topk === null && !objective.sampled_token_only)
    change("objective.topk=100", { objective: { ...objective, topk: 100 } });
  if ("kl_coefficient" in objective && objective.kl_coefficient > 0)
    change("objective.kl_coefficient=0", { objective: { ...objective, kl_coefficient: 0 } });
  return changes;
}

/** Changes that lower the peak, the largest effect first. */
export async function adviceFor(config: RunConfig, plan: Plan, options: PlanOptions): Promise<Advice[]> {
  const found: Advice[] = [];
  for (const { set, config: changed } of changesOf(config, options.provider)) {
    const { peaks } = await planRun(changed, { ...options, speed: null });
    const peakBytes = highest(peaks[plan.place] ?? peaks.host).bytes;
    found.push({ set, peakBytes, savedBytes: plan.peakBytes - peakBytes });
  }
  return found
    .filter(({ savedBytes }) => savedBytes > LEAST_SAVED * plan.peakBytes)
    .sort((a, b) => b.savedBytes - a.savedBytes);
}
