/** Sampling on weights that stand in a file, with what is learned beside them. */
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import {
  type DecoderConfig,
  type HostWeights,
  initialAdapter,
  LoraConfig,
  mergedWeights,
  parameterShapes,
  readDecoderConfig,
  readWeights,
  scoreIds,
} from "../../policy/index.js";
import { createEngine, type SampledSequence, type SamplingEngine } from "../../rollout/index.js";
import { createPartPrefill, PART_TOKENS } from "../../rollout/prompt-parts.js";
import type { FileTensor, Value } from "../../tensor/index.js";

const folder = mkdtempSync(join(tmpdir(), "retort-standing-"));
const opened: SamplingEngine[] = [];
afterAll(async () => {
  for (const engine of opened) await engine.dispose();
  rmSync(folder, { recursive: true, force: true });
});

/** The weights in one file of bare numbers. */
function inFile(name: string, weights: HostWeights, config: DecoderConfig): Record<string, FileTensor> {
  const file = join(folder, name);
  const tensors: Record<string, FileTensor> = {};
  const bytes: Buffer[] = [];
  let offset = 0;
  for (const [key, shape] of Object.entries(parameterShapes(config))) {
    const data = weights[key]!;
    tensors[key] = { file, offset, spec: { shape, dtype: "float32" } };
    bytes.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    offset += data.byteLength;
  }
  writeFileSync(file, Buffer.concat(bytes));
  return tensors;
}

function policyOf(family: string): {
  config: DecoderConfig;
  weights: HostWeights;
  base: Record<string, FileTensor>;
} {
  const path = join(packageRoot, "test/vectors/policies", family);
  const config = { ...readDecoderConfig(path), maxPositions: 1024 };
  const weights = readWeights(path, config);
  return { config, weights, base: inFile(family, weights, config) };
}

/** An adapter that changes something: B is not 0. */
function adapterOf(config: DecoderConfig): HostWeights {
  const adapter = initialAdapter(config, 3);
  return Object.fromEntries(
    Object.entries(adapter).map(([name, values]) => [
      name,
      name.endsWith("lora_B.weight") ? values.map((_, i) => Math.sin(i) / 8) : values,
    ]),
  );
}

const promptOf = (length: number, salt: number): number[] =>
  Array.from({ length }, (_, i) => (i * 7 + salt * (1 + (i % 3))) % 60);

/** Samples two of each prompt. */
async function sampled(
  engine: SamplingEngine,
  prompts: number[][],
  temperature = 1,
): Promise<SampledSequence[]> {
  const groups = prompts.map((promptIds, group) => ({
    group,
    randomKey: `task-${group}`,
    promptIds,
    samples: [0, 1],
  }));
  const options = { seed: 11, temperature, topP: 1, topK: 0, maxNewTokens: 20, stopIds: [2] };
  const sequences: SampledSequence[] = [];
  await engine.sample(groups, options, (sequence) => sequences.push(sequence));
  return sequences.sort((a, b) => a.group - b.group || a.sample - b.sample);
}

async function open(
  config: DecoderConfig,
  base: Record<string, FileTensor>,
  adapter: Readonly<Record<string, Value>>,
  promptLength = 300,
): Promise<SamplingEngine> {
  const shape = { slots: 3, promptLength, cacheLength: promptLength + 30 };
  const engine = await createEngine({ config, shape, provider: "cpu", threads: 1, base });
  engine.setWeights(adapter);
  opened.push(engine);
  return engine;
}

