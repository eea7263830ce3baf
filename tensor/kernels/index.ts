import { defineElementwiseKernels } from "./elementwise.js";
import { defineIndexingKernels } from "./indexing.js";
import { defineProductKernels } from "./products.js";
import { defineReductionKernels } from "./reductions.js";
import { defineShapeKernels } from "./shapes.js";

/** Registers how every tfjs op that compile() knows is recorded. */
export function defineKernels(): void {
  defineElementwiseKernels();
  defineReductionKernels();
  defineShapeKernels();
  defineIndexingKernels();
  defineProductKernels();
}
