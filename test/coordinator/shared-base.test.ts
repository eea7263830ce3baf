/** A policy too large to hold twice: sampler, teacher and learner compute on the same pages of one file. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { converted, heldTensor, replaceFile, safetensorsContent } from "../../checkpoints/index.js";
import { openPolicyHost, type PolicyHost } from "../../coordinator/policy-host.js";
import { type StoredWeights, storedWeights } from "../../coordinator/stored-weights.js";
import type { Sample } from "../../core/index.js";
import {
  isLargePolicy,
  parameterCount,
  parameterShapes,
  parseDecoderConfig,
  type WeightSource,
  weightPlaces,
} from "../../policy/index.js";
import type { SampledSequence } from "../../rollout/index.js";
import { ObjectiveConfig, OptimizerConfig } from "../../trainer/index.js";

const root = mkdtempSync(join(tmpdir(), "shared-base-"));
const config = parseDecoderConfig({
  model_type: "qwen2",
  hidden_size: 768,
  intermediate_size: 3072,
  num_hidden_layers: 7,
  num_attention_heads: 12,
  num_key_value_heads: 2,
  vocab_size: 10_000,
  max_position_embeddings: 256,
  tie_word_embeddings: true,
});
const adapted = {
  ...config,
  lora: { rank: 4, alpha: 8, targets: ["q_proj" as const, "down_proj" as const] },
};
const COPY_MB = (parameterCount(config) * 4) / 2 ** 20;

/** Cheap noise of a trained matrix's size. */
function noise(shape: readonly number[]): Float32Array {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  if (shape.length === 1) return data.fill(1);
  const scale = 1 / Math.sqrt(shape[1]!);
  for (let i = 0, state = 1; i < data.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    data[i] = (state / 2 ** 31 - 1) * scale;
  }
  return data;
}

/** MiB of this process that are of no file. Of libraries its share grows whenever another process of the tests ends. */
const ownSize = (): number =>
  Number(/^Anonymous:\s+(\d+)/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"))![1]) / 1024;

/** MiB of the pages of one file, over all its mappings: in memory, and as if each mapping had its own. */
function mappedSize(name: string): { proportional: number; counted: number } {
  const sum = { proportional: 0, counted: 0 };
  let isOurs = false;
  for (const line of readFileSync("/proc/self/smaps", "utf8").split("\n")) {
    const [key = "", value] = line.split(/\s+/);
    if (/^[0-9a-f]+-[0-9a-f]+$/.test(key)) isOurs = line.includes(name);
    else if (isOurs && key === "Pss:") sum.proportional += Number(value) / 1024;
    else if (isOurs && key === "Rss:") sum.counted += Number(value) / 1024;
  }
  return sum;
}

let weights: StoredWeights;
let source: WeightSource;
let host: PolicyHost | null = null;
const before = process.platform === "linux" ? ownSize() : 0;

beforeAll(async () => {
  vi.stubEnv("RETORT_CACHE", join(root, "cache"));
  const folder = join(root, "policy");
  mkdirSync(folder);
  const tensors = new Map(
    Object.entries(parameterShapes(config)).map(([name, shape]) => [
      name,
      // Made as it is written: this process must not have held a copy.
      converted({ dtype: "F32", shape, pieces: () => heldTensor(noise(shape), shape).pieces() }, "BF16"),
    ]),
  );
  await replaceFile(join(folder, "model.safetensors"), safetensorsContent(tensors));
  source = { config, places: weightPlaces(folder, config), adapter: null };
  weights = await storedWeights(source, true, { note: () => {} });
  host = await opened(weights);
});
afterAll(async () => {
  await host?.close();
  rmSync(root, { recursive: true });
});

const opened = (stored: StoredWeights): Promise<PolicyHost> =>
  openPolicyHost({
    config: adapted,
    weights: stored,
    seed: 0,
    provider: "cpu",
    threads: 2,
    objective: ObjectiveConfig.parse({ type: "mix" }),
    optimizer: OptimizerConfig.parse({ type: "adamw", lr: 1e-2 }),
    totalSteps: 2,
    temperature: 1,
  });

const samplesOf = (sequences: readonly SampledSequence[]): Sample[] =>
  sequences.map(({ sample, completionIds, rolloutLogProbs }) => ({
    rolloutId: String(sample),
    promptIds: [5, 6, 7, 8, 9],
    completionIds: [...completionIds],
    rolloutLogProbs: [...rolloutLogProbs],
    reward: sample % 2,
    advantage: sample % 2 === 0 ? -0.5 : 0.5,
    teacherPromptIds: [5, 6, 1, 2, 3, 7, 8, 9],
  }));

const drawn = async (): Promise<SampledSequence[]> => {
  const sequences: SampledSequence[] = [];
  const shape = { slots: 4, promptLength: 16, cacheLength: 32 };
  const group = { group: 0, randomKey: "a", promptIds: [5, 6, 7, 8, 9], samples: [0, 1, 2, 3] };
  const options = { seed: 0, temperature: 1, topP: 1, topK: 0, maxNewTokens: 8, stopIds: [] };
  await host!.sample(shape, [group], options, (sequence) => sequences.push(sequence));
  return sequences.sort((a, b) => a.sample - b.sample);
};

test.skipIf(process.platform !== "linux")(
  "is sampled from, teaches and learns an adapter with its weights in memory once (elsewhere: no /proc)",
  async () => {
    expect(isLargePolicy(config)).toBe(true);
    const first = await drawn();
    const metrics = await host!.update({ samples: samplesOf(first) });
    expect(metrics.max_log_prob_gap).toBeLessThan(1e-4); // sampler and learner compute the same policy
    expect(metrics.grad_norm).toBeGreaterThan(0);
    const again = await drawn();
    expect(again.map(({ rolloutLogProbs }) => rolloutLogProbs)).not.toEqual(
      first.map(({ rolloutLogProbs }) => rolloutLogProbs),
    );
    const { proportional, counted } = mappedSize(join(root, "cache"));
    const used = ownSize() - before + proportional;
    expect(counted).toBeGreaterThan(1.5 * COPY_MB); // several sessions have it
    expect(proportional).toBeLessThan(1.01 * COPY_MB);
    // Sampler, graphs, activations and adapter, most of it the same for every size, and no second copy.
    expect(used).toBeLessThan(1.9 * COPY_MB);
  },
);

test("is sampled in int8 and learned in float32; the update tells how far the two are apart", async () => {
  await host!.close();
  const precision = { type: "int8", provider: "cpu", at: "test" } as const;
  const stored = await storedWeights(source, true, { note: () => {} }, precision);
  expect(stored.base).toEqual(weights.base);
  host = await opened(stored);
  const metrics = await host.update({ samples: samplesOf(await drawn()) });
  expect(metrics.max_log_prob_gap).toBeGreaterThan(1e-4);
  expect(metrics.max_log_prob_gap).toBeLessThan(0.2);
  expect(Math.abs(metrics.rollout_kl)).toBeLessThan(0.05);
  expect(metrics.grad_norm).toBeGreaterThan(0);
  expect((await drawn()).every(({ rolloutLogProbs }) => rolloutLogProbs.every(Number.isFinite))).toBe(true);
});
