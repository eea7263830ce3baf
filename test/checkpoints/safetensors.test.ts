import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { halfToNumber } from "../../checkpoints/dtypes.js";
import {
  encodeSafetensors,
  float32Values,
  type NamedTensor,
  readSafetensors,
  readSafetensorsHeader,
  writeSafetensors,
} from "../../checkpoints/index.js";

const folder = mkdtempSync(join(tmpdir(), "safetensors-"));
afterAll(() => rmSync(folder, { recursive: true }));
const path = join(folder, "x.safetensors");

const f32 = (shape: number[], values: number[]): NamedTensor => ({
  dtype: "F32",
  shape,
  data: Float32Array.from(values),
});

/** A file with a header of our choosing: 8 length bytes, the JSON, then zeros. */
function handMade(header: unknown, dataBytes: number, length?: number): string {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(length ?? text.length));
  writeFileSync(path, Buffer.concat([prefix, text, Buffer.alloc(dataBytes)]));
  return path;
}

function handWritten(text: string): string {
  writeFileSync(path, text);
  return path;
}

test("the bytes of a small file are those of the published format", () => {
  const [head, data] = encodeSafetensors([["w", f32([1, 2], [1, -2])]], { format: "pt" });
  const header = head!.subarray(8);
  expect(Buffer.from(header).toString().trimEnd()).toBe(
    '{"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}',
  );
  expect([Buffer.from(head!).readBigUInt64LE(), header.length % 8]).toEqual([BigInt(header.length), 0]);
  expect(Buffer.from(data!).toString("hex")).toBe("0000803f000000c0");
});

test("whatever is written is read back, and lands aligned", async () => {
  const named = fc.dictionary(
    fc.string({ minLength: 1 }).filter((name) => name !== "__metadata__" && name !== "__proto__"),
    fc.oneof(
      fc.float32Array().map((data): NamedTensor => ({ dtype: "F32", shape: [data.length], data })),
      fc.int32Array().map((data): NamedTensor => ({ dtype: "I32", shape: [1, data.length], data })),
      fc.bigInt64Array().map((data): NamedTensor => ({ dtype: "I64", shape: [data.length, 1], data })),
      fc.uint8Array().map((data): NamedTensor => ({ dtype: "U8", shape: [data.length], data })),
      fc.uint16Array().map((data): NamedTensor => ({ dtype: "BF16", shape: [data.length], data })),
    ),
    { maxKeys: 6 },
  );
  await fc.assert(
    fc.asyncProperty(named, async (tensors) => {
      await writeSafetensors(path, Object.entries(tensors));
      expect(Object.fromEntries(readSafetensors(path).tensors)).toEqual(tensors);
      for (const { offset, dtype } of readSafetensorsHeader(path).tensors.values()) {
        expect(offset % (dtype === "U8" ? 1 : dtype === "BF16" ? 2 : dtype === "I64" ? 8 : 4)).toBe(0);
      }
    }),
    { numRuns: 40 },
  );
});

test("the order of the tensors in the map does not change the bytes", () => {
  const [a, b] = [f32([1], [1]), f32([1], [2])];
  const bytes = (list: [string, NamedTensor][]): string =>
    Buffer.concat(encodeSafetensors(list)).toString("hex");
  expect(
    bytes([
      ["a", a],
      ["b", b],
    ]),
  ).toBe(
    bytes([
      ["b", b],
      ["a", a],
    ]),
  );
});

test("bfloat16 and half widen exactly", () => {
  const widen = (dtype: "BF16" | "F16", bits: number[]): number[] => [
    ...float32Values({ dtype, shape: [bits.length], data: Uint16Array.from(bits) }),
  ];
  expect(widen("BF16", [0x3f80, 0xc000, 0x7f80, 0x0001])).toEqual([1, -2, Infinity, 2 ** -133]);
  expect(widen("F16", [0x3c00, 0xc000, 0x7bff, 0x0001, 0x7c00, 0x3555])).toEqual([
    1,
    -2,
    65504,
    2 ** -24,
    Infinity,
    0.333251953125,
  ]);
  expect(halfToNumber(0x7e00)).toBeNaN();
});

test("integers do not pass for floats", () => {
  expect(() => float32Values({ dtype: "I32", shape: [0], data: new Int32Array(0) })).toThrow(TypeError);
});

