import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import {
  converted,
  encodeSafetensors,
  float32Values,
  heldTensor,
  modelFiles,
  modelTensorPlaces,
  type NamedTensor,
  narrowed,
  readFloat32,
  replaceFile,
  safetensorsContent,
  storedTensor,
  type TensorStream,
} from "../../checkpoints/index.js";

const root = mkdtempSync(join(tmpdir(), "tensor-stream-"));
afterAll(() => rmSync(root, { recursive: true }));

const widened = (dtype: "BF16" | "F16", bits: ArrayLike<number>): Float32Array =>
  float32Values({ dtype, shape: [bits.length], data: Uint16Array.from(bits) });

describe.each(["BF16", "F16"] as const)("%s", (dtype) => {
  const patterns = Uint16Array.from({ length: 65536 }, (_, i) => i);
  const values = widened(dtype, patterns);

  test("every pattern is widened and narrowed back to itself, NaN to a NaN", () => {
    const again = narrowed(values, dtype);
    for (let i = 0; i < 65536; i++) {
      if (Number.isNaN(values[i])) expect(widened(dtype, [again[i] as number])[0]).toBeNaN();
      else if (again[i] !== i) throw new Error(`${i} became ${again[i]}`);
    }
  });

  test("a number goes to the nearest pattern, of two as near to the even one", () => {
    const finite = [...patterns].filter((i) => i < 0x8000 && Number.isFinite(values[i]));
    const inRange = fc.integer({ min: 0, max: finite.length - 2 });
    fc.assert(
      fc.property(inRange, fc.constantFrom(0.25, 0.5, 0.75), fc.boolean(), (i, part, isNegative) => {
        const [low, high] = [values[i]!, values[i + 1]!];
        const between = Math.fround(low + (high - low) * part);
        fc.pre(between !== low && between !== high); // below a float32's own grid nothing lies between
        const isLow = between - low < high - between || (between - low === high - between && i % 2 === 0);
        const sign = isNegative ? 0x8000 : 0;
        expect(narrowed(Float32Array.of(isNegative ? -between : between), dtype)[0]).toBe(
          sign | (isLow ? i : i + 1),
        );
      }),
      { numRuns: 2000 },
    );
  });
});

test("a number beyond float16 is refused, the largest that rounds into it is not", () => {
  expect(narrowed(Float32Array.of(65519.9), "F16")[0]).toBe(0x7bff);
  expect(() => narrowed(Float32Array.of(-65520), "F16")).toThrow("-65520 does not fit into float16");
});

const ramp = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => (i % 997) / 8 - 3);

test("a file written in pieces has the bytes of one written whole, and is read back in another type", async () => {
  const data = ramp(5_000_000); // more than one piece
  const tensors = new Map<string, TensorStream>([
    ["large", heldTensor(data, [5_000_000])],
    ["small", converted(heldTensor(ramp(3), [3, 1]), "BF16")],
  ]);
  const file = join(root, "model.safetensors");
  await replaceFile(file, safetensorsContent(tensors, { format: "pt" }));
  const small: NamedTensor = { dtype: "BF16", shape: [3, 1], data: narrowed(ramp(3), "BF16") };
  const whole = encodeSafetensors(
    [
      ["large", { dtype: "F32", shape: [5_000_000], data }],
      ["small", small],
    ],
    { format: "pt" },
  );
  expect(readFileSync(file).equals(Buffer.concat(whole))).toBe(true);
  const places = modelTensorPlaces(root);
  expect(readFloat32(places.get("small")!)).toEqual(ramp(3));
  const half = [...converted(storedTensor(places.get("large")!), "F16").pieces()];
  expect(half.length).toBe(2);
  expect(float32Values({ dtype: "F16", shape: [1], data: half[1]!.subarray(-1) })[0]).toBe(
    float32Values({ dtype: "F16", shape: [1], data: narrowed(data.subarray(-1), "F16") })[0],
  );
});

test("a tensor that gives fewer elements than its shape is refused, and the old file stays", async () => {
  const file = join(root, "short.safetensors");
  writeFileSync(file, "old");
  const content = safetensorsContent(new Map([["w", heldTensor(ramp(3), [4])]]));
  await expect(replaceFile(file, content)).rejects.toThrow("w: F32 [4] lacks 4 bytes");
  expect(readFileSync(file, "utf8")).toBe("old");
  expect(readdirSync(root).filter((name) => name.includes("tmp"))).toEqual([]);
});

test("a model of several files is written with its index, and its tensors are found in them", async () => {
  const folder = mkdtempSync(join(root, "shards-"));
  const tensors = new Map([
    ["a", heldTensor(ramp(2), [2])],
    ["b", converted(heldTensor(ramp(4), [2, 2]), "BF16")],
  ]);
  const fileOf = new Map([
    ["a", "one.safetensors"],
    ["b", "two.safetensors"],
  ]);
  for (const [name, content] of Object.entries(modelFiles(tensors, fileOf)))
    await replaceFile(join(folder, name), content);
  expect(JSON.parse(readFileSync(join(folder, "model.safetensors.index.json"), "utf8"))).toEqual({
    metadata: { total_size: 16 },
    weight_map: { a: "one.safetensors", b: "two.safetensors" },
  });
  const places = modelTensorPlaces(folder);
  expect(places.get("b")).toMatchObject({
    file: join(folder, "two.safetensors"),
    dtype: "BF16",
    shape: [2, 2],
  });
  expect(readFloat32(places.get("a")!)).toEqual(ramp(2));
});
