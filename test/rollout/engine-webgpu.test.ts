import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { readDecoderConfig, readWeights, scoreIds } from "../../policy/index.js";
import {
  createEngine,
  type GroupRequest,
  type SampledSequence,
  type SamplingEngine,
  type SamplingOptions,
} from "../../rollout/index.js";
import type { Provider } from "../../tensor/index.js";
import { isWebgpuHere } from "../tensor/webgpu.js";

const sampled: SamplingOptions = {
  seed: 3,
  temperature: 1,
  topP: 1,
  topK: 0,
  maxNewTokens: 10,
  stopIds: [2],
};

describe.skipIf(!(await isWebgpuHere()))("the sampler on provider webgpu", () => {
  const opened: SamplingEngine[] = [];
  afterAll(async () => {
    for (const engine of opened) await engine.dispose();
  });

  const folderOf = (family: string): string => join(packageRoot, "test/vectors/policies", family);
  const open = async (family: string, provider: Provider) => {
    const config = readDecoderConfig(folderOf(family));
    const weights = readWeights(folderOf(family), config);
    const shape = { slots: 3, promptLength: 8, cacheLength: 24 };
    const engine = await createEngine({ config, shape, provider, threads: 1 });
    engine.setWeights(weights);
    opened.push(engine);
    const sample = async (groups: GroupRequest[], options: Partial<SamplingOptions> = {}) => {
      const sequences: SampledSequence[] = [];
      await engine.sample(groups, { ...sampled, ...options }, (sequence) => sequences.push(sequence));
      return sequences;
    };
    return { config, weights, sample };
  };

  test.each(["llama", "qwen2", "qwen3"])(
    "continues greedily as the independent implementation does: %s",
    async (family) => {
      const { ids, greedy } = JSON.parse(readFileSync(join(folderOf(family), "expected.json"), "utf8")) as {
        ids: number[][];
        greedy: number[];
      };
      const { sample } = await open(family, "webgpu");
      const prompt = { group: 0, randomKey: "a", promptIds: ids[0]!.slice(0, 5), samples: [0] };
      const [sequence] = await sample([prompt], { temperature: 0, maxNewTokens: greedy.length, stopIds: [] });
      expect(sequence!.completionIds).toEqual(greedy);
    },
  );

  test("records the log-probs that the cpu gives the same tokens, within 1e-4, more sequences than slots", async () => {
    const { config, weights, sample } = await open("qwen3", "webgpu");
    const prompts = [[7, 18, 49], [4], [9, 9, 30, 2, 5]];
    const sequences = await sample(
      prompts.map((promptIds, group) => ({ group, randomKey: String(group), promptIds, samples: [0, 1] })),
    );
    expect(sequences.length).toBe(6);
    const rows = sequences.map(({ group, completionIds }) => [...prompts[group]!, ...completionIds]);
    const scored = await scoreIds({ config, weights }, rows, { provider: "cpu", threads: 1 });
    sequences.forEach(({ group, rolloutLogProbs }, i) => {
      const cpu = scored[i]!.slice(prompts[group]!.length - 1);
      expect(cpu.length).toBe(rolloutLogProbs.length);
      cpu.forEach((logProb, t) => {
        expect(Math.abs(logProb - rolloutLogProbs[t]!)).toBeLessThan(1e-4);
      });
    });
  });
});
