import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs-core";
import { describe, expect, test } from "vitest";
import { ConfigError } from "../../core/index.js";
import {
  compile,
  type DeviceTensor,
  type HostArray,
  readProfile,
  stopGradient,
  type TensorMap,
  type TensorSpec,
  type TracedFunction,
  useTensorflowBackend,
  valueAndGradients,
} from "../../tensor/index.js";

const float = (...shape: number[]): TensorSpec => ({ shape, dtype: "float32" });
const int = (...shape: number[]): TensorSpec => ({ shape, dtype: "int32" });

/** Compiles, runs once, disposes. */
async function evaluate(
  fn: TracedFunction,
  specs: Record<string, TensorSpec>,
  feeds: Record<string, HostArray>,
  threads = 1,
): Promise<Record<string, number[]>> {
  const compiled = await compile(fn, specs, { provider: "cpu", threads });
  const results = await compiled.run(feeds);
  await compiled.dispose();
  return Object.fromEntries(
    Object.entries(results).map(([name, data]) => [name, Array.from(data as HostArray)]),
  );
}

describe("compile", () => {
  test("an output may be an input, a constant, or another output again", async () => {
    const got = await evaluate(
      ({ x }) => {
        const y = tf.add(x!, 1);
        return { x: x!, y, again: y, ones: tf.ones([2, 12]), numbers: tf.tensor([3, 1, 2]) };
      },
      { x: float(3) },
      { x: Float32Array.of(1, 2, 3) },
    );
    expect(got).toEqual({
      x: [1, 2, 3],
      y: [2, 3, 4],
      again: [2, 3, 4],
      ones: Array(24).fill(1),
      numbers: [3, 1, 2],
    });
  });

  test("truth values come out as int32", async () => {
    const got = await evaluate(
      ({ x }) => ({ y: tf.greater(x!, 1) }),
      { x: float(3) },
      { x: Float32Array.of(0, 1, 2) },
    );
    expect(got).toEqual({ y: [0, 0, 1] });
  });

  test("a tensor that another backend holds becomes a constant", async () => {
    const held = tf.tensor([10, 20]);
    const got = await evaluate(
      ({ x }) => ({ y: tf.mul(x!, held) }),
      { x: float(2) },
      { x: Float32Array.of(1, 2) },
    );
    expect(got).toEqual({ y: [10, 40] });
    held.dispose();
  });

  test("ones, zeros and broadcasts of tfjs's gradients leave no nodes", async () => {
    const compiled = await compile(
      ({ x }) => valueAndGradients(({ x: y }) => tf.mean(tf.mul(y!, y!)) as tf.Scalar, { x: x! }).gradients,
      { x: float(100, 100) },
      { provider: "cpu" },
    );
    // 2 * (dy / size) * x, once for each factor of x * x
    expect(compiled.nodeCount).toBeLessThanOrEqual(3);
    await compiled.dispose();
  });

  test("an RMSNorm with its weight is one node", async () => {
    const norm: TracedFunction = ({ x, w }) => {
      const root = tf.rsqrt(tf.add(tf.mean(tf.mul(x!, x!), -1, true), 1e-6));
      return { y: tf.mul(tf.mul(x!, root), w!) };
    };
    const compiled = await compile(norm, { x: float(2, 2), w: float(2) }, { provider: "cpu" });
    expect(compiled.nodeCount).toBe(1);
    const { y } = await compiled.run({ x: Float32Array.of(1, -1, 0, 4), w: Float32Array.of(1, 10) });
    const want = [1, -10, 0, 10 * Math.SQRT2];
    Array.from(y as Float32Array).forEach((got, i) => {
      expect(got).toBeCloseTo(want[i]!, 4);
    });
    await compiled.dispose();
  });

  test("the gradient of a SiLU takes four elementwise nodes", async () => {
    const gradient: TracedFunction = ({ x, dy }) => {
      const loss = ({ x: y }: TensorMap): tf.Scalar =>
        tf.sum(tf.mul(dy!, tf.mul(y!, tf.sigmoid(y!)))) as tf.Scalar;
      return valueAndGradients(loss, { x: x! }).gradients;
    };
    const compiled = await compile(gradient, { x: float(3), dy: float(3) }, { provider: "cpu" });
    expect(compiled.nodeCount).toBe(6); // sigmoid, x s, and dy (s + x s (1 - s))
    await compiled.dispose();
  });

  test("an op that cannot be recorded is named, and tfjs's backend comes back", async () => {
    const before = tf.getBackend();
    const fn: TracedFunction = ({ x }) => ({ y: tf.acosh(x!) });
    await expect(compile(fn, { x: float(2) }, { provider: "cpu" })).rejects.toThrow(
      "cannot record the tfjs op Acosh",
    );
    expect(tf.getBackend()).toBe(before);
    expect(Array.from(tf.add(tf.tensor([1]), 1).dataSync())).toEqual([2]);
  });

  test("reading elements while recording is refused", async () => {
    const fn: TracedFunction = ({ x }) => ({ y: tf.mul(x!, x!.dataSync()[0]!) });
    await expect(compile(fn, { x: float(2) }, { provider: "cpu" })).rejects.toThrow(
      "cannot read a tensor's elements",
    );
  });

  test("a tensor of another recording is refused", async () => {
    let stolen: tf.Tensor | undefined;
    const thief: TracedFunction = ({ x }) => {
      stolen = tf.keep(tf.clone(x!));
      return { y: tf.neg(x!) };
    };
    await (await compile(thief, { x: float(2) }, { provider: "cpu" })).dispose();
    const user: TracedFunction = ({ x }) => ({ y: tf.add(x!, stolen!) });
    await expect(compile(user, { x: float(2) }, { provider: "cpu" })).rejects.toThrow("made in another call");
    stolen!.dispose();
  });

  test("recording leaves no tensors behind", async () => {
    const before = tf.engine().state.numTensors;
    await evaluate(
      ({ x }) => {
        const { value, gradients } = valueAndGradients(({ x: y }) => tf.sum(tf.exp(y!)) as tf.Scalar, {
          x: x!,
        });
        return { value, ...gradients };
      },
      { x: float(3) },
      { x: Float32Array.of(0, 0, 0) },
    );
    expect(tf.engine().state.numTensors).toBe(before);
  });

  test.each([
    { name: "missing", feeds: {}, message: 'input "x" is missing: need float32 [2, 2]' },
    { name: "too short", feeds: { x: new Float32Array(3) }, message: "got 3 elements of float32" },
    { name: "of the wrong type", feeds: { x: new Int32Array(4) }, message: "got 4 elements of int32" },
    {
      name: "unknown",
      feeds: { x: new Float32Array(4), z: new Float32Array(1) },
      message: 'unknown input "z"',
    },
  ])("a feed that is $name is refused by name", async ({ feeds, message }) => {
    const compiled = await compile(({ x }) => ({ y: tf.neg(x!) }), { x: float(2, 2) }, { provider: "cpu" });
    await expect(compiled.run(feeds)).rejects.toThrow(message);
    await compiled.dispose();
  });

  test("outputs kept on the device go into the next run without a copy on cpu", async () => {
    const compiled = await compile(
      ({ x }) => ({ y: tf.add(x!, 1) }),
      { x: float(2) },
      { provider: "cpu", keepOnDevice: ["y"] },
    );
    let { y } = await compiled.run({ x: Float32Array.of(0, 10) });
    for (let i = 0; i < 3; i++) ({ y } = await compiled.run({ x: y! }));
    const data = await (y as DeviceTensor).read();
    expect(Array.from(data)).toEqual([4, 14]);
    (y as DeviceTensor).dispose();
    expect([data.length, data.buffer.byteLength]).toEqual([0, 0]); // freed, not left to the collector
    await compiled.dispose();
  });

  test("repeated indices add up on several threads, to the same bits each time", async () => {
    const [rows, width] = [4000, 64];
    for (const table of [5, 5000]) {
      const compiled = await compile(
        ({ x, ids }) => ({ sums: tf.unsortedSegmentSum(x!, ids as tf.Tensor1D, table) }),
        { x: float(rows, width), ids: int(rows) },
        { provider: "cpu", threads: 2, deterministic: true },
      );
      const ids = Int32Array.from({ length: rows }, (_, i) => i % 5);
      const counts = (await compiled.run({ x: new Float32Array(rows * width).fill(1), ids }))
        .sums as Float32Array;
      expect(new Set(counts.slice(0, 5 * width))).toEqual(new Set([rows / 5]));
      const x = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i));
      const bits = async (): Promise<Buffer> =>
        Buffer.from(((await compiled.run({ x, ids })).sums as Float32Array).buffer);
      const first = await bits();
      for (let again = 0; again < 5; again++) expect(first.equals(await bits())).toBe(true);
      await compiled.dispose();
    }
  });

  test("the profile names each node, its provider and its types", async () => {
    const folder = mkdtempSync(join(tmpdir(), "retort-profile-"));
    const profilePath = join(folder, "profile.json");
    const compiled = await compile(
      ({ x }) => ({ y: tf.matMul(x!, x!) }),
      { x: float(4, 4) },
      { provider: "cpu", profilePath },
    );
    for (let i = 0; i < 3; i++) await compiled.run({ x: new Float32Array(16) });
    await compiled.dispose();
    expect(readProfile(profilePath)).toMatchObject([
      { op: "MatMul", provider: "CPUExecutionProvider", runs: 3, types: ["float", "float", "float"] },
    ]);
    rmSync(folder, { recursive: true });
  });
});

