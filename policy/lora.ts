/** Low-rank adapters: the policy's matrices stay as they are, and W + (alpha / rank) B A is learned. @see arXiv 2106.09685 */
import { randomStream } from "../core/index.js";
import type { DecoderConfig } from "./config.js";
import type { LoraConfig } from "./lora-config.js";
import { parameterShapes } from "./weights.js";

/** Names of an adapter's two matrices, for the projection `model.layers.0.self_attn.q_proj`. */
export const loraA = (projection: string): string => `${projection}.lora_A.weight`;
export const loraB = (projection: string): string => `${projection}.lora_B.weight`;

export const loraScale = ({ rank, alpha }: LoraConfig): number => alpha / rank;

/** The projections that get an adapter, with their shapes [out, in], in file order. */
export function adaptedProjections(
  config: DecoderConfig,
  { targets }: LoraConfig,
): { name: string; out: number; in: number }[] {
  return Object.entries(parameterShapes(config)).flatMap(([parameter, shape]) => {
    const [, name, kind] = /^(model\.layers\.\d+\.\w+\.(\w+))\.weight$/.exec(parameter) ?? [];
    if (name === undefined || !(targets as readonly string[]).includes(kind!)) return [];
    return [{ name, out: shape[0]!, in: shape[1]! }];
  });
}

/** Shapes of the adapter's matrices: A [rank, in], B [out, rank]. Empty for a policy without one. */
export function adapterShapes(config: DecoderConfig): Record<string, number[]> {
  const { lora } = config;
  if (lora === undefined) return {};
  return Object.fromEntries(
    adaptedProjections(config, lora).flatMap(({ name, out, in: width }) => [
      [loraA(name), [lora.rank, width]],
      [loraB(name), [out, lora.rank]],
    ]),
  );
}

/** A fresh adapter, which changes nothing: B is 0, A uniform in +-1 / sqrt(in), as PEFT begins. */
export function initialAdapter(config: DecoderConfig, seed: number): Record<string, Float32Array> {
  return Object.fromEntries(
    Object.entries(adapterShapes(config)).map(([name, [rows, columns]]) => {
      const values = new Float32Array(rows! * columns!);
      if (name.endsWith(".lora_B.weight")) return [name, values];
      const random = randomStream(seed, `adapter/${name}`);
      const bound = 1 / Math.sqrt(columns!);
      return [name, values.map(() => (2 * random.next() - 1) * bound)];
    }),
  );
}

/**
 * Rows of a matrix with their part of scale * B A added in: a new array.
 * @param rows - [n, in], beginning with row `firstRow` of the matrix
 */
export function addAdapter(
  rows: Float32Array,
  firstRow: number,
  { a, b, scale, rank }: { a: Float32Array; b: Float32Array; scale: number; rank: number },
): Float32Array {
  const width = a.length / rank;
  const sum = Float32Array.from(rows);
  const row = new Float64Array(width);
  for (let o = 0; o < rows.length / width; o++) {
    row.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = b[(firstRow + o) * rank + r]!;
      if (factor === 0) continue;
      for (let i = 0; i < width; i++) row[i]! += factor * a[r * width + i]!;
    }
    for (let i = 0; i < width; i++) sum[o * width + i]! += scale * row[i]!;
  }
  return sum;
}

/** The policy's weights with its adapter added in; matrices without one are shared, not copied. */
export function mergedWeights(
  base: Readonly<Record<string, Float32Array>>,
  adapter: Readonly<Record<string, Float32Array>>,
  config: DecoderConfig,
): Record<string, Float32Array> {
  const { lora } = config;
  const merged: Record<string, Float32Array> = { ...base };
  if (lora === undefined) return merged;
  const scale = loraScale(lora);
  for (const { name } of adaptedProjections(config, lora)) {
    const [a, b] = [adapter[loraA(name)]!, adapter[loraB(name)]!];
    const weight = base[`${name}.weight`]!;
    merged[`${name}.weight`] = addAdapter(weight, 0, { a, b, scale, rank: lora.rank });
  }
  return merged;
}
