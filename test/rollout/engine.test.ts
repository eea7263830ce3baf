import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import {
  type DecoderConfig,
  type HostWeights,
  initialWeights,
  type PolicyFolder,
  readDecoderConfig,
  readWeights,
  scoreIds,
} from "../../policy/index.js";
import {
  createEngine,
  type GroupRequest,
  type SampledSequence,
  type SamplingEngine,
  type SamplingOptions,
} from "../../rollout/index.js";

const folderOf = (family: string): string => join(packageRoot, "test/vectors/policies", family);
const greedyOf = (family: string): { ids: number[][]; greedy: number[] } =>
  JSON.parse(readFileSync(join(folderOf(family), "expected.json"), "utf8"));

const open = async (
  family: string,
  slots: number,
  lengths = { promptLength: 16, cacheLength: 48 },
): Promise<{ config: DecoderConfig; weights: HostWeights; engine: SamplingEngine }> => {
  const config = readDecoderConfig(folderOf(family));
  const weights = readWeights(folderOf(family), config);
  const shape = { slots, ...lengths };
  const engine = await createEngine({ config, shape, provider: "cpu", threads: 1 });
  engine.setWeights(weights);
  opened.push(engine);
  return { config, weights, engine };
};

const opened: SamplingEngine[] = [];
afterAll(async () => {
  for (const engine of opened) await engine.dispose();
});

const sampled: SamplingOptions = {
  seed: 11,
  temperature: 1,
  topP: 1,
  topK: 0,
  maxNewTokens: 20,
  stopIds: [2],
};

const run = async (
  engine: SamplingEngine,
  groups: readonly GroupRequest[],
  options: Partial<SamplingOptions> = {},
): Promise<{ sequences: SampledSequence[]; decodeSteps: number }> => {
  const sequences: SampledSequence[] = [];
  const stats = await engine.sample(groups, { ...sampled, ...options }, (sequence) =>
    sequences.push(sequence),
  );
  return { sequences, decodeSteps: stats.decodeSteps };
};

const group = (index: number, promptIds: number[], samples = [0]): GroupRequest => ({
  group: index,
  randomKey: `task-${index}`,
  promptIds,
  samples,
});

describe.each(["llama", "qwen2", "qwen3"])("the sampler with a %s policy", (family) => {
  test("continues greedily as the independent implementation does", async () => {
    const { engine } = await open(family, 2);
    const { ids, greedy } = greedyOf(family);
    const prompt = ids[0]!.slice(0, 5);
    const { sequences } = await run(engine, [group(0, prompt)], {
      temperature: 0,
      maxNewTokens: greedy.length,
      stopIds: [],
    });
    expect(sequences[0]!.completionIds).toEqual(greedy);
    expect(sequences[0]!.finishReason).toBe("length");
  });

  test.each([
    { slots: 8 },
    { slots: 4 }, // multiplied one by one
    { slots: 1 },
  ])("records log-probs that the policy's own scoring gives within 1e-4, $slots slots", async ({ slots }) => {
    const { config, weights, engine } = await open(family, slots);
    const { sequences } = await run(engine, [group(0, [7, 18, 49], [0, 1, 2]), group(1, [4], [0, 1])]);
    const prompts = [[7, 18, 49], [4]];
    const policy = { folder: "", config, weights } as PolicyFolder;
    const rows = sequences.map((sequence) => [...prompts[sequence.group]!, ...sequence.completionIds]);
    const scored = await scoreIds(policy, rows, { provider: "cpu", threads: 1 });
    sequences.forEach((sequence, i) => {
      const mine = scored[i]!.slice(prompts[sequence.group]!.length - 1);
      expect(mine.length).toBe(sequence.rolloutLogProbs.length);
      const differences = mine.map((logProb, t) => Math.abs(logProb - sequence.rolloutLogProbs[t]!));
      expect(Math.max(...differences)).toBeLessThan(1e-4);
    });
  });
});

test("a rollout's tokens and log-probs are the same bits alone and in a full machine", async () => {
  const { engine } = await open("qwen3", 4);
  const wanted = group(5, [7, 18, 49, 61], [2]);
  const others = Array.from({ length: 9 }, (_, i) =>
    group(i === 5 ? 50 : i, [3 + i, 40, 9 + i].slice(0, 1 + (i % 3)), [0, 1, 2]),
  );
  const alone = (await run(engine, [wanted])).sequences[0]!;
  const crowded = await run(engine, [...others.slice(0, 4), wanted, ...others.slice(4)]);
  expect(crowded.sequences.length).toBe(28);
  expect(crowded.sequences.find((sequence) => sequence.group === 5)).toEqual(alone);
});

