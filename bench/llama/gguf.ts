/**
 * A policy's weights as a GGUF file, version 3, that llama.cpp opens.
 * @see https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { closeSync, openSync, writeFileSync } from "node:fs";
import type { DecoderConfig, HostWeights } from "../../policy/index.js";
import { parameterShapes } from "../../policy/index.js";

export type WeightType = "F32" | "F16";

/** Numbers of the format for types of metadata values. */
const VALUE_TYPES = { uint32: 4, int32: 5, float32: 6, string: 8, array: 9 } as const;
/** Numbers of ggml for types of elements. */
const ELEMENT_TYPES = { F32: 0, F16: 1 } as const;
const ALIGNMENT = 32;
const VERSION = 3;

export type MetadataValue =
  | { readonly type: "uint32" | "float32"; readonly value: number }
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "strings"; readonly value: readonly string[] }
  | { readonly type: "float32s" | "int32s"; readonly value: readonly number[] };

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const uint64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const float32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
};
const text = (value: string): Buffer => {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
};

function encodeValue(entry: MetadataValue): Buffer {
  switch (entry.type) {
    case "uint32":
      return Buffer.concat([uint32(VALUE_TYPES.uint32), uint32(entry.value)]);
    case "float32":
      return Buffer.concat([uint32(VALUE_TYPES.float32), float32(entry.value)]);
    case "string":
      return Buffer.concat([uint32(VALUE_TYPES.string), text(entry.value)]);
    case "strings":
      return encodeArray(VALUE_TYPES.string, entry.value.map(text));
    case "float32s":
      return encodeArray(VALUE_TYPES.float32, entry.value.map(float32));
    case "int32s":
      return encodeArray(VALUE_TYPES.int32, entry.value.map(uint32));
  }
}

const encodeArray = (type: number, items: readonly Buffer[]): Buffer =>
  Buffer.concat([uint32(VALUE_TYPES.array), uint32(type), uint64(items.length), ...items]);

/** IEEE half of a single, rounded to nearest, ties to even. */
export function toHalf(value: number): number {
  bitsOf.setFloat32(0, value);
  const bits = bitsOf.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const exponent = (bits >>> 23) & 0xff;
  const fraction = bits & 0x7fffff;
  if (exponent === 0xff) return sign | 0x7c00 | (fraction === 0 ? 0 : 0x200);
  const shifted = exponent - 112; // bias 127 to bias 15
  if (shifted >= 0x1f) return sign | 0x7c00;
  if (shifted <= 0) {
    if (shifted < -10) return sign;
    return sign | roundedShift(fraction | 0x800000, 14 - shifted);
  }
  return sign + ((shifted << 10) + roundedShift(fraction, 13)); // a carry goes into the exponent, as it must
}
const bitsOf = new DataView(new ArrayBuffer(4));

function roundedShift(value: number, by: number): number {
  const kept = value >>> by;
  const rest = value & ((1 << by) - 1);
  const half = 1 << (by - 1);
  return rest > half || (rest === half && kept & 1) ? kept + 1 : kept;
}

/** Vocabulary of single bytes and made-up words: nothing is ever encoded, but llama.cpp opens no model without one. */
function tokenizerMetadata(vocabulary: number): Record<string, MetadataValue> {
  const [normal, unknown, control, byte] = [1, 2, 3, 6];
  const hex = (value: number): string => value.toString(16).toUpperCase().padStart(2, "0");
  const kinds = (id: number): [string, number] => {
    if (id < 3) return [["<unk>", "<s>", "</s>"][id]!, id === 0 ? unknown! : control!];
    return id < 259 ? [`<0x${hex(id - 3)}>`, byte!] : [`w${id}`, normal!];
  };
  const tokens = Array.from({ length: vocabulary }, (_, id) => kinds(id));
  return {
    "tokenizer.ggml.model": { type: "string", value: "llama" },
    "tokenizer.ggml.tokens": { type: "strings", value: tokens.map(([token]) => token) },
    "tokenizer.ggml.scores": { type: "float32s", value: tokens.map(() => 0) },
    "tokenizer.ggml.token_type": { type: "int32s", value: tokens.map(([, kind]) => kind) },
    "tokenizer.ggml.unknown_token_id": { type: "uint32", value: 0 },
    "tokenizer.ggml.bos_token_id": { type: "uint32", value: 1 },
    "tokenizer.ggml.eos_token_id": { type: "uint32", value: 2 },
  };
}

