import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { packageRoot, randomStream } from "../../core/index.js";
import {
  type DecoderConfig,
  initialAdapter,
  LoraConfig,
  readDecoderConfig,
  readWeights,
  weightSpecs,
} from "../../policy/index.js";
import { hasHalfPrecision, type Provider, placeOn } from "../../tensor/index.js";
import {
  createLearner,
  decoderModel,
  type Learner,
  ObjectiveConfig,
  OptimizerConfig,
} from "../../trainer/index.js";
import { isWebgpuHere } from "../tensor/webgpu.js";
import { tinySamples } from "./tiny.js";

// See test/tensor/half-precision.test.ts: on the cpu float16 is storage and rounding, sums are float32.
const providers: Provider[] =
  (await isWebgpuHere()) && (await hasHalfPrecision("webgpu")) ? ["cpu", "webgpu"] : ["cpu"];

/** Largest difference of a log-probability, and of the gradient's norm as a share of it, that 11 bits explain here. */
const [LOG_PROB_BOUND, NORM_BOUND] = [0.02, 0.02];

describe.each(providers)("a base in float16 under an adapter on %s", (provider) => {
  const opened: Learner[] = [];
  afterAll(async () => {
    for (const learner of opened) await learner.dispose();
  });

  async function open(family: string, recompute: string, matrixType?: "float16"): Promise<Learner> {
    const folder = join(packageRoot, "test/vectors/policies", family);
    const base = readDecoderConfig(folder);
    const lora = LoraConfig.parse({ rank: 2, alpha: 4 });
    const config: DecoderConfig = { ...base, lora, ...(matrixType === undefined ? {} : { matrixType }) };
    const adapter = Object.fromEntries(
      Object.entries(initialAdapter(config, 0)).map(([name, values]) => {
        const random = randomStream(1, name);
        return [name, values.map(() => random.normal() * 0.1)];
      }),
    );
    const learner = createLearner({
      model: decoderModel(config),
      weights: adapter,
      frozen: await placeOn(provider, await readWeights(folder, base), weightSpecs(config)),
      objective: ObjectiveConfig.parse({ type: "sdpo", topk: 4 }),
      optimizer: OptimizerConfig.parse({ type: "adamw", lr: 0.01, recompute }),
      temperature: 1,
      totalSteps: 10,
      compile: { provider, threads: 1 },
    });
    opened.push(learner);
    return learner;
  }

  test.each([
    { family: "llama", recompute: "none" },
    { family: "qwen2", recompute: "layers" },
    { family: "qwen3", recompute: "layers" },
  ])("$family, recompute $recompute: log-probs and gradient stay near those of float32", async (given) => {
    const { family, recompute } = given;
    const [half, full] = [await open(family, recompute, "float16"), await open(family, recompute)];
    const samples = tinySamples(4);
    const [got, want] = [await half.score(samples), await full.score(samples)];
    const gaps = want.flatMap((row, i) => row.map((logProb, t) => Math.abs(logProb - got[i]![t]!)));
    expect(Math.max(...gaps)).toBeLessThan(LOG_PROB_BOUND);
    expect(Math.max(...gaps)).toBeGreaterThan(0); // it did compute with fewer digits
    const [gotUpdate, wantUpdate] = [await half.update({ samples }), await full.update({ samples })];
    expect(Math.abs(gotUpdate.grad_norm / wantUpdate.grad_norm - 1)).toBeLessThan(NORM_BOUND);
    expect(Math.abs(gotUpdate.loss - wantUpdate.loss)).toBeLessThan(0.01);
  });
});
