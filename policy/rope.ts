/** Rotary positions (RoPE, arXiv 2104.09864), plain or stretched to a longer context. */
import { z } from "zod";

/** `rope_scaling` of a config.json: Llama 3.1's stretching by frequency, or the same factor for all. */
export const RopeScaling = z.discriminatedUnion("rope_type", [
  z.looseObject({ rope_type: z.literal("linear"), factor: z.number().positive() }),
  z.looseObject({
    rope_type: z.literal("llama3"),
    factor: z.number().positive(),
    low_freq_factor: z.number().positive(),
    high_freq_factor: z.number().positive(),
    original_max_position_embeddings: z.int().positive(),
  }),
]);
export type RopeScaling = z.infer<typeof RopeScaling>;

/** What of a decoder's shape the tables depend on. */
export interface RopeShape {
  /** Even: pairs turn. */
  readonly headDim: number;
  readonly ropeTheta: number;
  readonly ropeScaling: RopeScaling | null;
}

/** Positions that one radian takes, for pair `i` of `headDim / 2`. */
function period({ headDim, ropeTheta, ropeScaling }: RopeShape, i: number): number {
  const plain = ropeTheta ** (i / (headDim / 2));
  if (ropeScaling === null) return plain;
  if (ropeScaling.rope_type === "linear") return plain * ropeScaling.factor;
  return llama3Period(plain, ropeScaling);
}

/**
 * Short waves stay, long ones are stretched, those between are mixed.
 * @see "The Llama 3 Herd of Models", arXiv 2407.21783, and the rope_type "llama3" of transformers
 */
function llama3Period(plain: number, scaling: Extract<RopeScaling, { rope_type: "llama3" }>): number {
  const { factor, low_freq_factor: low, high_freq_factor: high } = scaling;
  const turns = scaling.original_max_position_embeddings / (2 * Math.PI * plain);
  if (turns < low) return plain * factor;
  if (turns > high) return plain;
  const share = (turns - low) / (high - low);
  return 1 / ((1 - share) / (plain * factor) + share / plain);
}

/** Cosines and sines of RoPE, each [positions, E]; the two halves of a head turn together. */
export function ropeTables(shape: RopeShape, positions: number): { cos: Float32Array; sin: Float32Array } {
  const { headDim } = shape;
  const half = headDim / 2;
  const periods = Array.from({ length: half }, (_, i) => period(shape, i));
  const cos = new Float32Array(positions * headDim);
  const sin = new Float32Array(positions * headDim);
  for (let position = 0; position < positions; position++) {
    for (let i = 0; i < headDim; i++) {
      const angle = position / periods[i % half]!;
      cos[position * headDim + i] = Math.cos(angle);
      sin[position * headDim + i] = Math.sin(angle) * (i < half ? -1 : 1);
    }
  }
  return { cos, sin };
}
