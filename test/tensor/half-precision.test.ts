import * as tf from "@tensorflow/tfjs-core";
import { describe, expect, test } from "vitest";
import { randomStream } from "../../core/index.js";
import {
  compile,
  disposeValues,
  type HostArray,
  hasHalfPrecision,
  type Provider,
  placeOn,
  readValue,
  type TensorSpec,
  type TracedFunction,
  valueAndGradients,
} from "../../tensor/index.js";
import { isWebgpuHere } from "./webgpu.js";

// SwiftShader has no float16: there the numbers are those of onnxruntime's cpu provider, which rounds as a GPU stores but
// adds up in float32.
const providers: Provider[] =
  (await isWebgpuHere()) && (await hasHalfPrecision("webgpu")) ? ["cpu", "webgpu"] : ["cpu"];

const [ROWS, IN, OUT] = [6, 40, 24];
const numbers = (size: number, seed: number, scale = 1): Float32Array => {
  const random = randomStream(seed, "half");
  return Float32Array.from({ length: size }, () => random.normal() * scale);
};
const shapes = { x: [ROWS, IN], w: [OUT, IN], table: [50, IN], dy: [ROWS, OUT], ids: [ROWS] };
const spec = (name: keyof typeof shapes, dtype: TensorSpec["dtype"]): TensorSpec => ({
  shape: shapes[name],
  dtype,
});

/** Logits of embedded ids and their softmax; and the gradient at x, as small as those of a loss over many tokens. */
const fn: TracedFunction = ({ x, w, table, ids, dy }) => {
  const product = (input: tf.Tensor): tf.Tensor =>
    tf.matMul(input as tf.Tensor2D, w as tf.Tensor2D, false, true);
  const embedded = tf.gather(table!, ids as tf.Tensor1D);
  const along = (inputs: Readonly<Record<string, tf.Tensor>>): tf.Scalar =>
    tf.sum(tf.mul(product(inputs.x!), dy!)) as tf.Scalar;
  const { gradients } = valueAndGradients(along, { x: x! });
  return {
    y: product(tf.add(x!, embedded)),
    p: tf.softmax(product(x!)),
    dx: gradients.x!,
    scaled: tf.mul(w!, 2),
  };
};

async function run(provider: Provider, weights: TensorSpec["dtype"]): Promise<Record<string, HostArray>> {
  const specs = {
    x: spec("x", "float32"),
    dy: spec("dy", "float32"),
    ids: spec("ids", "int32"),
    w: spec("w", weights),
    table: spec("table", weights),
  };
  const placed = await placeOn(provider, { w: numbers(OUT * IN, 1, 0.2), table: numbers(50 * IN, 2) }, specs);
  const compiled = await compile(fn, specs, { provider, bound: placed });
  const outputs = await compiled.run({
    x: numbers(ROWS * IN, 3),
    dy: numbers(ROWS * OUT, 4, 1e-9),
    ids: Int32Array.of(1, 49, 7, 7, 0, 20),
  });
  await compiled.dispose();
  disposeValues(Object.values(placed));
  return outputs as Record<string, HostArray>;
}

/** Root mean square of the difference over that of the values. */
function relativeError(got: HostArray, want: HostArray): number {
  const square = (values: ArrayLike<number>): number => Array.from(values).reduce((sum, x) => sum + x * x, 0);
  return Math.sqrt(square(Array.from(want, (x, i) => got[i]! - x)) / square(want));
}

describe.each(providers)("weights stored in float16 on %s", (provider) => {
  test("give the float32 numbers within the rounding of 11 bits, gradients of 1e-9 too", async () => {
    const [half, full] = [await run(provider, "float16"), await run(provider, "float32")];
    for (const name of ["y", "p", "dx", "scaled"]) {
      const error = relativeError(half[name]!, full[name]!);
      expect(error, name).toBeLessThan(1e-3);
      expect(error, name).toBeGreaterThan(1e-6); // it did compute with fewer digits
    }
  });

  test("read back widened, as they were rounded", async () => {
    const { w } = await placeOn(
      provider,
      { w: Float32Array.of(1, 1 / 3, -65504, 1e-9) },
      { w: { shape: [4], dtype: "float16" } },
    );
    expect(await readValue(w!)).toEqual(Float32Array.of(1, 0.333251953125, -65504, 0));
    disposeValues([w!]);
  });

  test("a number beyond float16 becomes infinite, and what is computed with it is not finite", async () => {
    const specs = { x: spec("x", "float32"), w: spec("w", "float16") };
    const placed = await placeOn(provider, { w: numbers(OUT * IN, 1).fill(70_000, 0, 1) }, specs);
    const compiled = await compile(
      ({ x, w }) => ({ y: tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D, false, true) }),
      specs,
      { provider, bound: placed },
    );
    const { y } = await compiled.run({ x: numbers(ROWS * IN, 3) });
    expect(Number.isFinite((y as Float32Array)[0])).toBe(false);
    await compiled.dispose();
    disposeValues(Object.values(placed));
  });
});