test("a prompt that is prefilled alone, in pairs or among four gives the same bits", async () => {
  const shape = { slots: 4, promptLength: 256, cacheLength: 264 };
  // Large enough that each number of prompts has a graph of its own.
  const sizes = { width: 128, feedForward: 768, vocabulary: 2048, layers: 1 };
  const config = { ...readDecoderConfig(folderOf("llama")), ...sizes };
  const engine = await createEngine({ config, shape, provider: "cpu", threads: 1 });
  opened.push(engine);
  engine.setWeights(initialWeights(config, 1, { embeddingStd: 0.5, matrixScale: 1 }));
  const prompt = (index: number): GroupRequest =>
    group(
      index,
      Array.from({ length: 256 - 9 * index }, (_, i) => (i * 7 + index) % 2000),
    );
  const [alone] = (await run(engine, [prompt(0)], { stopIds: [] })).sequences;
  expect(alone!.completionIds.length).toBe(8);
  for (const count of [2, 3, 4]) {
    const groups = Array.from({ length: count }, (_, index) => prompt(index));
    const { sequences } = await run(engine, groups, { stopIds: [] });
    expect(sequences.length).toBe(count);
    expect(sequences.find((sequence) => sequence.group === 0)).toEqual(alone);
  }
});

test.each(["llama", "qwen2", "qwen3"])(
  "a long neighbour makes the %s policy read a longer cache, and changes no bit of a short rollout",
  async (family) => {
    const { engine } = await open(family, 3, { promptLength: 100, cacheLength: 140 });
    const wanted = group(0, [7, 18, 49], [4]);
    const long = (index: number, length: number): GroupRequest =>
      group(
        index,
        Array.from({ length }, (_, i) => (i * 7 + index) % 60),
      );
    const alone = (await run(engine, [wanted])).sequences[0]!;
    for (const length of [30, 60, 100]) {
      const { sequences } = await run(engine, [long(1, length), wanted, long(2, length - 5)]);
      expect(sequences.find((sequence) => sequence.group === 0)).toEqual(alone);
    }
  },
);

test("every sample of a group has its own random numbers, and a seed repeats them", async () => {
  const { engine } = await open("llama", 4);
  const first = (await run(engine, [group(0, [7, 18], [0, 1, 2, 3])])).sequences;
  const again = (await run(engine, [group(0, [7, 18], [0, 1, 2, 3])])).sequences;
  const other = (await run(engine, [group(0, [7, 18], [0, 1, 2, 3])], { seed: 12 })).sequences;
  expect(again).toEqual(first);
  expect(new Set(first.map((sequence) => sequence.completionIds.join())).size).toBe(4);
  expect(other.map((s) => s.completionIds)).not.toEqual(first.map((s) => s.completionIds));
});

test("a finished sequence frees its slot at once: 2 slots need the steps of the work, not of the longest", async () => {
  const { engine } = await open("llama", 2);
  const groups = Array.from({ length: 6 }, (_, i) => group(i, [5 + i, 9]));
  const { sequences, decodeSteps } = await run(engine, groups);
  const decoded = sequences.map((sequence) => sequence.completionIds.length - 1); // the first token comes from the prefill
  const total = decoded.reduce((a, b) => a + b);
  expect(sequences.length).toBe(6);
  expect(decodeSteps).toBeGreaterThanOrEqual(total / 2);
  expect(decodeSteps).toBeLessThanOrEqual(Math.ceil(total / 2) + Math.max(...decoded));
});

test("a completion ends with its stop token, or at its length with the reason said", async () => {
  const { engine } = await open("qwen2", 4);
  const stops = Array.from({ length: 48 }, (_, id) => id);
  const { sequences } = await run(engine, [group(0, [7, 18], [0, 1, 2, 3, 4, 5, 6, 7])], {
    stopIds: stops,
    maxNewTokens: 3,
  });
  for (const { completionIds, finishReason } of sequences) {
    expect(completionIds.slice(0, -1).every((id) => id >= 48)).toBe(true);
    expect(finishReason).toBe(completionIds.at(-1)! < 48 ? "stop" : "length");
    if (finishReason === "length") expect(completionIds.length).toBe(3);
  }
  expect(new Set(sequences.map((sequence) => sequence.finishReason)).size).toBe(2);
});