describe("valueAndGradients", () => {
  test("gives zeros for a parameter that the loss does not use, and hands extras on", async () => {
    const got = await evaluate(
      ({ a, b }) => {
        const { value, gradients, extras } = valueAndGradients(
          (p) => ({ loss: tf.sum(tf.square(p.a!)) as tf.Scalar, extras: { twice: tf.mul(p.a!, 2) } }),
          { a: a!, b: b! },
        );
        return { value, ...extras, da: gradients.a!, db: gradients.b! };
      },
      { a: float(2), b: float(3) },
      { a: Float32Array.of(1, -3), b: new Float32Array(3) },
    );
    expect(got).toEqual({ value: [10], twice: [2, -6], da: [2, -6], db: [0, 0, 0] });
  });

  test("stopGradient treats its argument as a constant", async () => {
    const got = await evaluate(
      ({ x }) =>
        valueAndGradients(({ x: y }) => tf.sum(tf.mul(stopGradient(y!), tf.square(y!))) as tf.Scalar, {
          x: x!,
        }).gradients,
      { x: float(2) },
      { x: Float32Array.of(1, 3) },
    );
    expect(got).toEqual({ x: [2, 18] });
  });
});

describe("provider tensorflow", () => {
  test("runs the same function eagerly on tfjs's active backend", async () => {
    const fn: TracedFunction = ({ x }) => {
      const { value, gradients } = valueAndGradients(({ x: y }) => tf.sum(tf.square(y!)) as tf.Scalar, {
        x: x!,
      });
      return { value, dx: gradients.x!, isLarge: tf.greater(x!, 2) };
    };
    const before = tf.memory().numTensors;
    const eager = await compile(fn, { x: float(3) }, { provider: "tensorflow", keepOnDevice: ["dx"] });
    const { value, dx, isLarge } = await eager.run({ x: Float32Array.of(1, 2, 3) });
    expect(value).toEqual(Float32Array.of(14));
    expect(isLarge).toEqual(Int32Array.of(0, 0, 1));
    const again = await eager.run({ x: dx! });
    expect(again.value).toEqual(Float32Array.of(56));
    expect(await (again.dx as DeviceTensor).read()).toEqual(Float32Array.of(4, 8, 12));
    for (const kept of [dx, again.dx]) (kept as DeviceTensor).dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test("says which package to install when there is none", async () => {
    const error = await useTensorflowBackend().then(
      (found) => `${found} is installed here`,
      (thrown: unknown) => thrown,
    );
    if (typeof error === "string") return expect(error).toContain("@tensorflow/tfjs-node");
    expect(error).toBeInstanceOf(ConfigError);
    expect((error as ConfigError).message).toContain("npm install @tensorflow/tfjs-node-gpu");
  });
});
