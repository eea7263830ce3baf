import "@tensorflow/tfjs-backend-cpu";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs-core";
import "@tensorflow/tfjs-core/dist/register_all_gradients.js";
import { beforeAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import {
  type DecoderConfig,
  decoderHidden,
  decoderLogits,
  decodeStep,
  decodingWeights,
  type KeyValue,
  parameterShapes,
  projectLogits,
  readDecoderConfig,
  readWeights,
} from "../../policy/index.js";
import { linear, stored, storedShape } from "../../policy/step-products.js";
import { compile } from "../../tensor/index.js";

/** Tiny checkpoints with numbers of an independent float64 implementation: see test/vectors/README.md. */
interface Expected {
  ids: number[][];
  mask: number[][];
  log_probs: number[][];
  loss: number;
  logits: number[][][];
  grad_norms: Record<string, number>;
  greedy: number[];
}

const folderOf = (family: string): string => join(packageRoot, "test/vectors/policies", family);

function load(family: string): {
  config: DecoderConfig;
  weights: Record<string, tf.Tensor>;
  expected: Expected;
} {
  const config = readDecoderConfig(folderOf(family));
  const host = readWeights(folderOf(family), config);
  const shapes = parameterShapes(config);
  const weights = Object.fromEntries(
    Object.entries(host).map(([name, data]) => [name, tf.tensor(data, shapes[name]!)]),
  );
  return {
    config,
    weights,
    expected: JSON.parse(readFileSync(join(folderOf(family), "expected.json"), "utf8")),
  };
}

const worstDifference = (got: ArrayLike<number>, want: readonly number[]): number =>
  want.reduce((worst, value, i) => Math.max(worst, Math.abs(value - got[i]!)), 0);

/** Log-probabilities of ids[1:], [B, T - 1]. */
function logProbs(logits: tf.Tensor3D, ids: tf.Tensor2D): tf.Tensor2D {
  const [rows, length, vocabulary] = logits.shape;
  const all = tf.logSoftmax(tf.slice(logits, [0, 0, 0], [rows, length - 1, vocabulary]));
  const chosen = tf.oneHot(tf.slice(ids, [0, 1], [rows, length - 1]), vocabulary);
  return tf.sum(tf.mul(all, tf.cast(chosen, "float32")), -1);
}

beforeAll(async () => {
  await tf.setBackend("cpu");
});

describe.each(["llama", "qwen2", "qwen3"])("a %s checkpoint", (family) => {
  const { config, weights, expected } = load(family);
  const ids = tf.tensor2d(expected.ids, undefined, "int32");

  test("has the logits and log-probs of the independent implementation", () => {
    const logits = decoderLogits(weights, ids, config);
    expect(worstDifference(logits.dataSync(), expected.logits.flat(2))).toBeLessThan(1e-4);
    expect(worstDifference(logProbs(logits, ids).dataSync(), expected.log_probs.flat())).toBeLessThan(1e-4);
  });

  test("has the gradient norms of the independent implementation", () => {
    const mask = tf.tensor2d(expected.mask);
    const names = Object.keys(weights);
    const loss = (...values: tf.Tensor[]): tf.Scalar => {
      const byName = Object.fromEntries(names.map((name, i) => [name, values[i]!]));
      const taken = tf.mul(logProbs(decoderLogits(byName, ids, config), ids), mask);
      return tf.neg(tf.div(tf.sum(taken), tf.sum(mask)));
    };
    const { value, grads } = tf.valueAndGrads(loss)(names.map((name) => weights[name]!));
    expect(value.dataSync()[0]).toBeCloseTo(expected.loss, 5);
    expect(Object.keys(expected.grad_norms).sort()).toEqual([...names].sort());
    names.forEach((name, i) => {
      const norm = Math.sqrt(Array.from(grads[i]!.dataSync()).reduce((sum, g) => sum + g * g, 0));
      expect(Math.abs(norm / expected.grad_norms[name]! - 1), name).toBeLessThan(1e-3);
    });
  });

  test("rows without their padding have the same hidden states and gradients", () => {
    const tokens = expected.ids[0]!.slice(0, 9);
    const rows = tf.tensor2d([...tokens.slice(0, 4), 0, 0, ...tokens.slice(4), 0], [2, 6], "int32");
    const places = [0, 1, 2, 3, 6, 7, 8, 9, 10];
    const unpadded = {
      tokenAt: tf.tensor2d([0, 1, 2, 3, 9, 9, 4, 5, 6, 7, 8, 9], [2, 6], "int32"),
      placeOf: tf.tensor1d([...places, 4, 4], "int32"), // two tokens of padding
    };
    const names = Object.keys(weights).filter((name) => name !== "lm_head.weight");
    const real = Array.from({ length: 9 }, (_, token) => token);
    const probe = tf.randomNormal([9, config.width], 0, 1, "float32", 3);
    const gradients = (hiddenOf: (weights: Record<string, tf.Tensor>) => tf.Tensor2D, at: number[]) =>
      tf.valueAndGrads((...values: tf.Tensor[]) => {
        const byName = { ...weights, ...Object.fromEntries(names.map((name, i) => [name, values[i]!])) };
        return tf.sum(tf.mul(tf.gather(hiddenOf(byName), at), probe));
      })(names.map((name) => weights[name]!));
    const want = gradients((all) => decoderHidden(all, rows, config).hidden, places);
    const ids = tf.tensor1d([...tokens, 0, 0], "int32");
    const got = gradients((all) => decoderHidden(all, ids, config, unpadded).hidden, real);
    expect(worstDifference(got.value.dataSync(), [...want.value.dataSync()])).toBeLessThan(1e-4);
    got.grads.forEach((gradient, i) => {
      const exact = [...want.grads[i]!.dataSync()];
      const size = Math.max(...exact.map(Math.abs));
      expect(worstDifference(gradient.dataSync(), exact), names[i]!).toBeLessThan(1e-4 * size);
    });
  });

  test("continues greedily as the independent implementation does, one cached token at a time", () => {
    const prompt = expected.ids[0]!.slice(0, 5);
    const cacheLength = 32;
    const { hidden, keyValues } = decoderHidden(weights, tf.tensor2d([prompt], undefined, "int32"), config);
    const padding = cacheLength - prompt.length;
    const pad = (x: tf.Tensor): tf.Tensor =>
      tf.pad(x as tf.Tensor4D, [
        [0, 0],
        [0, 0],
        [0, padding],
        [0, 0],
      ]);
    let cache: KeyValue[] = keyValues.map(({ key, value }) => ({ key: pad(key), value: pad(value) }));
    let logits: tf.Tensor = tf.slice(
      projectLogits(weights, hidden),
      [prompt.length - 1, 0],
      [1, config.vocabulary],
    );
    const laidOut = decodingWeights(weights, config);
    const written: number[] = [];
    for (let position = prompt.length; written.length < expected.greedy.length; position++) {
      written.push(tf.argMax(logits, -1).dataSync()[0]!);
      const step = decodeStep(
        laidOut,
        tf.tensor1d([written.at(-1)!], "int32"),
        tf.tensor1d([position], "int32"),
        cache,
        config,
      );
      logits = step.logits;
      const here = tf.reshape(tf.cast(tf.oneHot([position], cacheLength), "bool"), [1, 1, cacheLength, 1]);
      const write = (past: tf.Tensor, fresh: tf.Tensor): tf.Tensor =>
        tf.where(here, tf.expandDims(fresh, 2), past);
      cache = cache.map((past, layer) => ({
        key: write(past.key, step.keyValues[layer]!.key),
        value: write(past.value, step.keyValues[layer]!.value),
      }));
    }
    expect(written).toEqual(expected.greedy);
  });
});

test.each([
  { out: 64, width: 4096 }, // divided into blocks of 32
  { out: 70, width: 4096 }, // 32 does not divide it
  { out: 6, width: 8 },
])("a weight of $out x $width gives the same products in every layout", async ({ out, width }) => {
  const weight = tf.randomNormal([out, width], 0, 1, "float32", 1);
  const rows = tf.randomNormal([3, width], 0, 1, "float32", 2) as tf.Tensor2D;
  const all = tf.matMul(rows, weight as tf.Tensor2D, false, true).dataSync();
  for (const layout of ["rows", "blocks"] as const) {
    expect(stored(weight, layout).shape).toEqual(storedShape(layout, [out, width]));
    for (const count of [1, 3]) {
      // Compiled: tfjs's own backends do not broadcast both operands.
      const run = await compile(
        (inputs) => ({ product: linear(inputs.x!, stored(inputs.weight!, layout), layout) }),
        { x: { shape: [count, width], dtype: "float32" }, weight: { shape: [out, width], dtype: "float32" } },
        { provider: "cpu", threads: 1 },
      );
      const x = rows.dataSync().slice(0, count * width) as Float32Array;
      const { product } = await run.run({ x, weight: weight.dataSync() as Float32Array });
      await run.dispose();
      expect(run.outputs.product!.shape).toEqual([count, out]);
      expect(worstDifference(product as Float32Array, [...all.slice(0, count * out)])).toBeLessThan(1e-3);
    }
  }
});
