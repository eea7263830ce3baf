/** Matrices of eight bits: what their bytes stand for, and products by them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tf from "@tensorflow/tfjs-core";
import { afterAll, describe, expect, test } from "vitest";
import { compile, dequantizedRows, type FileTensor, quantizedRows, readValue } from "../../tensor/index.js";

const folder = mkdtempSync(join(tmpdir(), "retort-int8-"));
afterAll(() => rmSync(folder, { recursive: true }));

describe("a matrix in blocks of eight bits", () => {
  const [rows, width] = [3, 200]; // a block and a half
  const values = Float32Array.from({ length: rows * width }, (_, i) => Math.sin(i * i) * (1 + (i % 7)));

  test("stands for numbers within half a step of the block's 127 to each side", () => {
    const { bytes, scales } = quantizedRows(values, width);
    expect([bytes.length, scales.length]).toEqual([rows * 256, rows * 2]);
    expect(Math.min(...bytes)).toBeGreaterThanOrEqual(1);
    const back = dequantizedRows(bytes, scales, width);
    values.forEach((value, i) => {
      const scale = scales[Math.floor(i / width) * 2 + (i % width >= 128 ? 1 : 0)]!;
      expect(Math.abs(back[i]! - value)).toBeLessThanOrEqual(0.5001 * scale);
    });
    expect(dequantizedRows(new Uint8Array(256).fill(128), new Float32Array(2), width)).toEqual(
      new Float32Array(width),
    );
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])("with a %s in it gives no finite number there", (bad) => {
    const broken = values.slice();
    broken[130] = bad;
    const { bytes, scales } = quantizedRows(broken, width);
    const back = dequantizedRows(bytes, scales, width);
    expect(back.slice(128, 200).some(Number.isFinite)).toBe(false);
    expect(back.slice(0, 128).every(Number.isFinite)).toBe(true);
  });

  test("is refused where it is not bound to a file, and where it would not be multiplied by", async () => {
    const spec = { shape: [3, 200], dtype: "int8" as const };
    const x = { shape: [2, 200], dtype: "float32" as const };
    const product = compile(
      ({ w, x: rows_ }) => ({ y: tf.matMul(rows_ as tf.Tensor2D, w as tf.Tensor2D, false, true) }),
      { w: spec, x },
      { provider: "cpu" },
    );
    await expect(product).rejects.toThrow('input "w" is int8: it must be bound to a file, on cpu');
    await expect(compile(({ w }) => ({ y: tf.exp(w!) }), { w: spec }, { provider: "cpu" })).rejects.toThrow(
      "a matrix of int8 can only be multiplied by",
    );
  });

  test.each([
    { tokens: 1, what: "a single row" },
    { tokens: 5, what: "five rows" },
    { tokens: 40, what: "forty rows" },
  ])("multiplies $what from either side as the numbers that it stands for do", async ({ tokens }) => {
    const { bytes, scales } = quantizedRows(values, width);
    const file = join(folder, `${tokens}.bin`);
    writeFileSync(file, Buffer.concat([Buffer.from(scales.buffer), bytes]));
    const spec = { shape: [rows, width], dtype: "int8" as const };
    const w: FileTensor = { file, offset: scales.byteLength, scales: 0, spec };
    // Whole numbers up to 127 in each block: the kernel's own rounding of the activations changes none of them.
    const x = Float32Array.from({ length: tokens * width }, (_, i) =>
      i % width === 3 || i % width === 130 ? 127 : ((i * 37) % 255) - 127,
    );
    const compiled = await compile(
      (inputs) => {
        const [matrix, right] = [inputs.w as tf.Tensor2D, inputs.x as tf.Tensor2D];
        const left = tf.expandDims(right, 0);
        return {
          right: tf.matMul(right, matrix, false, true), // [M, out]
          left: tf.matMul(matrix, left, false, true), // [1, out, M]
          column: tf.matMul(matrix, tf.transpose(left, [0, 2, 1])), // the same
        };
      },
      { w: spec, x: { shape: [tokens, width], dtype: "float32" } },
      { provider: "cpu", threads: 1, bound: { w } },
    );
    const numbers = (await readValue(w)) as Float32Array;
    expect(numbers).toEqual(dequantizedRows(bytes, scales, width));
    const got = (await compiled.run({ x })) as Record<string, Float32Array>;
    for (let m = 0; m < tokens; m++) {
      for (let out = 0; out < rows; out++) {
        let want = 0;
        for (let i = 0; i < width; i++) want += numbers[out * width + i]! * x[m * width + i]!;
        expect(Math.abs(got.right![m * rows + out]! - want)).toBeLessThan(0.02);
        for (const name of ["left", "column"])
          expect(Math.abs(got[name]![out * tokens + m]! - want), name).toBeLessThan(0.02);
      }
    }
    await compiled.dispose();
  });
});
