/**
 * `policy.device: tensorflow` runs the same functions op by op on tfjs's active backend. TensorFlow itself is an optional
 * install; tfjs's cpu backend takes its place here, by the same code path.
 */
import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import { beforeAll, expect, test } from "vitest";
import { initialWeights, parseDecoderConfig } from "../../policy/index.js";
import { createEngine, type SampledSequence, type SamplingProvider } from "../../rollout/index.js";

beforeAll(async () => {
  await tf.setBackend("cpu");
});

const config = parseDecoderConfig({
  model_type: "qwen3",
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 4,
  vocab_size: 17,
  rope_theta: 100,
});
const weights = initialWeights(config, 1, { embeddingStd: 1, matrixScale: 1.5 });

async function sampleOn(provider: SamplingProvider): Promise<SampledSequence[]> {
  const shape = { slots: 2, promptLength: 4, cacheLength: 12 };
  const engine = await createEngine({ config, shape, provider, threads: 1 });
  engine.setWeights(weights);
  const sequences: SampledSequence[] = [];
  const groups = [[1, 2, 3], [4]].map((promptIds, group) => ({
    group,
    randomKey: String(group),
    promptIds,
    samples: [0, 1],
  }));
  const options = { seed: 3, temperature: 1, topP: 1, topK: 0, maxNewTokens: 8, stopIds: [0] };
  await engine.sample(groups, options, (sequence) => sequences.push(sequence));
  await engine.dispose();
  return sequences.sort((a, b) => a.group - b.group || a.sample - b.sample);
}

test("the sampler draws the same tokens as on cpu, with log-probs within 1e-4, and leaves no tensor behind", async () => {
  const cpu = await sampleOn("cpu");
  const before = tf.memory().numTensors;
  const eager = await sampleOn("tensorflow");
  expect(tf.memory().numTensors).toBe(before);
  expect(eager.map(({ completionIds }) => completionIds)).toEqual(
    cpu.map(({ completionIds }) => completionIds),
  );
  eager.forEach(({ rolloutLogProbs }, i) => {
    rolloutLogProbs.forEach((logProb, t) => {
      expect(Math.abs(logProb - cpu[i]!.rolloutLogProbs[t]!)).toBeLessThan(1e-4);
    });
  });
});
