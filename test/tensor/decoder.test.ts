/** The whole policy through compile(): recorded against eager, and its gradient against finite differences. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import * as tf from "@tensorflow/tfjs-core";
import { afterAll, describe, expect, test } from "vitest";
import { builtModule, randomStream } from "../../core/index.js";
import {
  type DecoderConfig,
  decoderLogits,
  initialWeights,
  parseDecoderConfig,
  weightSpecs,
} from "../../policy/index.js";
import {
  compile,
  type HostArray,
  type Provider,
  readProfile,
  type TensorMap,
  valueAndGradients,
} from "../../tensor/index.js";
import { largestError } from "./contract.js";
import { isExempt, isWebgpuHere } from "./webgpu.js";

const folder = mkdtempSync(join(tmpdir(), "retort-decoder-"));
afterAll(() => rmSync(folder, { recursive: true }));

const [ROWS, LENGTH] = [3, 7];

/** Small, with everything the three families have: grouped queries, bias or q/k norm, tied or untied embeddings. */
const config = (modelType: "llama" | "qwen2" | "qwen3"): DecoderConfig =>
  parseDecoderConfig(
    {
      model_type: modelType,
      hidden_size: 16,
      intermediate_size: 24,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: 4,
      vocab_size: 19,
      tie_word_embeddings: modelType !== "llama",
    },
    "test",
  );

const random = randomStream(7, "decoder test");
const ids = (): Int32Array => Int32Array.from({ length: ROWS * LENGTH }, () => random.integer(19));
const tokens = { ids: ids(), targets: ids() };
const tokenSpec = { shape: [ROWS, LENGTH], dtype: "int32" } as const;

/** Mean cross entropy of the targets. */
const lossOf = (decoder: DecoderConfig, weights: TensorMap, inputs: TensorMap): tf.Scalar => {
  const logits = decoderLogits(weights, inputs.ids as tf.Tensor2D, decoder);
  const logProbs = tf.logSoftmax(tf.reshape(logits, [ROWS * LENGTH, decoder.vocabulary]));
  const picked = tf.gather(logProbs, tf.reshape(inputs.targets!, [ROWS * LENGTH, 1]), 1, 1);
  return tf.neg(tf.mean(picked)) as tf.Scalar;
};

/** Loss and gradients of a decoder on a provider. */
async function lossAndGradients(
  decoder: DecoderConfig,
  weights: Readonly<Record<string, HostArray>>,
  provider: Provider,
  profilePath?: string,
): Promise<Record<string, HostArray>> {
  const compiled = await compile(
    ({ ids: rows, targets, ...params }) => {
      const inputs = { ids: rows!, targets: targets! };
      const { value, gradients } = valueAndGradients((given) => lossOf(decoder, given, inputs), params);
      return { loss: value, ...gradients };
    },
    { ids: tokenSpec, targets: tokenSpec, ...weightSpecs(decoder) },
    { provider, threads: 1, ...(profilePath ? { profilePath } : {}) },
  );
  const results = await compiled.run({ ...tokens, ...weights });
  await compiled.dispose();
  return results as Record<string, HostArray>;
}

/** Fresh weights, with norms and biases off their usual 1 and 0. */
function testWeights(decoder: DecoderConfig): Record<string, Float32Array> {
  const weights = initialWeights(decoder, 3);
  for (const values of Object.values(weights))
    values.forEach((x, i) => {
      values[i] = x + 0.3 * random.normal();
    });
  return weights;
}

describe.each(["llama", "qwen2", "qwen3"] as const)(
  "the loss of a small %s and all its gradients",
  (family) => {
    const decoder = config(family);
    const weights = testWeights(decoder);

    test("agree with eager execution, on cpu and where there is one on a GPU", async () => {
      const want = await lossAndGradients(decoder, weights, "tensorflow");
      const providers: Provider[] = (await isWebgpuHere()) ? ["cpu", "webgpu"] : ["cpu"];
      for (const provider of providers) {
        const profilePath = join(folder, `${family}-${provider}.json`);
        const got = await lossAndGradients(decoder, weights, provider, profilePath);
        for (const [name, values] of Object.entries(want)) {
          expect(largestError(got[name]!, values), `${provider} ${name}`).toBeLessThan(
            provider === "cpu" ? 1e-4 : 1e-3,
          );
        }
      }
      const elsewhere = providers.includes("webgpu")
        ? readProfile(join(folder, `${family}-webgpu.json`)).filter(
            (node) => !node.provider.startsWith("WebGpu"),
          )
        : [];
      expect(elsewhere.filter((node) => !isExempt(node))).toEqual([]);
    });

    test("agree with finite differences in the direction of each parameter's gradient", async () => {
      const compiled = await compile(
        ({ ids: rows, targets, ...params }) => ({
          loss: lossOf(decoder, params, { ids: rows!, targets: targets! }),
        }),
        { ids: tokenSpec, targets: tokenSpec, ...weightSpecs(decoder) },
        { provider: "cpu", threads: 1 },
      );
      const gradients = await lossAndGradients(decoder, weights, "cpu");
      for (const [name, values] of Object.entries(weights)) {
        const gradient = gradients[name]!;
        const norm = Math.hypot(...gradient);
        // A step that changes the loss by about 0.02: large against float32's 1e-7, small against curvature.
        const size = Math.min(0.01 / norm, 0.1);
        const lossAt = async (sign: number): Promise<number> => {
          const moved = values.map((x, i) => x + (sign * size * gradient[i]!) / norm);
          const { loss } = await compiled.run({ ...tokens, ...weights, [name]: moved });
          return (loss as Float32Array)[0]!;
        };
        // four points: what is left of the curvature falls with the fourth power of the step
        const [near, far] = [(await lossAt(1)) - (await lossAt(-1)), (await lossAt(2)) - (await lossAt(-2))];
        const slope = (8 * near - far) / (12 * size);
        expect(Math.abs(slope - norm) / norm, name).toBeLessThan(1e-3);
      }
      await compiled.dispose();
    });
  },
);

test("a worker thread compiles and runs like the main one", async () => {
  const compileModule = builtModule("tensor/index.js");
  const code = `
    const { parentPort } = require("node:worker_threads");
    import(${JSON.stringify(compileModule)}).then(async ({ compile, valueAndGradients }) => {
      const tf = await import("@tensorflow/tfjs-core");
      const loss = (p) => tf.sum(tf.square(p.x));
      const compiled = await compile(({ x }) => valueAndGradients(loss, { x }).gradients, { x: { shape: [2], dtype: "float32" } }, { provider: "cpu" });
      parentPort.postMessage((await compiled.run({ x: Float32Array.of(1, 5) })).x);
    });`;
  const workers = [1, 2].map(() => new Worker(code, { eval: true }));
  const answers = await Promise.all(
    workers.map(
      (worker) => new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject)),
    ),
  );
  await Promise.all(workers.map((worker) => worker.terminate()));
  expect(answers).toEqual([Float32Array.of(2, 10), Float32Array.of(2, 10)]);
});