/** Metadata of a model of llama.cpp's architecture "llama". @throws Error for a policy that is not of it */
export function ggufMetadata(config: DecoderConfig, weights: WeightType): Record<string, MetadataValue> {
  if (config.modelType !== "llama" || config.ropeScaling !== null)
    throw new Error("the GGUF writer knows the Llama architecture with plain RoPE");
  const count = (value: number): MetadataValue => ({ type: "uint32", value });
  return {
    "general.architecture": { type: "string", value: "llama" },
    "general.name": { type: "string", value: "benchmark policy" },
    "general.alignment": count(ALIGNMENT),
    "general.file_type": count(ELEMENT_TYPES[weights]),
    "llama.vocab_size": count(config.vocabulary),
    "llama.context_length": count(config.maxPositions),
    "llama.embedding_length": count(config.width),
    "llama.block_count": count(config.layers),
    "llama.feed_forward_length": count(config.feedForward),
    "llama.attention.head_count": count(config.heads),
    "llama.attention.head_count_kv": count(config.keyValueHeads),
    "llama.attention.key_length": count(config.headDim),
    "llama.attention.value_length": count(config.headDim),
    "llama.attention.layer_norm_rms_epsilon": { type: "float32", value: config.normEpsilon },
    "llama.rope.dimension_count": count(config.headDim),
    "llama.rope.freq_base": { type: "float32", value: config.ropeTheta },
    ...tokenizerMetadata(config.vocabulary),
  };
}

const LAYER_NAMES: Readonly<Record<string, string>> = {
  "input_layernorm.weight": "attn_norm.weight",
  "self_attn.q_proj.weight": "attn_q.weight",
  "self_attn.k_proj.weight": "attn_k.weight",
  "self_attn.v_proj.weight": "attn_v.weight",
  "self_attn.o_proj.weight": "attn_output.weight",
  "post_attention_layernorm.weight": "ffn_norm.weight",
  "mlp.gate_proj.weight": "ffn_gate.weight",
  "mlp.up_proj.weight": "ffn_up.weight",
  "mlp.down_proj.weight": "ffn_down.weight",
};
const OTHER_NAMES: Readonly<Record<string, string>> = {
  "model.embed_tokens.weight": "token_embd.weight",
  "model.norm.weight": "output_norm.weight",
  "lm_head.weight": "output.weight",
};

/** llama.cpp's name of a Hugging Face parameter. */
export function ggufName(name: string): string {
  const [, layer, rest] = /^model\.layers\.(\d+)\.(.+)$/.exec(name) ?? [];
  const found = rest === undefined ? OTHER_NAMES[name] : LAYER_NAMES[rest];
  if (found === undefined) throw new Error(`no name in GGUF for ${name}`);
  return layer === undefined ? found : `blk.${layer}.${found}`;
}

/**
 * Rows of a query or key matrix in llama.cpp's order. RoPE turns pairs of a head's elements: Hugging Face pairs the first half
 * with the second, llama.cpp each even one with the next.
 */
export function interleavedHalves(matrix: Float32Array, heads: number, columns: number): Float32Array {
  const rows = matrix.length / columns;
  const [headDim, half] = [rows / heads, rows / heads / 2];
  const turned = new Float32Array(matrix.length);
  for (let row = 0; row < rows; row++) {
    const [head, place] = [Math.floor(row / headDim), row % headDim];
    const to = head * headDim + (place < half ? 2 * place : 2 * (place - half) + 1);
    turned.set(matrix.subarray(row * columns, (row + 1) * columns), to * columns);
  }
  return turned;
}

function dataOf(name: string, config: DecoderConfig, weights: HostWeights): Float32Array {
  const data = weights[name]!;
  if (name.endsWith("q_proj.weight")) return interleavedHalves(data, config.heads, config.width);
  if (name.endsWith("k_proj.weight")) return interleavedHalves(data, config.keyValueHeads, config.width);
  return data;
}

const padding = (size: number): number => (ALIGNMENT - (size % ALIGNMENT)) % ALIGNMENT;

/** Writes a GGUF file. Vectors stay in float32, as llama.cpp's own converter leaves them. */
export function writeGguf(path: string, config: DecoderConfig, weights: HostWeights, type: WeightType): void {
  const metadata = Object.entries(ggufMetadata(config, type));
  const tensors = Object.entries(parameterShapes(config)).map(([name, shape]) => {
    const stored: WeightType = shape.length === 1 ? "F32" : type;
    const size = shape.reduce((a, b) => a * b, 1) * (stored === "F32" ? 4 : 2);
    return { name, shape, stored, size };
  });
  let offset = 0;
  const infos = tensors.map(({ name, shape, stored, size }) => {
    const dimensions = [...shape].reverse().map(uint64); // ggml counts from the innermost
    const info = [text(ggufName(name)), uint32(shape.length), ...dimensions, uint32(ELEMENT_TYPES[stored])];
    const bytes = Buffer.concat([...info, uint64(offset)]);
    offset += size + padding(size);
    return bytes;
  });
  const header = Buffer.concat([
    Buffer.from("GGUF"),
    uint32(VERSION),
    uint64(tensors.length),
    uint64(metadata.length),
    ...metadata.flatMap(([key, value]) => [text(key), encodeValue(value)]),
    ...infos,
  ]);
  const file = openSync(path, "w");
  try {
    const write = (bytes: Uint8Array): void => {
      writeFileSync(file, bytes);
      writeFileSync(file, Buffer.alloc(padding(bytes.length)));
    };
    write(header);
    for (const { name, stored } of tensors) {
      const data = dataOf(name, config, weights);
      const elements = stored === "F32" ? data : Uint16Array.from(data, toHalf);
      write(new Uint8Array(elements.buffer, elements.byteOffset, elements.byteLength));
    }
  } finally {
    closeSync(file);
  }
}
