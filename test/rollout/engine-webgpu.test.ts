import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { readDecoderConfig, readWeights, scoreIds, weightSpecs } from "../../policy/index.js";
import {
  type Alternative,
  createEngine,
  type GroupRequest,
  type SampledSequence,
  type SamplingEngine,
  type SamplingOptions,
  type SamplingProvider,
  samplingCost,
} from "../../rollout/index.js";
import { placeOn, type Transfer, watchTransfers } from "../../tensor/index.js";
import { isWebgpuHere } from "../tensor/webgpu.js";

const sampled: SamplingOptions = {
  seed: 3,
  temperature: 1,
  topP: 1,
  topK: 0,
  maxNewTokens: 10,
  stopIds: [2],
};

const runnerShape = { slots: 3, promptLength: 8, cacheLength: 24 };

describe.skipIf(!(await isWebgpuHere()))("the sampler on provider webgpu (skipped without it)", () => {
  const opened: SamplingEngine[] = [];
  afterAll(async () => {
    for (const engine of opened) await engine.dispose();
  });

  const folderOf = (family: string): string => join(packageRoot, "test/vectors/policies", family);
  const open = async (family: string, provider: SamplingProvider, shape = runnerShape) => {
    const config = readDecoderConfig(folderOf(family));
    const weights = readWeights(folderOf(family), config);
    const engine = await createEngine({ config, shape, provider, threads: 1 });
    engine.setWeights(weights);
    opened.push(engine);
    const sample = async (groups: GroupRequest[], options: Partial<SamplingOptions> = {}) => {
      const sequences: SampledSequence[] = [];
      await engine.sample(groups, { ...sampled, ...options }, (sequence) => sequences.push(sequence));
      return sequences;
    };
    const alternativesOf = (promptIds: number[], alternatives: number) =>
      new Promise<(readonly Alternative[])[]>((resolve, reject) => {
        const request = { ...sampled, randomKey: "b", promptIds, samples: [0], alternatives };
        engine.start(request, {
          onFinished: (completion) => resolve(completion.alternatives!),
          onError: reject,
        });
      });
    return { config, weights, sample, alternativesOf };
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

  test("prefills fewer prompts at once where they may be long, and draws the cpu's tokens", async () => {
    const long = { slots: 2, promptLength: 520, cacheLength: 522 }; // three prompts at once
    const [gpu, cpu] = [await open("qwen2", "webgpu", long), await open("qwen2", "cpu", long)];
    const groups = [[5, 6, 7], [30]].map((promptIds, group) => ({
      group,
      randomKey: String(group),
      promptIds,
      samples: [0],
    }));
    const drawn = async ({ sample }: typeof gpu) =>
      (await sample(groups, { stopIds: [], maxNewTokens: 2 }))
        .sort((a, b) => a.group - b.group)
        .map(({ completionIds }) => completionIds);
    const tokens = await drawn(gpu);
    expect(tokens.map(({ length }) => length)).toEqual([2, 2]);
    expect(tokens).toEqual(await drawn(cpu));
  });

  test("computes on a base as it stands, without a second copy", async () => {
    const folder = folderOf("qwen2");
    const config = readDecoderConfig(folder);
    const base = await placeOn("webgpu", await readWeights(folder, config), weightSpecs(config));
    const engine = await createEngine({ config, shape: runnerShape, provider: "webgpu", base });
    opened.push(engine);
    const expected = JSON.parse(readFileSync(join(folder, "expected.json"), "utf8")) as {
      ids: number[][];
      greedy: number[];
    };
    const group = { group: 0, randomKey: "a", promptIds: expected.ids[0]!.slice(0, 5), samples: [0] };
    const options = { ...sampled, temperature: 0, maxNewTokens: expected.greedy.length, stopIds: [] };
    const crossed: Transfer[] = [];
    const stop = watchTransfers((transfer) => crossed.push(transfer));
    const drawn: number[][] = [];
    await engine.sample([group], options, ({ completionIds }) => drawn.push(completionIds));
    stop();
    expect(drawn).toEqual([expected.greedy]);
    expect(new Set(crossed.map(({ by }) => by))).toEqual(new Set(["prefill", "assign", "decode"]));
  });

  test("moves the weights once, then token ids and one number a slot at a time", async () => {
    const { weights, sample } = await open("llama", "webgpu");
    const crossed: Transfer[] = [];
    const stop = watchTransfers((transfer) => crossed.push(transfer));
    const groups = [{ group: 0, randomKey: "a", promptIds: [7, 18, 49], samples: [0, 1, 2, 3] }];
    const options = { stopIds: [] };
    await sample(groups, options);
    const uploads = crossed.filter(({ by }) => by === "upload");
    expect(uploads.map(({ name }) => name)).toEqual(Object.keys(weights));
    crossed.length = 0;
    await sample(groups, options);
    stop();
    const [slots, promptTokens] = [3, 4 * 8];
    const perSlot = ["ids", "positions", "temperature", "top_p", "top_k", "uniform", "source"];
    const drawn = ["drawn", "log_probs", "cut_log_probs"];
    expect(new Set(crossed.map(({ by, name }) => `${by} ${name}`))).toEqual(
      new Set([
        "prefill ids",
        "assign source",
        ...[...perSlot.filter((name) => name !== "source"), ...drawn].map((name) => `decode ${name}`),
      ]),
    );
    const most = Object.entries({ prefill: promptTokens, assign: slots, decode: slots });
    for (const [by, numbers] of most)
      expect(Math.max(...crossed.filter((each) => each.by === by).map(({ bytes }) => bytes))).toBe(
        4 * numbers,
      );
  });

  test("draws from what top-k and top-p leave, with alternatives, as the cpu does", async () => {
    const [gpu, cpu] = [await open("qwen2", "webgpu"), await open("qwen2", "cpu")];
    const groups = [[5, 6, 7], [30]].map((promptIds, group) => ({
      group,
      randomKey: String(group),
      promptIds,
      samples: [0, 1],
    }));
    const options = { topP: 0.8, topK: 12, temperature: 1.3 };
    const byName = (sequences: SampledSequence[]) =>
      sequences.sort((a, b) => a.group - b.group || a.sample - b.sample);
    const [got, want] = [await gpu.sample(groups, options), await cpu.sample(groups, options)].map(byName);
    expect(got!.map(({ completionIds }) => completionIds)).toEqual(
      want!.map(({ completionIds }) => completionIds),
    );
    got!.forEach(({ cutLogProbs }, i) => {
      cutLogProbs!.forEach((logProb, t) => {
        expect(Math.abs(logProb - want![i]!.cutLogProbs![t]!)).toBeLessThan(1e-4);
      });
    });
    const alternatives = await Promise.all(
      [gpu, cpu].map(({ alternativesOf }) => alternativesOf([5, 6, 7], 3)),
    );
    expect(alternatives[0]!.map((each) => each.map(({ id }) => id))).toEqual(
      alternatives[1]!.map((each) => each.map(({ id }) => id)),
    );
    expect(alternatives[0]![0]).toHaveLength(3);
  });

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

test("a prefill on a GPU is planned with fewer prompts the longer they may be: 2048 tokens, or one prompt", async () => {
  const config = readDecoderConfig(join(packageRoot, "test/vectors/policies/llama"));
  const rowsAt = async (promptLength: number): Promise<number> => {
    const shape = { slots: 2, promptLength, cacheLength: promptLength + 8 };
    const sampling = { temperature: 1, topP: 1, topK: 0 };
    return (await samplingCost({ config, shape, provider: "webgpu" }, sampling)).prefillRows;
  };
  expect([await rowsAt(512), await rowsAt(513), await rowsAt(1024), await rowsAt(4096)]).toEqual([
    4, 3, 2, 1,
  ]);
});
