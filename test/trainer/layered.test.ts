import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { packageRoot, randomStream } from "../../core/index.js";
import {
  adapterShapes,
  type DecoderConfig,
  initialAdapter,
  initialWeights,
  LoraConfig,
  parseDecoderConfig,
  readDecoderConfig,
  readWeights,
} from "../../policy/index.js";
import { type FileTensor, watchTransfers } from "../../tensor/index.js";
import {
  createLearner,
  decoderModel,
  type Learner,
  type LearnerOptions,
  NonFiniteUpdateError,
  ObjectiveConfig,
  OptimizerConfig,
} from "../../trainer/index.js";
import { learned, tinySamples } from "./tiny.js";
import { expectClose } from "./vectors.js";

const POLICIES = ["llama", "qwen2", "qwen3"] as const;
type Policy = (typeof POLICIES)[number];
const lora = LoraConfig.parse({ rank: 2, alpha: 4 });

const root = mkdtempSync(join(tmpdir(), "layered-"));
const opened: Learner[] = [];
afterAll(async () => {
  for (const learner of opened) await learner.dispose();
  rmSync(root, { recursive: true });
});

async function policyOf(
  name: Policy,
  withLora: boolean,
): Promise<Pick<LearnerOptions, "model" | "weights" | "frozen">> {
  const folder = join(packageRoot, "test/vectors/policies", name);
  const base = readDecoderConfig(folder);
  const weights = await readWeights(folder, base);
  if (!withLora) return { model: decoderModel(base), weights };
  const config: DecoderConfig = { ...base, lora };
  const adapter = Object.fromEntries(
    Object.keys(adapterShapes(config)).map((key) => {
      const random = randomStream(1, key);
      return [key, initialAdapter(config, 0)[key]!.map(() => random.normal() * 0.1)];
    }),
  );
  return { model: decoderModel(config), weights: adapter, frozen: weights };
}

interface Choices {
  readonly objective: Record<string, unknown>;
  readonly optimizer?: Record<string, unknown>;
  readonly policy?: Policy;
  readonly withLora?: boolean;
  readonly options?: Partial<LearnerOptions>;
}

/** A learner in one graph and one layer by layer, of the same policy. */
async function both(choices: Choices): Promise<{ whole: Learner; layered: Learner }> {
  const { objective, optimizer, policy = "qwen2", withLora = false, options } = choices;
  const given = await policyOf(policy, withLora);
  const open = (recompute: "none" | "layers"): Learner => {
    const learner = createLearner({
      ...given,
      objective: ObjectiveConfig.parse(objective),
      optimizer: OptimizerConfig.parse({ type: "adamw", lr: 1e-3, ...optimizer, recompute }),
      temperature: 0.8,
      totalSteps: 10,
      compile: { provider: "cpu", threads: 1 },
      chunk: 40, // smaller than a microbatch's tokens, and no divisor of them
      ...options,
    });
    opened.push(learner);
    return learner;
  };
  return { whole: open("none"), layered: open("layers") };
}

/** Every tensor of two states within a part of the tensor's largest element. */
async function expectSameState(got: Learner, want: Learner, tolerance: number, prefix = ""): Promise<void> {
  const [a, b] = [await got.exportState(), await want.exportState()];
  expect([a.step, a.optimizerSteps, Object.keys(a.tensors)]).toEqual([
    b.step,
    b.optimizerSteps,
    Object.keys(b.tensors),
  ]);
  for (const [key, { data }] of Object.entries(b.tensors)) {
    if (!key.startsWith(prefix)) continue;
    const most = data.reduce((largest, x) => Math.max(largest, Math.abs(x)), 0);
    const worst = data.reduce((gap, x, i) => Math.max(gap, Math.abs(x - a.tensors[key]!.data[i]!)), 0);
    expect(worst, `${key}: largest element ${most}`).toBeLessThanOrEqual(tolerance * most + 1e-12);
  }
}

const objectives = [
  { type: "sft" },
  { type: "raft", aggregation: "per_sequence" },
  { type: "grpo" },
  { type: "grpo", aggregation: "per_sequence", kl_coefficient: 0.1, minibatches: 2 },
  { type: "sdpo" },
  { type: "sdpo", topk: 4, alpha: 1, kl_coefficient: 0.1 },
  { type: "sdpo", topk: 4, tail: false, alpha: 0, minibatches: 2 },
  { type: "sdpo", sampled_token_only: true, alpha: 1, importance_clip: null },
  { type: "mix", lambda: 0.3, teacher_rate: 0.5 },
];
const cases = objectives.flatMap((objective, i) =>
  [false, true].map((withLora, j) => ({ objective, withLora, policy: POLICIES[(i + j) % 3]! })),
);

/** The frozen base as tensors that stand in one file. */
function inFile(
  frozen: LearnerOptions["frozen"],
  model: LearnerOptions["model"],
): Record<string, FileTensor> {
  const file = join(root, "base.bin");
  let offset = 0;
  writeFileSync(file, "");
  return Object.fromEntries(
    Object.entries(model.frozenShapes!).map(([name, shape]) => {
      const data = frozen![name] as Float32Array;
      appendFileSync(file, Buffer.from(data.buffer, data.byteOffset, data.byteLength));
      offset += data.byteLength;
      return [name, { file, offset: offset - data.byteLength, spec: { shape, dtype: "float32" } as const }];
    }),
  );
}