test.each([
  { what: "no length", make: () => handWritten("abc"), says: "it has only 3 bytes" },
  {
    what: "an endless header",
    make: () => handMade("{}", 0, 2 ** 40),
    says: "its header claims 1099511627776 bytes",
  },
  { what: "a cut header", make: () => handMade("{}", 0, 300), says: "it ends within its header" },
  { what: "no JSON", make: () => handMade("hello", 0), says: "its header is not JSON" },
  { what: "a list", make: () => handMade("[]", 0), says: "its header is not a JSON object" },
  {
    what: "missing data",
    make: () => handMade({ a: { dtype: "F32", shape: [4], data_offsets: [0, 16] } }, 12),
    says: "it is truncated: 4 bytes of tensors are missing",
  },
  {
    what: "data left over",
    make: () => handMade({ a: { dtype: "F32", shape: [], data_offsets: [0, 4] } }, 6),
    says: "2 bytes follow its last tensor",
  },
  {
    what: "overlap",
    make: () =>
      handMade(
        {
          a: { dtype: "F32", shape: [2], data_offsets: [0, 8] },
          b: { dtype: "F32", shape: [1], data_offsets: [4, 8] },
        },
        8,
      ),
    says: '"b" overlaps the tensor before it',
  },
  {
    what: "a hole",
    make: () => handMade({ b: { dtype: "F32", shape: [1], data_offsets: [4, 8] } }, 8),
    says: 'there is a hole of 4 bytes before "b"',
  },
  {
    what: "a size against its shape",
    make: () => handMade({ b: { dtype: "F32", shape: [3], data_offsets: [0, 8] } }, 8),
    says: '"b" (F32 [3]) needs 12 bytes and has 8',
  },
  {
    what: "an unknown dtype",
    make: () => handMade({ b: { dtype: "F8_E4M3", shape: [1], data_offsets: [0, 1] } }, 1),
    says: 'need dtype F32, F16, BF16, I32, I64 or U8, got "F8_E4M3"',
  },
  {
    what: "a negative shape",
    make: () => handMade({ b: { dtype: "F32", shape: [-1], data_offsets: [0, 4] } }, 4),
    says: '"b" has no valid shape',
  },
])("a file with $what is refused by name", ({ make, says }) => {
  const file = make();
  expect(() => readSafetensors(file)).toThrow(says);
  expect(() => readSafetensors(file)).toThrow(path);
});

test("a good file cut anywhere is refused, never half read", async () => {
  await writeSafetensors(path, [["w", f32([2, 3], [1, 2, 3, 4, 5, 6])]]);
  const whole = readFileSync(path).length;
  for (let size = 0; size < whole; size++) {
    writeFileSync(join(folder, "cut"), readFileSync(path));
    truncateSync(join(folder, "cut"), size);
    expect(() => readSafetensors(join(folder, "cut"))).toThrow("need a whole safetensors file");
  }
});

test("a missing file is named", () => {
  expect(() => readSafetensors(join(folder, "none"))).toThrow(
    `${join(folder, "none")}: need a safetensors file`,
  );
});

test("a write that fails leaves the old file and no temporary one", async () => {
  await writeSafetensors(path, [["w", f32([1], [7])]]);
  const bad: NamedTensor = { dtype: "F32", shape: [2], data: new Float32Array(1) };
  expect(() => writeSafetensors(path, [["w", bad]])).toThrow("w: F32 [2] needs 8 bytes, got 4");
  expect(readSafetensors(path).tensors.get("w")!.data).toEqual(Float32Array.of(7));
  expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});

const hasPython = ((): boolean => {
  try {
    execFileSync("python3", ["-c", "pass"]);
    return true;
  } catch {
    return false;
  }
})();

test.skipIf(!hasPython)(
  "an independent reader in Python finds the same numbers (skipped without python3)",
  async () => {
    await writeSafetensors(path, [["w", f32([2], [0.5, -3])]], { made: "here" });
    const script = `
import json, struct, sys
raw = open(sys.argv[1], "rb").read()
n = struct.unpack("<Q", raw[:8])[0]
head = json.loads(raw[8:8 + n]); a, b = head["w"]["data_offsets"]
print(json.dumps([struct.unpack("<2f", raw[8 + n + a:8 + n + b]), head["__metadata__"]]))`;
    const shown = execFileSync("python3", ["-c", script, path], { encoding: "utf8" });
    expect(JSON.parse(shown)).toEqual([[0.5, -3], { made: "here" }]);
  },
);
