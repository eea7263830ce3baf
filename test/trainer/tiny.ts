import { randomStream, type Sample } from "../../core/index.js";
import { initialWeights, parseDecoderConfig } from "../../policy/index.js";
import {
  createLearner,
  decoderModel,
  type Learner,
  type LearnerOptions,
  ObjectiveConfig,
  OptimizerConfig,
  type UpdateMetrics,
} from "../../trainer/index.js";

/** A policy small enough that finite differences and eager twins cost nothing: 1 layer, width 8, vocabulary 11. */
export const tinyConfig = parseDecoderConfig({
  model_type: "llama",
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  vocab_size: 11,
  rope_theta: 100,
  tie_word_embeddings: true,
});
export const tinyModel = decoderModel(tinyConfig);
export const tinyWeights = (seed = 0): Record<string, Float32Array> =>
  initialWeights(tinyConfig, seed, { embeddingStd: 0.5, matrixScale: 1 });

interface LearnerChoices {
  objective?: Record<string, unknown>;
  optimizer?: Record<string, unknown>;
  options?: Partial<LearnerOptions>;
}

export function tinyLearner({ objective, optimizer, options }: LearnerChoices = {}): Learner {
  return createLearner({
    model: tinyModel,
    weights: tinyWeights(),
    objective: ObjectiveConfig.parse({ type: "sft", ...objective }),
    optimizer: OptimizerConfig.parse({ type: "adamw", lr: 0.01, ...optimizer }),
    temperature: 1,
    totalSteps: 10,
    compile: { provider: "cpu", threads: 1 },
    ...options,
  });
}

/** Random samples of all kinds: rewards 0 and 1, with and without a teacher, lengths from 3 to 30. */
export function tinySamples(count: number, seed = 0): Sample[] {
  const random = randomStream(seed, "samples");
  const ids = (least: number, most: number): number[] =>
    Array.from({ length: least + random.integer(most - least + 1) }, () => random.integer(11));
  return Array.from({ length: count }, (_, index) => {
    const [promptIds, completionIds] = [ids(2, 12), ids(1, 18)];
    const reward = random.integer(2);
    return {
      rolloutId: String(index),
      promptIds,
      completionIds,
      rolloutLogProbs: completionIds.map(() => -1.5 - 2 * random.next()),
      reward,
      advantage: reward - 0.5,
      teacherPromptIds: random.next() < 0.7 ? ids(8, 25) : null,
    };
  });
}

/** What an update shows of learning: the same however the batch is packed. */
export function learned(metrics: UpdateMetrics): number[] {
  const { padding: _, position_padding: __, ...rest } = metrics;
  return Object.values(rest);
}
