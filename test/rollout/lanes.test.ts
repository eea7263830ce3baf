import { expect, test } from "vitest";
import { type DecoderConfig, initialWeights, parseDecoderConfig } from "../../policy/index.js";
import {
  createEngine,
  type GroupRequest,
  type SampledSequence,
  type SamplingEngine,
} from "../../rollout/index.js";
import { laneShares } from "../../rollout/lane-shares.js";
import { divideGroups } from "../../rollout/lanes.js";

const config: DecoderConfig = parseDecoderConfig({
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  vocab_size: 23,
});
const options = { seed: 5, temperature: 1, topP: 1, topK: 0, maxNewTokens: 12, stopIds: [0] };
const group = (index: number, samples: number[]): GroupRequest => ({
  group: index,
  randomKey: `task-${index}`,
  promptIds: [1 + index, 3, 5 + index],
  samples,
});
const groups = Array.from({ length: 7 }, (_, index) => group(index, [0, 1, 2, 3]));

const open = (threads: number, slots: number): Promise<SamplingEngine> =>
  createEngine({ config, shape: { slots, promptLength: 4, cacheLength: 16 }, provider: "cpu", threads });

async function sampled(engine: SamplingEngine): Promise<SampledSequence[]> {
  const sequences: SampledSequence[] = [];
  const stats = await engine.sample(groups, options, (sequence) => sequences.push(sequence));
  expect(stats.tokens).toBe(sequences.reduce((sum, { completionIds }) => sum + completionIds.length, 0));
  return sequences.sort((a, b) => a.group - b.group || a.sample - b.sample);
}

test("two lanes of 4 slots draw, to the bit, what one lane of 4 slots draws, before and after new weights", async () => {
  const [one, two] = [await open(1, 4), await open(2, 8)];
  const drawn: SampledSequence[][] = [];
  for (const seed of [1, 2]) {
    const weights = initialWeights(config, seed, { embeddingStd: 1, matrixScale: 1.5 });
    one.setWeights(weights);
    two.setWeights(weights);
    drawn.push(await sampled(one));
    expect(await sampled(two)).toEqual(drawn.at(-1));
  }
  expect(drawn[0]!.length).toBe(28);
  expect(drawn[1]).not.toEqual(drawn[0]);
  await one.dispose();
  await two.dispose();
});

test("what the receiver throws at a sequence reaches the caller, and the lanes can sample again", async () => {
  const engine = await open(2, 8);
  engine.setWeights(initialWeights(config, 1));
  const refused = engine.sample(groups, options, () => {
    throw new Error("not finite");
  });
  await expect(refused).rejects.toThrow("not finite");
  expect((await sampled(engine)).length).toBe(28);
  await engine.dispose();
});

test("a lane that fails rejects the call with our failure", async () => {
  const engine = await open(2, 8);
  engine.setWeights(initialWeights(config, 1));
  const tooLong = { ...group(0, [0]), promptIds: [1, 2, 3, 4, 5] };
  const failed = engine.sample([tooLong, tooLong], options, () => {});
  await expect(failed).rejects.toThrow(/sampling thread failed.*prompt of 5 tokens/);
  await engine.dispose();
});

test("groups go whole to the lane with the least work", () => {
  const shares = divideGroups([group(0, [0, 1, 2, 3]), group(1, [0]), group(2, [0, 1]), group(3, [0, 1])], 2);
  expect(shares.map((share) => share.map(({ group: index }) => index))).toEqual([[0], [1, 2, 3]]);
});

test("fewer groups than lanes are divided by their samples", () => {
  const shares = divideGroups([group(0, [0, 1, 2, 3, 4])], 2);
  expect(shares.map((share) => share.map(({ samples }) => samples))).toEqual([[[0, 2, 4]], [[1, 3]]]);
});

const ofWidth = (hidden_size: number): DecoderConfig =>
  parseDecoderConfig({ ...MILLIONS, hidden_size, intermediate_size: 3 * hidden_size });
const MILLIONS = { model_type: "llama", num_hidden_layers: 6, num_attention_heads: 8, vocab_size: 2000 };

test.each([
  { what: "0.4M parameters, 16 slots", config: ofWidth(32), slots: 16, want: [8, 8] },
  { what: "9M parameters, 16 slots, which one product takes", config: ofWidth(320), slots: 16, want: [16] },
  { what: "9M parameters, 33 slots", config: ofWidth(320), slots: 33, want: [16, 17] },
  { what: "81M parameters, whose copies are large", config: ofWidth(1024), slots: 64, want: [64] },
])("slots in two threads: $what", ({ config, slots, want }) => {
  const shares = laneShares(
    { provider: "cpu", config, shape: { slots, promptLength: 4, cacheLength: 16 } },
    2,
  );
  expect(shares).toEqual({ slots: want, threads: want.length === 1 ? 2 : 1 });
});
