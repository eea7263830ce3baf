/** Decoding steps on matrices of eight bits, beside the float32 base. */
import { mkdtempSync, readdirSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test, vi } from "vitest";
import { packageRoot } from "../../core/index.js";
import {
  cacheEntries,
  type DecoderConfig,
  type HostWeights,
  initialAdapter,
  int8Bytes,
  int8Weights,
  LoraConfig,
  mappedWeights,
  mergedWeights,
  readDecoderConfig,
  readWeights,
  scoreIds,
  weightPlaces,
} from "../../policy/index.js";
import { createEngine, type SampledSequence, type SamplingEngine } from "../../rollout/index.js";
import { type FileTensor, readValue, type Value } from "../../tensor/index.js";

const cache = mkdtempSync(join(tmpdir(), "retort-int8-"));
vi.stubEnv("RETORT_CACHE", cache);
const opened: SamplingEngine[] = [];
afterAll(async () => {
  for (const engine of opened) await engine.dispose();
  rmSync(cache, { recursive: true });
  vi.unstubAllEnvs();
});

const notes: string[] = [];
const progress = { note: (line: string) => void notes.push(line) };

interface Policy {
  readonly config: DecoderConfig;
  readonly weights: HostWeights;
  readonly base: Record<string, FileTensor>;
  readonly int8: Record<string, FileTensor>;
}

async function policyOf(family: string): Promise<Policy> {
  const folder = join(packageRoot, "test/vectors/policies", family);
  const config = { ...readDecoderConfig(folder), maxPositions: 1024 };
  const places = weightPlaces(folder, config);
  const [base, int8] = [await mappedWeights(places, progress), await int8Weights(places, progress)];
  return { config, weights: readWeights(folder, config), base, int8 };
}

/** The policy that the int8 matrices stand for, its head apart from its embedding. */
async function rounded({ config, weights, int8 }: Policy) {
  const entries = Object.entries(int8).map(async ([name, value]) => [name, await readValue(value)] as const);
  const matrices = Object.fromEntries(await Promise.all(entries)) as HostWeights;
  return { config: { ...config, tiedEmbeddings: false }, weights: { ...weights, ...matrices } };
}

async function sampled(
  { config, base, int8 }: Omit<Policy, "weights">,
  adapter: Readonly<Record<string, Value>>,
  prompts: readonly (readonly number[])[],
): Promise<SampledSequence[]> {
  const shape = { slots: 20, promptLength: 300, cacheLength: 700 };
  const engine = await createEngine({ config, shape, provider: "cpu", threads: 1, base, int8 });
  opened.push(engine);
  engine.setWeights(adapter);
  const groups = prompts.map((promptIds, group) => ({
    group,
    randomKey: `task-${group}`,
    promptIds: [...promptIds],
    samples: [0, 1, 2, 3, 4, 5, 6, 7, 8],
  }));
  const options = { seed: 11, temperature: 1, topP: 1, topK: 0, maxNewTokens: 24, stopIds: [2] };
  const sequences: SampledSequence[] = [];
  await engine.sample(groups, options, (sequence) => sequences.push(sequence));
  return sequences;
}

/** Mean and largest difference of the sampler's log-probs from a policy's own scoring. */
async function gap(
  sequences: readonly SampledSequence[],
  prompts: readonly (readonly number[])[],
  policy: { readonly config: DecoderConfig; readonly weights: HostWeights },
): Promise<{ mean: number; most: number }> {
  const rows = sequences.map(({ group, completionIds }) => [...prompts[group]!, ...completionIds]);
  const scored = await scoreIds(policy, rows, { provider: "cpu", threads: 1 });
  const differences = sequences.flatMap(({ group, rolloutLogProbs }, i) =>
    scored[i]!.slice(prompts[group]!.length - 1).map((own, t) => Math.abs(own - rolloutLogProbs[t]!)),
  );
  expect(differences.length).toBeGreaterThan(100);
  expect(differences.every(Number.isFinite)).toBe(true);
  return {
    mean: differences.reduce((a, b) => a + b, 0) / differences.length,
    most: Math.max(...differences),
  };
}

describe.each(["llama", "qwen2", "qwen3"])("a %s policy decoded in int8", (family) => {
  test("gives log-probs near its rounded weights' and, less near, near the float32 policy's", async () => {
    const policy = await policyOf(family);
    // Prompts of one token: nothing of the sequence is prefilled, which float32 does.
    const prompts = [[7], [18], [49]];
    const sequences = await sampled(policy, {}, prompts);
    const [ofRounded, ofFloat32] = [
      await gap(sequences, prompts, await rounded(policy)),
      await gap(sequences, prompts, policy),
    ];
    // What remains to the rounded weights is the rounding of the activations; matrices this thin feel it most.
    expect(ofRounded.mean).toBeLessThan(0.05);
    expect(ofRounded.most).toBeLessThan(0.25);
    expect(ofFloat32.mean).toBeLessThan(0.06);
    expect(ofFloat32.most).toBeLessThan(0.4);
    expect(ofFloat32.mean).toBeGreaterThan(ofRounded.mean); // it did compute with the eight bits
  });

  test("has an adapter beside it, prompts of any length, and steps of a longer cache", async () => {
    const policy = await policyOf(family);
    const config = { ...policy.config, lora: LoraConfig.parse({ rank: 4, alpha: 8 }) };
    const adapter = Object.fromEntries(
      Object.entries(initialAdapter(config, 3)).map(([name, values]) => [
        name,
        name.endsWith("lora_B.weight") ? values.map((_, i) => Math.sin(i) / 8) : values,
      ]),
    );
    const prompts = [3, 250, 300].map((length) => Array.from({ length }, (_, i) => (i * 7 + length) % 60));
    const sequences = await sampled({ ...policy, config }, adapter, prompts);
    const merged = { config: policy.config, weights: mergedWeights(policy.weights, adapter, config) };
    const found = await gap(sequences, prompts, merged);
    expect(found.mean).toBeLessThan(0.06);
    expect(found.most).toBeLessThan(0.4);
    const without = await gap(sequences, prompts, policy);
    expect(without.mean).toBeGreaterThan(3 * found.mean); // the adapter was there
  });
});

test("the int8 matrices are made once, found again, and made anew when their file was cut", async () => {
  rmSync(cache, { recursive: true });
  const { config, int8 } = await policyOf("qwen2");
  const made = notes.filter((line) => line.startsWith("quantising")).length;
  const { file } = int8["lm_head.weight"]!;
  const [entry] = cacheEntries().filter(({ folder }) => file.startsWith(folder));
  expect(entry!.bytes).toBeGreaterThan(int8Bytes(config));
  expect(entry!.bytes).toBeLessThan(int8Bytes(config) + 20_000); // its header
  const before = await readValue(int8["lm_head.weight"]!);
  await policyOf("qwen2");
  expect(notes.filter((line) => line.startsWith("quantising")).length).toBe(made);
  truncateSync(file, 1000);
  const again = await policyOf("qwen2");
  expect(notes.filter((line) => line.startsWith("quantising")).length).toBe(made + 1);
  expect(await readValue(again.int8["lm_head.weight"]!)).toEqual(before);
  expect(readdirSync(join(cache, "widened")).filter((name) => /tmp|lock/.test(name))).toEqual([]);
});