describe.each(["llama", "qwen2", "qwen3"])("a %s policy whose weights stand in a file", (family) => {
  const { config, weights, base } = policyOf(family);
  const lora = LoraConfig.parse({ rank: 4, alpha: 8 });
  const adapted = { ...config, lora };
  const adapter = adapterOf(adapted);

  test.each([
    { name: "alone", config, adapter: {}, merged: weights },
    { name: "with an adapter", config: adapted, adapter, merged: mergedWeights(weights, adapter, adapted) },
  ])(
    "gives $name, for prompts of any length, the log-probs of the policy's own scoring within 1e-4",
    async (policy) => {
      const engine = await open(policy.config, base, policy.adapter);
      const prompts = [1, 2, PART_TOKENS, PART_TOKENS + 1, PART_TOKENS + 2, 200, 300].map((length, i) =>
        promptOf(length, i),
      );
      const sequences = await sampled(engine, prompts);
      expect(sequences.length).toBe(14);
      const rows = sequences.map(({ group, completionIds }) => [...prompts[group]!, ...completionIds]);
      const scored = await scoreIds({ config, weights: policy.merged }, rows, {
        provider: "cpu",
        threads: 1,
      });
      sequences.forEach(({ group, rolloutLogProbs }, i) => {
        const own = scored[i]!.slice(prompts[group]!.length - 1);
        const differences = own.map((logProb, t) => Math.abs(logProb - rolloutLogProbs[t]!));
        expect(differences.length).toBe(rolloutLogProbs.length);
        expect(Math.max(...differences)).toBeLessThan(1e-4);
      });
    },
  );

  test("draws greedily what the copy that is laid out for decoding draws", async () => {
    const prompts = [promptOf(5, 1), promptOf(40, 2)];
    const laidOut = await createEngine({
      config,
      shape: { slots: 3, promptLength: 48, cacheLength: 80 },
      provider: "cpu",
      threads: 1,
    });
    opened.push(laidOut);
    laidOut.setWeights(weights);
    const standing = await open(config, base, {}, 48);
    const ids = async (engine: SamplingEngine) =>
      (await sampled(engine, prompts, 0)).map(({ completionIds }) => completionIds);
    expect(await ids(standing)).toEqual(await ids(laidOut));
  });
});

test("40 slots that empty one by one, in steps of 40, 32, 16 and one slot, keep the log-probs within 1e-4", async () => {
  const { config, weights, base } = policyOf("qwen3");
  const shape = { slots: 40, promptLength: 8, cacheLength: 64 };
  const engine = await createEngine({ config, shape, provider: "cpu", threads: 1, base });
  opened.push(engine);
  const samples = Array.from({ length: 40 }, (_, i) => i);
  const sequences: SampledSequence[] = [];
  await Promise.all(
    samples.map(
      (sample) =>
        new Promise<void>((resolve, reject) => {
          const request = { promptIds: [7, 18, 49], randomKey: "a", samples: [sample], seed: 4 };
          const draw = { temperature: 1, topP: 1, topK: 0, stopIds: [] };
          // The first sample is in the first slot: the longest, so that it ends alone.
          const maxNewTokens = sample === 0 ? 50 : 2 + sample;
          engine.start(
            { ...request, ...draw, maxNewTokens },
            {
              onFinished: (completion) => {
                sequences.push({ group: 0, ...completion });
                resolve();
              },
              onError: reject,
            },
          );
        }),
    ),
  );
  const rows = sequences.map(({ completionIds }) => [7, 18, 49, ...completionIds]);
  const scored = await scoreIds({ config, weights }, rows, { provider: "cpu", threads: 1 });
  sequences.forEach(({ rolloutLogProbs }, i) => {
    const own = scored[i]!.slice(2);
    expect(own.length).toBe(rolloutLogProbs.length);
    expect(Math.max(...own.map((logProb, t) => Math.abs(logProb - rolloutLogProbs[t]!)))).toBeLessThan(1e-4);
  });
  expect(sequences.at(-1)!.completionIds.length).toBe(50);
});

test("a sampler whose graph could not be compiled compiles it when it is asked for again", async () => {
  const { config, base } = policyOf("llama");
  const { file } = base["model.norm.weight"]!;
  const engine = await open(config, base, {}, 100);
  renameSync(file, `${file}.away`);
  await expect(sampled(engine, [promptOf(80, 1)])).rejects.toThrow(file);
  renameSync(`${file}.away`, file);
  expect((await sampled(engine, [promptOf(80, 1)])).length).toBe(2);
});

