import type { DecoderConfig } from "./config.js";
import { adapterShapes } from "./lora.js";
import { parameterShapes } from "./weights.js";

/** Shapes and type of the parameters, adapter included, as inputs of a compiled function: float32 everywhere. */
export const weightSpecs = (config: DecoderConfig): Record<string, { shape: number[]; dtype: "float32" }> =>
  Object.fromEntries(
    Object.entries({ ...parameterShapes(config), ...adapterShapes(config) }).map(([name, shape]) => [
      name,
      { shape, dtype: "float32" },
    ]),
  );
