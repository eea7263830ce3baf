import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs-core";
import { afterAll, describe, expect, test } from "vitest";
import {
  compile,
  type FileTensor,
  fileIdentity,
  placeOn,
  readValue,
  recordFunction,
  type TensorSpec,
} from "../../tensor/index.js";
import { isWebgpuHere } from "./webgpu.js";

const hasWebgpu = await isWebgpuHere();
const folder = mkdtempSync(join(tmpdir(), "retort-bound-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const float = (...shape: number[]): TensorSpec => ({ shape, dtype: "float32" });

/** A file of a few bytes of something else, then the tensor. */
function fileTensor(name: string, shape: number[], values: ArrayLike<number>): FileTensor {
  const file = join(folder, name);
  mkdirSync(join(file, ".."), { recursive: true });
  writeFileSync(
    file,
    Buffer.concat([Buffer.from("header!!"), Buffer.from(Float32Array.from(values).buffer)]),
  );
  return { file, offset: 8, spec: float(...shape) };
}

const matrix = fileTensor("a/matrix.bin", [2, 3], [1, 2, 3, 4, 5, 6]);
const bias = fileTensor("b/bias.bin", [2], [10, 20]);
const affine = (inputs: Record<string, tf.Tensor>): Record<string, tf.Tensor> => ({
  y: tf.add(tf.matMul(inputs.x as tf.Tensor2D, inputs.matrix as tf.Tensor2D, false, true), inputs.bias!),
});
const specs = { x: float(1, 3), matrix: float(2, 3), bias: float(2) };
const x = Float32Array.of(1, 0, -1);

/** MiB of this process's pages, each divided by the number of its mappings. */
const proportionalSetSize = (): number =>
  Number(/^Pss:\s+(\d+)/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"))![1]) / 1024;

describe("bound inputs", () => {
  test("tensors of files in two folders are read where they stand, and are no inputs any more", async () => {
    const fn = await compile(affine, specs, { provider: "cpu", bound: { matrix, bias, other: x } });
    expect(Object.keys(fn.inputs)).toEqual(["x"]);
    expect((await fn.run({ x })).y).toEqual(Float32Array.of(8, 18));
    await expect(fn.run({ x, bias: Float32Array.of(1, 1) })).rejects.toThrow(/unknown input "bias"/);
    await fn.dispose();
  });

  test("a host array may be bound beside a file, and one recording serves several sets", async () => {
    const recorded = recordFunction(affine, specs, "cpu");
    const first = await recorded.compile({ bound: { matrix, bias: Float32Array.of(0, 0) } });
    const second = await recorded.compile({ bound: { matrix } });
    expect((await first.run({ x })).y).toEqual(Float32Array.of(-2, -2));
    expect((await second.run({ x, bias: Float32Array.of(1, 2) })).y).toEqual(Float32Array.of(-1, 0));
    await first.dispose();
    await second.dispose();
  });

  test("a file that another has taken the place of is not mapped", async () => {
    const own = fileTensor("c/matrix.bin", [2, 3], [1, 2, 3, 4, 5, 6]);
    const opened = { ...own, identity: fileIdentity(own.file) };
    const open = () => compile(affine, specs, { provider: "cpu", bound: { matrix: opened, bias } });
    const fn = await open();
    const next = fileTensor("c/next.bin", [2, 3], [6, 5, 4, 3, 2, 1]);
    renameSync(next.file, own.file);
    await expect(open()).rejects.toThrow(`${own.file} has changed since it was opened`);
    rmSync(own.file);
    await expect(open()).rejects.toThrow(`${own.file} is gone since it was opened`);
    expect((await fn.run({ x })).y).toEqual(Float32Array.of(8, 18));
    await fn.dispose();
  });

  test("a file is found through a link, as a model hub's cache has them", async () => {
    const link = join(folder, "link.bin");
    symlinkSync(matrix.file, link);
    const fn = await compile(affine, specs, {
      provider: "cpu",
      bound: { matrix: { ...matrix, file: link }, bias },
    });
    expect((await fn.run({ x })).y).toEqual(Float32Array.of(8, 18));
    await fn.dispose();
  });

  test.runIf(process.platform === "linux")(
    "functions that share a file hold one copy of it (elsewhere: no /proc)",
    async () => {
      const size = 3072;
      const large = fileTensor("large.bin", [size, size], new Float32Array(size * size).fill(0.5)); // 36 MiB
      const before = proportionalSetSize();
      const product = (inputs: Record<string, tf.Tensor>): Record<string, tf.Tensor> => ({
        y: tf.matMul(inputs.x as tf.Tensor2D, inputs.w as tf.Tensor2D, false, true),
      });
      const fns = [];
      for (let i = 0; i < 3; i++) {
        const fn = await compile(
          product,
          { x: float(1, size), w: float(size, size) },
          { provider: "cpu", bound: { w: large } },
        );
        const { y } = await fn.run({ x: new Float32Array(size).fill(1) });
        expect((y as Float32Array)[size - 1]).toBe(size / 2);
        fns.push(fn);
      }
      expect(proportionalSetSize() - before).toBeLessThan(36 * 1.4);
      for (const fn of fns) await fn.dispose();
    },
  );

  test("a value that does not fit its input is refused by name", async () => {
    const compiled = compile(affine, specs, { provider: "cpu", bound: { matrix: bias } });
    await expect(compiled).rejects.toThrow('input "matrix": need float32 [2, 3], got 2 elements of float32');
  });

  test("a file that became too short is our failure, not a wrong number", async () => {
    const short = fileTensor("short.bin", [2], [1, 2]);
    truncateSync(short.file, 12);
    await expect(compile(affine, specs, { provider: "cpu", bound: { matrix, bias: short } })).rejects.toThrow(
      /ONNX Runtime refused/,
    );
    await expect(readValue(short)).rejects.toThrow(/became shorter/);
  });
});

describe("placeOn", () => {
  test("leaves files alone on cpu and reads them for tensorflow", async () => {
    expect(await placeOn("cpu", { matrix }, specs)).toEqual({ matrix });
    expect(await placeOn("tensorflow", { bias }, specs)).toEqual({ bias: Float32Array.of(10, 20) });
  });

  test.runIf(hasWebgpu)(
    "uploads to webgpu once; what is bound there is not fed again (skipped without webgpu)",
    async () => {
      const placed = await placeOn("webgpu", { matrix, bias }, specs);
      const fn = await compile(affine, specs, { provider: "webgpu", bound: placed });
      expect(Object.keys(fn.inputs)).toEqual(["x"]);
      for (let i = 0; i < 2; i++) expect((await fn.run({ x })).y).toEqual(Float32Array.of(8, 18));
      expect(await readValue(placed.matrix!)).toEqual(Float32Array.of(1, 2, 3, 4, 5, 6));
      await fn.dispose();
      for (const value of Object.values(placed)) if ("dispose" in value) value.dispose();
    },
  );
});