test("other values for weights that never change are refused, not ignored", async () => {
  const { config, weights, base } = policyOf("llama");
  const engine = await open(config, base, base, 20);
  expect(() => engine.setWeights(weights)).toThrow(
    "setWeights: model.embed_tokens.weight is of the base, which never changes",
  );
});

describe("prompts that begin alike", () => {
  const { config, base } = policyOf("qwen3");
  const shape = { slots: 1, promptLength: 300, cacheLength: 320 };
  const options = { config, shape, provider: "cpu" as const, threads: 1, base };
  const shared = promptOf(2 * PART_TOKENS, 5);
  const [first, second] = [1, 2].map((salt) => [...shared, ...promptOf(90, salt)]);

  /** Keys and values of a prompt, and how many of its parts were computed before the last. */
  const run = async (prefill: ReturnType<typeof createPartPrefill>, prompt: number[]) => {
    let pauses = 0;
    const { keyValues, lengths } = await prefill.run([prompt], async () => {
      pauses++;
    });
    expect(lengths).toEqual([prompt.length - 1]); // the last token is left to the first step
    return { keyValues, pauses };
  };

  test("share what they have in common: computed once, the same bits, and forgotten with new weights", async () => {
    const prefill = createPartPrefill(options);
    prefill.useWeights({});
    expect((await run(prefill, first!)).pauses).toBe(3);
    const reused = await run(prefill, second!);
    expect(reused.pauses).toBe(1); // of 4 parts two are known, and after the last nobody waits
    prefill.useWeights({});
    const alone = await run(prefill, second!);
    expect(alone.pauses).toBe(3);
    expect(reused.keyValues).toEqual(alone.keyValues);
    await prefill.dispose();
  });

  test("one token's difference in the first part shares nothing", async () => {
    const prefill = createPartPrefill(options);
    prefill.useWeights({});
    await run(prefill, first!);
    const other = [(first![0]! + 1) % 60, ...first!.slice(1)];
    expect((await run(prefill, other)).pauses).toBe(3);
    await prefill.dispose();
  });

  test("a long prompt's parts leave the running sequences their steps", async () => {
    const engine = await open(config, base, {});
    const order: string[] = [];
    const request = { seed: 1, temperature: 1, topP: 1, topK: 0, stopIds: [], samples: [0] };
    const begin = (randomKey: string, promptIds: number[], maxNewTokens: number, onFirst = () => {}) =>
      new Promise<void>((resolve, reject) => {
        let count = 0;
        engine.start(
          { ...request, randomKey, promptIds, maxNewTokens },
          {
            onToken: () => {
              order.push(randomKey);
              if (++count === 1) onFirst();
            },
            onFinished: () => resolve(),
            onError: reject,
          },
        );
      });
    let long: Promise<void> | undefined;
    const short = begin("short", [3, 4], 12, () => {
      long = begin("long", promptOf(290, 9), 2);
    });
    await short;
    await long;
    // 290 tokens are 5 parts, with a step of the running sequence after each but the last.
    expect(order.indexOf("long")).toBeGreaterThanOrEqual(5);
    expect(order.indexOf("long")).toBeLessThan(order.lastIndexOf("short"));
  });
});

test("a small policy's prompts of more than 512 tokens run in parts, with the log-probs of its own scoring", async () => {
  const { config, weights } = policyOf("llama");
  const shape = { slots: 2, promptLength: 600, cacheLength: 620 };
  const engine = await createEngine({ config, shape, provider: "cpu", threads: 1 });
  opened.push(engine);
  engine.setWeights(weights);
  const prompts = [promptOf(600, 3), promptOf(9, 4)];
  const sequences = await sampled(engine, prompts);
  const rows = sequences.map(({ group, completionIds }) => [...prompts[group]!, ...completionIds]);
  const scored = await scoreIds({ config, weights }, rows, {
    provider: "cpu",
    threads: 1,
  });
  sequences.forEach(({ group, rolloutLogProbs }, i) => {
    const own = scored[i]!.slice(prompts[group]!.length - 1);
    expect(Math.max(...own.map((logProb, t) => Math.abs(logProb - rolloutLogProbs[t]!)))).toBeLessThan(1e-4);
  });
});
