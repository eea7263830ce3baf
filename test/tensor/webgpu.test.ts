import * as tf from "@tensorflow/tfjs-core";
import { describe, expect, test } from "vitest";
import { gpuRefusal } from "../../tensor/gpu-refusal.js";
import {
  compile,
  type DeviceTensor,
  type HostArray,
  hasBuffersOf,
  isSoftwareVulkan,
  type TracedFunction,
  valueAndGradients,
} from "../../tensor/index.js";
import { isWebgpuHere } from "./webgpu.js";

/** One step of gradient descent on |x w - y|^2. */
const descend: TracedFunction = ({ w, x, y }) => {
  const loss = (p: Readonly<Record<string, tf.Tensor>>): tf.Scalar =>
    tf.mean(tf.squaredDifference(tf.matMul(x!, p.w!), y!)) as tf.Scalar;
  const { value, gradients } = valueAndGradients(loss, { w: w! });
  return { w: tf.sub(w!, tf.mul(gradients.w!, 0.1)), loss: value };
};
const SPECS = {
  w: { shape: [3, 2], dtype: "float32" },
  x: { shape: [5, 3], dtype: "float32" },
  y: { shape: [5, 2], dtype: "float32" },
} as const;
const waves = (length: number, phase: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => Math.sin(i * 1.7 + phase));

describe.skipIf(!(await isWebgpuHere()))("GPU buffers (skipped without webgpu)", () => {
  test("weights that stay in GPU buffers for 20 steps follow the CPU's losses", async () => {
    const batch = { x: waves(15, 0), y: waves(10, 1) };
    const losses = async (provider: "cpu" | "webgpu"): Promise<number[]> => {
      const step = await compile(descend, SPECS, { provider, keepOnDevice: ["w"] });
      const seen: number[] = [];
      let weights: HostArray | DeviceTensor = waves(6, 2);
      for (let i = 0; i < 20; i++) {
        const { w, loss } = await step.run({ w: weights, ...batch });
        if (!(weights instanceof Float32Array)) (weights as DeviceTensor).dispose();
        weights = w as DeviceTensor;
        seen.push((loss as Float32Array)[0]!);
      }
      await step.dispose();
      // a tensor outlives the session that made it
      seen.push(...(await (weights as DeviceTensor).read()));
      return seen;
    };
    const [cpu, gpu] = [await losses("cpu"), await losses("webgpu")];
    expect(cpu[19]!).toBeLessThan(0.6 * cpu[0]!);
    gpu.forEach((loss, i) => {
      expect(loss).toBeCloseTo(cpu[i]!, 5);
    });
  });

  test("a buffer of one session feeds another session of the same thread", async () => {
    const double = await compile(
      ({ a }) => ({ b: tf.mul(a!, tf.scalar(2, "int32")) }),
      { a: { shape: [4], dtype: "int32" } },
      {
        provider: "webgpu",
        keepOnDevice: ["b"],
      },
    );
    const addOne = await compile(
      ({ b }) => ({ c: tf.add(b!, tf.scalar(1, "int32")) }),
      { b: { shape: [4], dtype: "int32" } },
      {
        provider: "webgpu",
      },
    );
    const { b } = await double.run({ a: Int32Array.of(1, 2, 3, 4) });
    expect((await addOne.run({ b: b! })).c).toEqual(Int32Array.of(3, 5, 7, 9));
    expect(await (b as DeviceTensor).read()).toEqual(Int32Array.of(2, 4, 6, 8));
    (b as DeviceTensor).dispose();
    await Promise.all([double.dispose(), addOne.dispose()]);
  });

  test.skipIf(!isSoftwareVulkan())(
    "a tensor larger than a buffer of the GPU is an error in the user's words, not zeros (skipped on a real GPU)",
    async () => {
      const length = 270_000_000; // SwiftShader's buffers end at 2^30 bytes
      const large = await compile(
        ({ x }) => ({ y: tf.broadcastTo(x!, [length]) }),
        { x: { shape: [1], dtype: "float32" } },
        { provider: "webgpu", keepOnDevice: ["y"] },
      );
      await expect(large.run({ x: Float32Array.of(1) })).rejects.toThrow(
        /^policy\.device: need more memory on the GPU: a buffer could not be made there .*got "webgpu"/,
      );
      await large.dispose();
      expect([await hasBuffersOf(4 * length), await hasBuffersOf(2 ** 20)]).toEqual([false, true]);
    },
  );
});

test("what webgpu says of a weight that no buffer of the GPU holds is told with both sizes", () => {
  // As ONNX Runtime 1.30 said it of 1.08e9 bytes of a weight that was uploaded.
  const said = new Error(
    "WebGPU validation failed. Buffer size (1080000000) exceeds the max buffer size limit (1073741824).",
  );
  expect(String(gpuRefusal(said))).toMatch(
    /policy\.device: need a GPU with buffers of 1\.01 GB: this one's hold at most 1\.00 GB, got "webgpu"\. policy\.precision: float16/,
  );
  const other = new Error("anything else");
  expect(gpuRefusal(other)).toBe(other);
});
