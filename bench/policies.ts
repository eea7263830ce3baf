/** The policies that are measured: Llama-shaped, random weights. */
import { type DecoderConfig, type HostWeights, parameterShapes } from "../policy/index.js";
import type { SampleWork, TrainWork } from "./cells.js";

const llama = (
  shape: Pick<DecoderConfig, "layers" | "width" | "heads" | "keyValueHeads" | "feedForward" | "vocabulary">,
): DecoderConfig => ({
  ...shape,
  modelType: "llama",
  headDim: shape.width / shape.heads,
  normEpsilon: 1e-6,
  ropeTheta: 10_000,
  ropeScaling: null,
  maxPositions: 8192,
  tiedEmbeddings: true,
  queryKeyValueBias: false,
  queryKeyNorm: false,
  stopIds: [],
});

/** By number of parameters. `tiny` is for trying the benchmark itself. */
export const POLICIES: Readonly<Record<string, DecoderConfig>> = {
  tiny: llama({ layers: 2, width: 64, heads: 4, keyValueHeads: 2, feedForward: 128, vocabulary: 512 }),
  "1M": llama({ layers: 4, width: 128, heads: 4, keyValueHeads: 2, feedForward: 384, vocabulary: 2048 }),
  "10M": llama({ layers: 6, width: 384, heads: 6, keyValueHeads: 2, feedForward: 1024, vocabulary: 2048 }),
  "100M": llama({
    layers: 12,
    width: 768,
    heads: 12,
    keyValueHeads: 4,
    feedForward: 2048,
    vocabulary: 32_000,
  }),
};

/**
 * Random weights of usual sizes: 0.02 in the embedding, 0.6 / sqrt(fan-in) in matrices. Uniform, of a small generator (mulberry32): drawing 100 million
 * normal numbers from the policy's own streams takes minutes.
 */
export function benchWeights(config: DecoderConfig): HostWeights {
  let state = 1;
  const weights: HostWeights = {};
  for (const [name, shape] of Object.entries(parameterShapes(config))) {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(1);
    weights[name] = values;
    if (shape.length === 1) continue;
    const isResidual = name.endsWith("o_proj.weight") || name.endsWith("down_proj.weight");
    const matrixStd = 0.6 / Math.sqrt(shape[1]! * (isResidual ? 2 * config.layers : 1));
    const width = (name === "model.embed_tokens.weight" ? 0.02 : matrixStd) * Math.sqrt(12);
    for (let i = 0; i < values.length; i++) {
      state = (state + 0x6d2b79f5) | 0;
      const once = Math.imul(state ^ (state >>> 15), state | 1);
      const twice = (once + Math.imul(once ^ (once >>> 7), once | 61)) ^ once;
      values[i] = ((twice ^ (twice >>> 14)) / 2 ** 32) * width;
    }
  }
  return weights;
}

/** Multiply-adds of one token through all matrices, each counted as two operations. */
function matrixOperations({
  layers,
  width,
  heads,
  keyValueHeads,
  headDim,
  feedForward,
  vocabulary,
}: DecoderConfig): number {
  const attention = (2 * heads + 2 * keyValueHeads) * headDim * width;
  return 2 * (layers * (attention + 3 * width * feedForward) + vocabulary * width);
}

/** Of one token of a training step, with all T x T scores; the backward pass multiplies twice for each product of the forward. */
export function trainOperations(config: DecoderConfig, { length }: TrainWork): number {
  const scores = 4 * config.layers * config.heads * config.headDim * length;
  return 3 * (matrixOperations(config) + scores);
}

/** Of one sampled token, its share of the prefill not counted; the cache as filled on average. */
export function sampleOperations(config: DecoderConfig, { promptLength, newTokens }: SampleWork): number {
  const cached = promptLength + (newTokens - 1) / 2;
  return matrixOperations(config) + 4 * config.layers * config.heads * config.headDim * cached;
}

/** Bytes that a decoding step must read for one of its tokens: the weights, shared by all sequences, and the filled cache. */
export function sampleBytes(
  config: DecoderConfig,
  { prompts, samples, promptLength, newTokens }: SampleWork,
): number {
  const cached = promptLength + (newTokens - 1) / 2;
  const cache = 2 * config.layers * config.keyValueHeads * config.headDim * cached;
  return 4 * (matrixOperations(config) / 2 / (prompts * samples) + cache);
}
