/** What computes here, whether it computes the same, and how fast: a small policy on each provider. */
import type { Sample } from "../core/index.js";
import { type DecoderConfig, initialWeights, parseDecoderConfig, scoreIds } from "../policy/index.js";
import { createEngine, type SamplingProvider } from "../rollout/index.js";
import {
  hasHalfPrecision,
  type Provider,
  type ProviderState,
  providerStates,
  useTensorflowBackend,
} from "../tensor/index.js";
import { createLearner, decoderModel, ObjectiveConfig, OptimizerConfig } from "../trainer/index.js";

/** Largest difference of a token's log-probability from the cpu's that float32 explains. */
export const LOG_PROB_BOUND = 1e-4;

/** `ok`: it computes, and as the cpu does. `failed`: it is there, and does not. */
export interface DeviceRow {
  readonly device: Provider;
  readonly status: "ok" | "failed" | "missing";
  /** What computes there. */
  readonly name: string | null;
  /** Why it is missing or failed, and what to do. */
  readonly reason: string | null;
  readonly fix: string | null;
  readonly check: DeviceCheck | null;
}

/** What the small policy showed. */
export interface DeviceCheck {
  /** Largest difference from the cpu's log-probabilities of the same ids, and what is allowed. */
  readonly log_prob_gap: number;
  readonly log_prob_bound: number;
  /** Completions of 16 sequences at once; null: webgpu samples for it. */
  readonly sampling_tokens_per_s: number | null;
  /** Prompt and completion tokens through forward pass, backward pass and optimizer. */
  readonly training_tokens_per_s: number;
  readonly half_precision: boolean;
}

const SEQUENCES = 16;
const NEW_TOKENS = 8;
const PROMPT = [1, 5, 9, 13, 2, 40, 41, 7];

/** 45,000 parameters: large enough to use every op of a policy, small enough for a GPU that is simulated. */
const config: DecoderConfig = parseDecoderConfig({
  model_type: "qwen2",
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 128,
  tie_word_embeddings: true,
});

const idsOf = (row: number): number[] =>
  Array.from({ length: NEW_TOKENS }, (_, i) => (row * 131 + i * i * 17 + 3) % config.vocabulary);

/** Every provider, tried; those that work, checked. @param onChecking - called before each check */
export async function checkDevices(onChecking: (device: Provider) => void): Promise<DeviceRow[]> {
  const weights = initialWeights(config, 1);
  const rows: DeviceRow[] = [];
  const expected = await logProbs(weights, "cpu");
  for (const state of await providerStates()) {
    if (state.works) onChecking(state.provider);
    rows.push(await rowOf(state, weights, expected));
  }
  return rows;
}

async function rowOf(
  { provider, works, device, reason, fix }: ProviderState,
  weights: Record<string, Float32Array>,
  expected: readonly number[],
): Promise<DeviceRow> {
  const row = { device: provider, name: device, reason, fix };
  if (!works) return { ...row, status: "missing", check: null };
  try {
    if (provider === "tensorflow") await useTensorflowBackend();
    const got = await logProbs(weights, provider);
    const gap = Math.max(...got.map((logProb, i) => Math.abs(logProb - expected[i]!)));
    const check: DeviceCheck = {
      log_prob_gap: gap,
      log_prob_bound: LOG_PROB_BOUND,
      sampling_tokens_per_s: provider === "cuda" ? null : await samplingSpeed(weights, provider),
      training_tokens_per_s: await trainingSpeed(weights, provider),
      half_precision: await hasHalfPrecision(provider),
    };
    if (gap <= LOG_PROB_BOUND) return { ...row, status: "ok", check };
    const wrong = `its log-probabilities differ from the cpu's by up to ${gap}, ${LOG_PROB_BOUND} is allowed`;
    return {
      ...row,
      status: "failed",
      reason: wrong,
      fix: "Update its driver, or choose another device.",
      check,
    };
  } catch (error) {
    return {
      ...row,
      status: "failed",
      reason: (error as Error).message,
      fix: "Choose another device.",
      check: null,
    };
  }
}

const logProbs = async (weights: Record<string, Float32Array>, provider: Provider): Promise<number[]> =>
  (await scoreIds({ config, weights }, [idsOf(0), idsOf(1)], { provider })).flat();

/** Tokens a second of a second call: the first one compiles. */
async function samplingSpeed(
  weights: Record<string, Float32Array>,
  provider: SamplingProvider,
): Promise<number> {
  const shape = { slots: SEQUENCES, promptLength: PROMPT.length, cacheLength: PROMPT.length + NEW_TOKENS };
  const engine = await createEngine({ config, shape, provider });
  engine.setWeights(weights);
  const samples = Array.from({ length: SEQUENCES }, (_, sample) => sample);
  const groups = [{ group: 0, randomKey: "devices", promptIds: PROMPT, samples }];
  const options = { seed: 1, temperature: 1, topP: 1, topK: 0, maxNewTokens: NEW_TOKENS, stopIds: [] };
  await engine.sample(groups, options, () => {});
  const { tokens, seconds } = await engine.sample(groups, options, () => {});
  await engine.dispose();
  return tokens / seconds;
}

/** Tokens a second of a second update. */
async function trainingSpeed(weights: Record<string, Float32Array>, provider: Provider): Promise<number> {
  const learner = createLearner({
    model: decoderModel(config),
    weights,
    objective: ObjectiveConfig.parse({ type: "sft" }),
    optimizer: OptimizerConfig.parse({ type: "adamw", lr: 1e-4 }),
    temperature: 1,
    totalSteps: 2,
    compile: { provider },
  });
  const samples = Array.from(
    { length: SEQUENCES },
    (_, row): Sample => ({
      rolloutId: String(row),
      promptIds: PROMPT,
      completionIds: idsOf(row),
      rolloutLogProbs: [],
      reward: 1,
      advantage: 1,
      teacherPromptIds: null,
    }),
  );
  await learner.update({ samples });
  const started = performance.now();
  await learner.update({ samples });
  const seconds = (performance.now() - started) / 1000;
  await learner.dispose();
  return (SEQUENCES * (PROMPT.length + NEW_TOKENS)) / seconds;
}
