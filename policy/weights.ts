import { randomStream } from "../core/index.js";
import type { DecoderConfig } from "./config.js";

/** Shapes of a decoder's parameters under their Hugging Face names; matrices are [out, in]. Insertion order is file order. */
export function parameterShapes(config: DecoderConfig): Record<string, number[]> {
  const { width, feedForward, headDim } = config;
  const queryWidth = config.heads * headDim;
  const keyValueWidth = config.keyValueHeads * headDim;
  const shapes: Record<string, number[]> = { "model.embed_tokens.weight": [config.vocabulary, width] };
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `model.layers.${layer}`;
    shapes[`${at}.input_layernorm.weight`] = [width];
    shapes[`${at}.self_attn.q_proj.weight`] = [queryWidth, width];
    shapes[`${at}.self_attn.k_proj.weight`] = [keyValueWidth, width];
    shapes[`${at}.self_attn.v_proj.weight`] = [keyValueWidth, width];
    if (config.queryKeyValueBias) {
      shapes[`${at}.self_attn.q_proj.bias`] = [queryWidth];
      shapes[`${at}.self_attn.k_proj.bias`] = [keyValueWidth];
      shapes[`${at}.self_attn.v_proj.bias`] = [keyValueWidth];
    }
    if (config.queryKeyNorm) {
      shapes[`${at}.self_attn.q_norm.weight`] = [headDim];
      shapes[`${at}.self_attn.k_norm.weight`] = [headDim];
    }
    shapes[`${at}.self_attn.o_proj.weight`] = [width, queryWidth];
    shapes[`${at}.post_attention_layernorm.weight`] = [width];
    shapes[`${at}.mlp.gate_proj.weight`] = [feedForward, width];
    shapes[`${at}.mlp.up_proj.weight`] = [feedForward, width];
    shapes[`${at}.mlp.down_proj.weight`] = [width, feedForward];
  }
  shapes["model.norm.weight"] = [width];
  if (!config.tiedEmbeddings) shapes["lm_head.weight"] = [config.vocabulary, width];
  return shapes;
}

/** Number of parameters. */
export const parameterCount = (config: DecoderConfig): number =>
  Object.values(parameterShapes(config)).reduce((sum, shape) => sum + shape.reduce((a, b) => a * b, 1), 0);

const LARGE_PARAMETERS = 64e6;

/** Whether a second copy of the weights would cost more than what it saves: such a policy is computed on as it stands. */
export const isLargePolicy = (config: DecoderConfig): boolean => parameterCount(config) >= LARGE_PARAMETERS;

/** Scales of a fresh policy's weights. */
export interface Initialisation {
  /** Standard deviation of the embedding. Larger than the usual 0.02, which is slow for a policy this small. */
  readonly embeddingStd: number;
  /** Matrices get `matrixScale / sqrt(fan_in)`; the two that write into the residual stream also `/ sqrt(2 layers)`. */
  readonly matrixScale: number;
}

/** Fresh float32 weights: normal matrices, norms of 1, biases of 0; each parameter is a random stream of its own name. */
export function initialWeights(
  config: DecoderConfig,
  seed: number,
  scales: Initialisation = { embeddingStd: 0.08, matrixScale: 0.6 },
): Record<string, Float32Array> {
  const weights: Record<string, Float32Array> = {};
  for (const [name, shape] of Object.entries(parameterShapes(config))) {
    const size = shape.reduce((a, b) => a * b, 1);
    if (shape.length === 1) {
      weights[name] = new Float32Array(size).fill(name.endsWith(".bias") ? 0 : 1);
      continue;
    }
    const residual = name.endsWith("o_proj.weight") || name.endsWith("down_proj.weight");
    const matrixStd =
      scales.matrixScale / Math.sqrt(shape[1]!) / (residual ? Math.sqrt(2 * config.layers) : 1);
    const std = name === "model.embed_tokens.weight" ? scales.embeddingStd : matrixStd;
    const random = randomStream(seed, `weights/${name}`);
    weights[name] = Float32Array.from({ length: size }, () => random.normal() * std);
  }
  return weights;
}
