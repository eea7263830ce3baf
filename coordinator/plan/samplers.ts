/** The samplers of a planned run: what they hold, and what is handed over to them. */
import { int8Bytes } from "../../policy/index.js";
import {
  MOST_PACKED,
  type RunnerShape,
  type SamplingCost,
  type SamplingProvider,
  samplingCost,
} from "../../rollout/index.js";
import { DryRun, type Provider } from "../../tensor/index.js";
import type { RunConfig } from "../config.js";
import { samplerFor } from "../devices.js";
import { roundUp } from "../sampler.js";
import { selfTeacherTasks } from "../self-teacher.js";
import { type Place, type PlanItem, placeOf, STAGES, type Stage } from "./items.js";
import { ownBytes, type PlanSubject } from "./subject.js";
import { givenWeights, type UpdateCost } from "./update.js";

/** Sequences decoded at once in an evaluation. */
const EVALUATION_SLOTS = 64;

interface NamedSampler {
  readonly name: string;
  readonly cost: SamplingCost;
  /** Bytes of int8 matrices, packed for the graphs that stay open. */
  readonly packed: number;
}

/** The samplers of a run: the step's, and the evaluation's where there is a set to evaluate. */
export async function samplers(
  config: RunConfig,
  { decoder, promptTokens, isShared }: PlanSubject,
  provider: SamplingProvider,
): Promise<NamedSampler[]> {
  const { rollout, policy } = config;
  const shape = (slots: number, longest: number): RunnerShape => {
    const promptLength = roundUp(longest);
    const cacheLength = promptLength + rollout.max_new_tokens;
    return { slots: Math.min(rollout.slots, slots), promptLength, cacheLength };
  };
  const wanted = [
    {
      name: "sampler",
      shape: shape(rollout.prompts_per_step * rollout.samples_per_prompt, promptTokens.train),
    },
  ];
  // The self-teacher is measured by the evaluation's sampler too.
  const isEvaluated = "family" in config.tasks || config.tasks.heldout !== undefined;
  if (isEvaluated || selfTeacherTasks(config, decoder) > 0)
    wanted.push({ name: "evaluation's sampler", shape: shape(EVALUATION_SLOTS, promptTokens.evaluation) });
  const { threads } = policy;
  const sampling = { temperature: rollout.temperature, topP: rollout.top_p, topK: rollout.top_k };
  const named: NamedSampler[] = [];
  for (const { name, shape } of wanted) {
    const isSame = JSON.stringify(shape) === JSON.stringify(wanted[0]!.shape) && named.length > 0;
    if (isSame) continue; // one engine for both
    const options = { config: decoder, shape, provider, ...(threads === undefined ? {} : { threads }) };
    const base = isShared ? { base: givenWeights(new DryRun(), decoder, provider === "cpu") } : {};
    const cost = await samplingCost({ ...options, ...base }, sampling);
    const packed = rollout.base_precision === "int8" ? MOST_PACKED * int8Bytes(decoder) : 0;
    named.push({ name, cost, packed });
  }
  return named;
}

export function samplingItems(samplers: readonly NamedSampler[], provider: SamplingProvider): PlanItem[] {
  const place = placeOf(provider);
  return samplers.flatMap(({ name, cost, packed }, index) => {
    const item = (what: string, bytes: number, stages: readonly Stage[] = STAGES): PlanItem => ({
      what: `${name}: ${what}`,
      place,
      bytes,
      stages,
    });
    return [
      item("the lanes' copies of the weights", cost.sentBytes),
      item("weights laid out for decoding", cost.laidOutBytes),
      ...(packed > 0 ? [item("int8 matrices, packed for two graphs", packed)] : []),
      item("KV cache", cost.cacheBytes),
      item("graphs and their activations", cost.graphBytes),
      ...(index === 0 ? [item("one call", cost.callBytes, ["sample"])] : []),
    ];
  });
}

/** What is learned, on its way to what samples elsewhere; and there, where that is another device. */
export function handedItems(
  { rollout }: RunConfig,
  { decoder }: PlanSubject,
  { state }: UpdateCost,
  provider: Provider,
): PlanItem[] {
  const { engine } = rollout;
  const sampler = samplerFor(provider, rollout);
  if (sampler === provider || (engine.type === "openai" && engine.weights.push === "none")) return [];
  const learned = state.weights ?? 0;
  const copy = "handing weights over: a copy in the main thread";
  const handed: PlanItem = { what: copy, place: "host", bytes: learned, stages: ["sample"] };
  if (sampler === null) return [handed];
  const own = learned + (decoder.lora === undefined ? 0 : ownBytes(decoder));
  const item = (what: string, place: Place, bytes: number) => ({ what, place, bytes, stages: STAGES });
  const place = placeOf(sampler);
  const kept = place === "host" ? [] : [item("sampler: weights as they came", "host", learned)];
  return [handed, item("sampler: its own copy of the weights", place, own), ...kept];
}
