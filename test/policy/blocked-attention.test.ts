import * as tf from "@tensorflow/tfjs-core";
import { describe, expect, test } from "vitest";
import { randomStream } from "../../core/index.js";
import { queryBlocks } from "../../policy/blocked-attention.js";
import {
  causalAttention,
  parseDecoderConfig,
  positionTableShapes,
  positionTables,
} from "../../policy/index.js";
import {
  compile,
  type HostArray,
  type Provider,
  type TensorMap,
  type TracedFunction,
  valueAndGradients,
} from "../../tensor/index.js";
import { largestError } from "../tensor/contract.js";
import { isWebgpuHere } from "../tensor/webgpu.js";

const ROWS = 2;
/** Two query heads to each key's, so that both the grouping and the order of heads show. */
const config = parseDecoderConfig(
  {
    model_type: "llama",
    hidden_size: 24,
    intermediate_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 6,
    num_key_value_heads: 3,
    head_dim: 4,
    vocab_size: 8,
  },
  "test",
);
const { heads, keyValueHeads, headDim } = config;

/** The definition: whole scores, a where for the mask, tfjs's own gradients. Heads [N, H or K, E] -> [N, H * E]. */
function wholeAttention(length: number, { query, key, value }: TensorMap): tf.Tensor {
  const tables = positionTables(length, config);
  const [cos, sin] = [tables.cos, tables.sin].map((table) => tf.tensor(table, [length, 1, headDim]));
  const split = (x: tf.Tensor, count: number): tf.Tensor => tf.reshape(x, [ROWS, length, count, headDim]);
  const turn = (x: tf.Tensor): tf.Tensor => {
    const [first, second] = tf.split(x, 2, 3) as [tf.Tensor, tf.Tensor];
    return tf.add(tf.mul(x, cos!), tf.mul(tf.concat([second, first], 3), sin!));
  };
  // a copy of each key head for every query head that shares it
  const byHead = (x: tf.Tensor): tf.Tensor => {
    const repeated = tf.tile(tf.expandDims(x, 3), [1, 1, 1, heads / x.shape[2]!, 1]);
    return tf.transpose(tf.reshape(repeated, [ROWS, length, heads, headDim]), [0, 2, 1, 3]);
  };
  const scores = tf.matMul(
    byHead(turn(split(query!, heads))),
    byHead(turn(split(key!, keyValueHeads))),
    false,
    true,
  );
  const at = tf.range(0, length, 1, "int32");
  const isPast = tf.lessEqual(tf.reshape(at, [1, length]), tf.reshape(at, [length, 1]));
  const masked = tf.where(isPast, tf.div(scores, Math.sqrt(headDim)), tf.fill(scores.shape, -1e9));
  const mixed = tf.matMul(tf.softmax(masked), byHead(split(value!, keyValueHeads)));
  return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [ROWS * length, heads * headDim]);
}

function ours(length: number, { query, key, value }: TensorMap): tf.Tensor {
  const [data, shapes] = [positionTables(length, config), positionTableShapes(length, config)];
  const table = (name: "cos" | "sin" | "mask"): tf.Tensor => tf.tensor(data[name], shapes[name]);
  const tables = { cos: table("cos"), sin: table("sin"), mask: table("mask") };
  return causalAttention([ROWS, length], tables, config)({ query: query!, key: key!, value: value! });
}

/** Queries, keys and values of all tokens, and a direction of the output. */
function drawn(length: number): Record<"query" | "key" | "value" | "along", Float32Array> {
  const random = randomStream(3, "attention", length);
  const normal = (count: number): Float32Array =>
    Float32Array.from({ length: ROWS * length * count * headDim }, () => 2 * random.normal());
  const [query, along] = [normal(heads), normal(heads)];
  return { query, along, key: normal(keyValueHeads), value: normal(keyValueHeads) };
}

