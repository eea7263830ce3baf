/** Folders as models are published: several weight files, half precision, stretched positions, templates in files. */
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import {
  type NamedTensor,
  readModelTensors,
  readSafetensors,
  writeSafetensors,
} from "../../checkpoints/index.js";
import {
  type DecoderConfig,
  initialWeights,
  parameterCount,
  parameterShapes,
  parseDecoderConfig,
  readPolicy,
  readWeights,
  ropeTables,
  writePolicy,
} from "../../policy/index.js";
import { buildTokenizer } from "../../tasks/index.js";

const root = mkdtempSync(join(tmpdir(), "published-"));
afterAll(() => rmSync(root, { recursive: true }));

const { tokenizerJson, tokenizerConfig } = buildTokenizer();
const LLAMA31 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
};
const published = {
  architectures: ["LlamaForCausalLM"],
  model_type: "llama",
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: Object.keys((tokenizerJson.model as { vocab: object }).vocab).length + 5,
  rope_theta: 500_000,
  rope_scaling: LLAMA31,
  eos_token_id: 3,
  pretraining_tp: 1,
  torch_dtype: "bfloat16",
};
const config = parseDecoderConfig(published);

/** The upper half of each float32, as bfloat16 stores it; the values are chosen so that nothing is lost. */
const toBrainFloat = (values: Float32Array): Uint16Array =>
  Uint16Array.from(new Uint32Array(values.buffer, values.byteOffset, values.length), (bits) => bits >>> 16);
const rounded = (values: Float32Array): Float32Array =>
  new Float32Array(Uint32Array.from(toBrainFloat(values), (bits) => bits << 16).buffer);

const weights = Object.fromEntries(
  Object.entries(initialWeights(config, 11)).map(([name, values]) => [name, rounded(values)]),
);

async function writeShards(folder: string, of: DecoderConfig): Promise<void> {
  const names = Object.keys(parameterShapes(of));
  const weight_map: Record<string, string> = {};
  for (const shard of [1, 2, 3]) {
    const file = `model-0000${shard}-of-00003.safetensors`;
    const own = names.filter((_, i) => i % 3 === shard - 1);
    const tensors = own.map((name): [string, NamedTensor] => [
      name,
      { dtype: "BF16", shape: parameterShapes(of)[name]!, data: toBrainFloat(weights[name]!) },
    ]);
    await writeSafetensors(join(folder, file), tensors, { format: "pt" });
    for (const name of own) weight_map[name] = file;
  }
  const index = { metadata: { total_size: 1 }, weight_map };
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify(index));
}

let folder = "";
let count = 0;
beforeEach(async () => {
  folder = join(root, String(count++));
  mkdirSync(folder);
  writeFileSync(join(folder, "config.json"), JSON.stringify(published));
  writeFileSync(join(folder, "generation_config.json"), JSON.stringify({ eos_token_id: [3, 7], top_p: 0.9 }));
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizerJson));
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(tokenizerConfig));
  await writeShards(folder, config);
});

