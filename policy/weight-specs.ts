import type { DecoderConfig } from "./config.js";
import { adapterShapes } from "./lora.js";
import { parameterShapes } from "./weights.js";

interface WeightSpec {
  shape: number[];
  dtype: "float32" | "float16";
}

/**
 * Shapes and types of the parameters, adapter included, as inputs of a compiled function: float32, or the policy's own
 * matrices as `matrixType` says. Adapters, norms and biases are always float32.
 */
export const weightSpecs = (config: DecoderConfig): Record<string, WeightSpec> => {
  const specs = (shapes: Record<string, number[]>, matrix: WeightSpec["dtype"]): [string, WeightSpec][] =>
    Object.entries(shapes).map(([name, shape]) => [
      name,
      { shape, dtype: shape.length === 2 ? matrix : "float32" },
    ]);
  return Object.fromEntries([
    ...specs(parameterShapes(config), config.matrixType ?? "float32"),
    ...specs(adapterShapes(config), "float32"),
  ]);
};