/** Outputs, and gradients along the direction. */
async function run(
  attention: (length: number, inputs: TensorMap) => tf.Tensor,
  length: number,
  provider: Provider,
): Promise<Record<string, HostArray>> {
  const fn: TracedFunction = ({ along, ...inputs }) => {
    const { gradients, extras } = valueAndGradients((given) => {
      const mixed = attention(length, given);
      return { loss: tf.sum(tf.mul(mixed, along!)) as tf.Scalar, extras: { mixed } };
    }, inputs);
    return { ...extras, ...gradients };
  };
  const spec = (count: number) => ({ shape: [ROWS * length, count, headDim], dtype: "float32" }) as const;
  const [query, key] = [spec(heads), spec(keyValueHeads)];
  const along = { shape: [ROWS * length, heads * headDim], dtype: "float32" } as const;
  const compiled = await compile(fn, { query, key, value: key, along }, { provider, threads: 1 });
  const results = await compiled.run(drawn(length));
  await compiled.dispose();
  return results as Record<string, HostArray>;
}

test.each([
  { length: 1, sizes: [1] },
  { length: 128, sizes: [128] },
  { length: 130, sizes: [65, 65] },
  { length: 512, sizes: [128, 128, 128, 128] },
  { length: 1030, sizes: [128, 129, 129, 129, 128, 129, 129, 129] },
])("$length queries are cut into blocks of $sizes", ({ length, sizes }) => {
  expect(queryBlocks(length).map(({ size }) => size)).toEqual(sizes);
});

test("a row of any length is covered once, in order, by at most sixteen blocks", () => {
  for (const length of [129, 257, 700, 1025, 4096, 4097, 32_768, 100_001]) {
    const blocks = queryBlocks(length);
    expect(blocks.length).toBeLessThanOrEqual(16);
    expect(blocks.map(({ start }) => start)).toEqual([0, ...blocks.slice(0, -1).map(({ end }) => end)]);
    expect(blocks.at(-1)!.end).toBe(length);
    expect(blocks.every(({ start, size, end }) => start + size === end)).toBe(true);
  }
});

// Two blocks and three, neither of one size.
describe.each([131, 260])("attention over rows of %i tokens", (length) => {
  test("and its gradients are those of whole masked scores, on cpu and where there is one on a GPU", async () => {
    const want = await run(wholeAttention, length, "cpu");
    for (const provider of (await isWebgpuHere()) ? (["cpu", "webgpu"] as const) : (["cpu"] as const)) {
      const got = await run(ours, length, provider);
      expect(Object.keys(got).sort()).toEqual(["key", "mixed", "query", "value"]);
      for (const [name, values] of Object.entries(want))
        expect(largestError(got[name]!, values), `${provider} ${name}`).toBeLessThan(2e-5);
    }
  });

  test("gives a token the same bits whatever comes after it", async () => {
    const spec = (count: number) => ({ shape: [ROWS * length, count, headDim], dtype: "float32" }) as const;
    const specs = { query: spec(heads), key: spec(keyValueHeads), value: spec(keyValueHeads) };
    const compiled = await compile((inputs) => ({ mixed: ours(length, inputs) }), specs, {
      provider: "cpu",
      threads: 1,
    });
    const { along: _, ...inputs } = drawn(length);
    const changed = Object.fromEntries(
      Object.entries(inputs).map(([name, values]) => [name, values.slice()]),
    );
    const from = length - 20; // in the second row
    for (const [name, values] of Object.entries(changed))
      values.fill(9, (length + from) * specs[name as keyof typeof specs].shape[1] * headDim);
    const [one, other] = [await compiled.run(inputs), await compiled.run(changed)].map(
      ({ mixed }) => mixed as Float32Array,
    );
    const known = (length + from) * heads * headDim;
    expect(other!.subarray(0, known)).toEqual(one!.subarray(0, known));
    expect(other!.subarray(known)).not.toEqual(one!.subarray(known));
    await compiled.dispose();
  });
});