describe("a published folder", () => {
  test("of three bfloat16 files gives every weight, widened without loss", () => {
    expect(readPolicy(folder).weights).toEqual(weights);
  });

  test("ends a turn where its generation_config.json says so too", () => {
    expect(readPolicy(folder).config.stopIds).toEqual([3, 7]);
  });

  test("is saved as it was published: in its files and types, with the keys that only other programs read", async () => {
    writeFileSync(join(folder, "chat_template.jinja"), "{{ messages[0].content }}!");
    const { config: read, weights: values } = readPolicy(folder);
    const saved = join(root, `saved-${count}`);
    await writePolicy(saved, read, values, folder);
    for (const name of readdirSync(folder).filter((name) => !name.endsWith(".json")))
      expect(readFileSync(join(saved, name)).equals(readFileSync(join(folder, name)))).toBe(true);
    for (const name of ["generation_config.json", "tokenizer.json", "tokenizer_config.json"])
      expect(readFileSync(join(saved, name), "utf8")).toBe(readFileSync(join(folder, name), "utf8"));
    const json = (at: string, name: string): unknown => JSON.parse(readFileSync(join(at, name), "utf8"));
    expect(json(saved, "config.json")).toEqual(published);
    const index = "model.safetensors.index.json";
    expect(json(saved, index)).toMatchObject({
      metadata: { total_size: 2 * parameterCount(config) },
      weight_map: (json(folder, index) as { weight_map: object }).weight_map,
    });
    expect(readdirSync(saved).sort()).toEqual(readdirSync(folder).sort());
  });

  test("is saved in another type where that is asked for, and in its types tensor by tensor where they differ", async () => {
    const { config: read, weights: values } = readPolicy(folder);
    const [wide, mixed] = [join(root, `wide-${count}`), join(root, `mixed-${count}`)];
    await writePolicy(wide, read, values, folder, "float32");
    expect(readPolicy(wide)).toMatchObject({ config: read, weights: values });
    expect(JSON.parse(readFileSync(join(wide, "config.json"), "utf8"))).toEqual({
      ...published,
      torch_dtype: "float32",
    });
    const tensors = [...readModelTensors(folder)];
    const norm: NamedTensor = { dtype: "F32", shape: [16], data: new Float32Array(16).fill(1.1) };
    rmSync(join(folder, "model.safetensors.index.json"));
    await writeSafetensors(join(folder, "model.safetensors"), [
      ...tensors.filter(([name]) => name !== "model.norm.weight"),
      ["model.norm.weight", norm],
    ]);
    await writePolicy(mixed, read, readWeights(folder, config), folder);
    const types = [...readSafetensors(join(mixed, "model.safetensors")).tensors].map(
      ([, { dtype }]) => dtype,
    );
    expect(types.filter((type) => type === "F32").length).toBe(1);
    expect(readWeights(mixed, config)["model.norm.weight"]![0]).toBe(Math.fround(1.1));
  });

  test("has its chat template in a file of its own, which wins", () => {
    writeFileSync(join(folder, "chat_template.jinja"), "{{ messages[0].content }}");
    const { tokenizer } = readPolicy(folder);
    expect(tokenizer.promptIds([{ role: "user", content: "a" }])).toEqual(tokenizer.encode("a"));
  });

  test("has several named chat templates, of which the default is taken", () => {
    const chat_template = [
      { name: "tool_use", template: "tools" },
      { name: "default", template: "{{ messages[0].content }}" },
    ];
    writeFileSync(
      join(folder, "tokenizer_config.json"),
      JSON.stringify({ ...tokenizerConfig, chat_template }),
    );
    const { tokenizer } = readPolicy(folder);
    expect(tokenizer.promptIds([{ role: "user", content: "b" }])).toEqual(tokenizer.encode("b"));
  });

  test("without one of its files is refused, naming it", () => {
    rmSync(join(folder, "model-00002-of-00003.safetensors"));
    expect(() => readWeights(folder, config)).toThrow(
      `${join(folder, "model.safetensors.index.json")}: need every file that it names beside it; model-00002-of-00003.safetensors is missing`,
    );
  });

  test("with a file cut short is refused, naming it", () => {
    const file = join(folder, "model-00003-of-00003.safetensors");
    truncateSync(file, readFileSync(file).length - 7);
    expect(() => readWeights(folder, config)).toThrow(
      `${file}: need a whole safetensors file, but it is truncated`,
    );
  });

  test("with a chat template that cannot be read is refused", () => {
    writeFileSync(join(folder, "chat_template.jinja"), "{% if %}");
    expect(() => readPolicy(folder)).toThrow(`${folder}: chat template: need a template that can be read (`);
  });

  test("with a generation_config.json that is not JSON is refused", () => {
    writeFileSync(join(folder, "generation_config.json"), "{");
    expect(() => readPolicy(folder)).toThrow(`${join(folder, "generation_config.json")}: need valid JSON`);
  });
});

describe("stretched positions", () => {
  const shape = { headDim: 128, ropeTheta: 500_000 };
  /** Radians a position, from the table's second row. */
  const frequency = (tables: ReturnType<typeof ropeTables>, i: number): number =>
    Math.asin(tables.sin[2 * 128 - 64 + i]!);

  // Llama 3.1's formula in another program: 1/theta^(2i/128), divided by 8, or mixed, by wave length.
  test.each([
    { i: 20, want: 0.016560440080994446, kind: "short waves stay" },
    { i: 30, want: 0.0013718935677611381, kind: "waves between are mixed" },
    { i: 33, want: 0.00031269375038406517, kind: "waves between are mixed" },
    { i: 35, want: 9.556212353964683e-5, kind: "long waves are stretched eight times" },
    { i: 63, want: 3.068925988914511e-7, kind: "long waves are stretched eight times" },
  ])("as Llama 3.1 has them: $kind (pair $i)", ({ i, want }) => {
    const scaling = parseDecoderConfig(published).ropeScaling;
    const tables = ropeTables({ ...shape, ropeScaling: scaling }, 2);
    expect(frequency(tables, i) / want).toBeCloseTo(1, 6);
  });

  test("by one factor for all", () => {
    const scaling = parseDecoderConfig({
      ...published,
      rope_scaling: { type: "linear", factor: 4 },
    }).ropeScaling;
    const plain = ropeTables({ ...shape, ropeScaling: null }, 2);
    const slow = ropeTables({ ...shape, ropeScaling: scaling }, 5);
    for (const i of [1, 20, 63]) expect(slow.cos[4 * 128 + i]).toBeCloseTo(plain.cos[128 + i]!, 7);
  });

  test("under the key that transformers 5 writes", () => {
    const { rope_scaling, rope_theta, ...rest } = published;
    const rope_parameters = { ...rope_scaling, rope_theta };
    expect(parseDecoderConfig({ ...rest, rope_parameters })).toMatchObject({
      ropeTheta: 500_000,
      ropeScaling: LLAMA31,
    });
  });

  test("that a file calls default are plain", () => {
    expect(
      parseDecoderConfig({ ...published, rope_scaling: { rope_type: "default" } }).ropeScaling,
    ).toBeNull();
  });
});
