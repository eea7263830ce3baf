import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { ggufMetadata, ggufName, interleavedHalves, toHalf, writeGguf } from "../../bench/llama/gguf.js";
import { POLICIES } from "../../bench/policies.js";
import { initialWeights } from "../../policy/index.js";

const config = { ...POLICIES.tiny!, layers: 1, vocabulary: 300 };
const weights = initialWeights(config, 3);
const folder = mkdtempSync(join(tmpdir(), "retort-gguf-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A reader written from the format's description, apart from the writer. */
function readGguf(path: string) {
  const bytes = readFileSync(path);
  let at = 0;
  const take = <T>(size: number, read: (at: number) => T): T => {
    at += size;
    return read(at - size);
  };
  const u32 = () => take(4, (place) => bytes.readUInt32LE(place));
  const u64 = () => Number(take(8, (place) => bytes.readBigUInt64LE(place)));
  const text = (): string => {
    const size = u64();
    return take(size, (place) => bytes.toString("utf8", place, place + size));
  };
  const value = (type: number): unknown => {
    if (type === 4 || type === 5) return u32();
    if (type === 6) return take(4, (place) => bytes.readFloatLE(place));
    if (type === 8) return text();
    if (type !== 9) throw new Error(`value type ${type}`);
    const [of, count] = [u32(), u64()];
    return Array.from({ length: count }, () => value(of));
  };
  const magic = take(4, (place) => bytes.toString("latin1", place, place + 4));
  const [version, tensorCount, keyCount] = [u32(), u64(), u64()];
  const metadata = Object.fromEntries(
    Array.from({ length: keyCount }, () => [text(), value(u32())] as const),
  );
  const infos = Array.from({ length: tensorCount }, () => ({
    name: text(),
    dimensions: Array.from({ length: u32() }, u64),
    type: u32(),
    offset: u64(),
  }));
  const start = Math.ceil(at / 32) * 32;
  const floats = (name: string): Float32Array => {
    const { dimensions, offset } = infos.find((info) => info.name === name)!;
    const size = dimensions.reduce((a, b) => a * b, 1);
    return new Float32Array(
      bytes.buffer.slice(bytes.byteOffset + start + offset, bytes.byteOffset + start + offset + 4 * size),
    );
  };
  const halves = (name: string): Uint16Array => {
    const { dimensions, offset } = infos.find((info) => info.name === name)!;
    const size = dimensions.reduce((a, b) => a * b, 1);
    const from = bytes.byteOffset + start + offset;
    return new Uint16Array(bytes.buffer.slice(from, from + 2 * size));
  };
  return { magic, version, metadata, infos, floats, halves, size: bytes.length };
}

test("a written file has the shape, the vocabulary and every tensor of the policy, each at an aligned place", () => {
  const file = join(folder, "f32.gguf");
  writeGguf(file, config, weights, "F32");
  const { magic, version, metadata, infos, floats, size } = readGguf(file);
  expect([magic, version]).toEqual(["GGUF", 3]);
  expect(metadata).toMatchObject({
    "general.architecture": "llama",
    "general.file_type": 0,
    "llama.embedding_length": 64,
    "llama.block_count": 1,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.rope.dimension_count": 16,
    "llama.rope.freq_base": 10_000,
    "tokenizer.ggml.eos_token_id": 2,
  });
  const tokens = metadata["tokenizer.ggml.tokens"] as string[];
  expect([tokens.length, tokens[3], tokens[258], tokens[299]]).toEqual([300, "<0x00>", "<0xFF>", "w299"]);
  expect(infos.map(({ name, dimensions }) => `${name} ${dimensions.join("x")}`)).toEqual([
    "token_embd.weight 64x300",
    "blk.0.attn_norm.weight 64",
    "blk.0.attn_q.weight 64x64",
    "blk.0.attn_k.weight 64x32",
    "blk.0.attn_v.weight 64x32",
    "blk.0.attn_output.weight 64x64",
    "blk.0.ffn_norm.weight 64",
    "blk.0.ffn_gate.weight 64x128",
    "blk.0.ffn_up.weight 64x128",
    "blk.0.ffn_down.weight 128x64",
    "output_norm.weight 64",
  ]);
  expect(infos.every(({ offset }) => offset % 32 === 0)).toBe(true);
  expect(floats("token_embd.weight")).toEqual(weights["model.embed_tokens.weight"]);
  expect(floats("blk.0.ffn_down.weight")).toEqual(weights["model.layers.0.mlp.down_proj.weight"]);
  expect(floats("blk.0.attn_k.weight")).toEqual(
    interleavedHalves(weights["model.layers.0.self_attn.k_proj.weight"]!, 2, 64),
  );
  expect(size % 32).toBe(0);
});

test("in half precision matrices are halves and norms stay single", () => {
  const file = join(folder, "f16.gguf");
  writeGguf(file, config, weights, "F16");
  const { metadata, infos, halves } = readGguf(file);
  expect(metadata["general.file_type"]).toBe(1);
  const types = Object.fromEntries(infos.map(({ name, type }) => [name, type]));
  expect([types["blk.0.attn_norm.weight"], types["blk.0.attn_q.weight"]]).toEqual([0, 1]);
  const up = weights["model.layers.0.mlp.up_proj.weight"]!;
  expect(halves("blk.0.ffn_up.weight")).toEqual(Uint16Array.from(up, toHalf));
});

test("rows of queries go from halves of a head to pairs", () => {
  const rows = Float32Array.from([0, 1, 2, 3, 10, 11, 12, 13]); // two heads of four rows, one column
  expect([...interleavedHalves(rows, 2, 1)]).toEqual([0, 2, 1, 3, 10, 12, 11, 13]);
});

test.each([
  [0, 0x0000],
  [-0, 0x8000],
  [1, 0x3c00],
  [-2, 0xc000],
  [65_504, 0x7bff],
  [65_520, 0x7c00],
  [Number.POSITIVE_INFINITY, 0x7c00],
  [0.1, 0x2e66],
  [2 ** -24, 0x0001],
  [2 ** -25, 0x0000],
  [3 * 2 ** -26, 0x0001],
  [2 ** -14, 0x0400],
  [1 + 2 ** -11, 0x3c00],
  [1 + 3 * 2 ** -11, 0x3c02],
  [2047.5 / 2048, 0x3c00],
])("half precision of %d is %d, rounded to nearest, ties to even", (value, bits) => {
  expect(toHalf(value)).toBe(bits);
});

test("NaN stays NaN in half precision", () => {
  expect(toHalf(Number.NaN) & 0x7fff).toBeGreaterThan(0x7c00);
});

test("a parameter or an architecture without a name in GGUF is refused", () => {
  expect(() => ggufName("model.layers.0.self_attn.q_proj.bias")).toThrow("no name in GGUF");
  expect(() => ggufMetadata({ ...config, modelType: "qwen3" }, "F32")).toThrow("Llama architecture");
});