describe("layer by layer", () => {
  test.each(cases)(
    "the update is that of one graph: $policy, lora $withLora, $objective",
    async (choices) => {
      const { whole, layered } = await both({ ...choices, optimizer: { microbatch_tokens: 128 } });
      const samples = tinySamples(8);
      for (let step = 0; step < 3; step++) {
        const [want, got] = [await whole.update({ samples }), await layered.update({ samples })];
        expectClose(learned(got), learned(want), 1e-5);
        if (step === 0) await expectSameState(layered, whole, 1e-5, "moment1/"); // the gradients, clipped
      }
      await expectSameState(layered, whole, 1e-3);
    },
  );

  test.each([
    { type: "llama", withLora: false, keptBytes: 2 ** 30, share: 1 },
    { type: "qwen2", withLora: true, keptBytes: 2 ** 30, share: 1 },
    { type: "qwen3", withLora: false, keptBytes: 500_000, share: 1 / 3 }, // of three layers, one at the most tokens
  ])(
    "products that are kept change no gradient: $type, lora $withLora, of up to $keptBytes bytes",
    async (choices) => {
      // Wide enough that its products are worth keeping.
      const config = parseDecoderConfig({
        model_type: choices.type,
        hidden_size: 160,
        intermediate_size: 144,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 40,
        vocab_size: 11,
        tie_word_embeddings: true,
      });
      const [weights, adapted] = [initialWeights(config, 3), { ...config, lora }];
      const given = choices.withLora
        ? { model: decoderModel(adapted), weights: initialAdapter(adapted, 0), frozen: weights }
        : { model: decoderModel(config), weights };
      const counts = { kept: 0, all: 0 };
      const end = watchTransfers(({ by, direction, name }) => {
        if (!by.startsWith("layer backward") || direction !== "in" || name !== "dy") return;
        counts.all++;
        if (by.startsWith("layer backward of kept")) counts.kept++;
      });
      const updated = async (keptBytes: number): Promise<{ learner: Learner; metrics: number[] }> => {
        const learner = createLearner({
          ...given,
          objective: ObjectiveConfig.parse({ type: "mix" }),
          optimizer: OptimizerConfig.parse({ type: "adamw", microbatch_tokens: 128, recompute: "layers" }),
          temperature: 0.8,
          totalSteps: 10,
          compile: { provider: "cpu", threads: 1 },
          keptBytes,
        });
        opened.push(learner);
        return { learner, metrics: learned(await learner.update({ samples: tinySamples(14) })) };
      };
      const none = await updated(0);
      expect(counts.kept).toBe(0);
      const some = await updated(choices.keptBytes);
      end();
      expect(counts.kept / (counts.all / 2)).toBeGreaterThanOrEqual(choices.share);
      expect(counts.kept === counts.all / 2).toBe(choices.share === 1);
      expectClose(some.metrics, none.metrics, 1e-6);
      await expectSameState(some.learner, none.learner, 1e-5, "moment1/");
    },
  );

  test.each(POLICIES)("a frozen base that stands in a file trains the same adapter: %s", async (policy) => {
    const given = await policyOf(policy, true);
    const frozen = inFile(given.frozen, given.model);
    const choices = { objective: { type: "mix", kl_coefficient: 0.1 }, policy, withLora: true };
    const [fed, mapped] = [await both(choices), await both({ ...choices, options: { frozen } })];
    const samples = tinySamples(6);
    for (const learner of [fed.layered, mapped.layered, mapped.whole]) {
      await learner.update({ samples });
      await learner.update({ samples });
    }
    await expectSameState(mapped.layered, fed.layered, 1e-6);
    await expectSameState(mapped.whole, fed.layered, 1e-3);
  });

  test("Muon's step is the same", async () => {
    const { whole, layered } = await both({ objective: { type: "sft" }, optimizer: { type: "muon" } });
    const samples = tinySamples(6);
    for (let step = 0; step < 2; step++)
      expectClose(learned(await layered.update({ samples })), learned(await whole.update({ samples })), 1e-5);
    await expectSameState(layered, whole, 1e-3);
  });

  test("log-probabilities are those of one graph", async () => {
    const { whole, layered } = await both({ objective: { type: "grpo" }, withLora: true });
    const samples = tinySamples(4);
    expectClose(await layered.score(samples), await whole.score(samples), 1e-6);
  });

  test.each(["none", "layers"])("a state saved in the other mode goes on: %s", async (recompute) => {
    const { whole, layered } = await both({ objective: { type: "mix" } });
    const [first, second] = recompute === "none" ? [layered, whole] : [whole, layered];
    const samples = tinySamples(6);
    await first.update({ samples });
    second.importState(await first.exportState());
    const [want, got] = [await first.update({ samples }), await second.update({ samples })];
    expectClose(learned(got), learned(want), 1e-5);
    await expectSameState(second, first, 1e-3);
  });

  test.each([
    { what: "gradient", objective: { type: "grpo", importance_clip: null }, advantage: 1e30 },
    { what: "loss", objective: { type: "grpo", importance_clip: null }, advantage: Number.NaN },
    { what: "weights", objective: { type: "sft" }, advantage: 1, lr: 1e38 },
  ])("an update whose $what is not finite changes no bit", async ({ objective, advantage, lr = 1e-3 }) => {
    const { layered } = await both({ objective, optimizer: { lr } });
    const before = structuredClone(await layered.exportState());
    const samples = tinySamples(4).map((sample) => ({ ...sample, advantage }));
    await expect(layered.update({ samples })).rejects.toThrow(NonFiniteUpdateError);
    expect(await layered.exportState()).toEqual(before);
  });
});
