/** ONNX Runtime, loaded when the first session is opened: many processes and threads open none. */
import { createRequire } from "node:module";
import type * as Ort from "onnxruntime-node";

export type { InferenceSession, Tensor } from "onnxruntime-node";

let loaded: typeof Ort | undefined;

/** Required, not imported: for an import Node first searches it for the names of exports, which takes as long as to run it. */
export function ort(): typeof Ort {
  loaded ??= createRequire(import.meta.url)("onnxruntime-node") as typeof Ort;
  return loaded;
}
