/** The same functions run op by op on tfjs's active backend: TensorFlow where it is installed. */
import { createRequire } from "node:module";
import { ConfigError } from "../core/index.js";
import type { TracedFunction } from "./differentiate.js";
import { registerGradients } from "./gradients.js";
import * as tf from "./tfjs.js";
import {
  type CompiledFunction,
  checkFeeds,
  type DeviceTensor,
  type HostArray,
  HostTensor,
  isHostArray,
  type Signature,
  type TensorSpec,
  type Value,
} from "./values.js";

/** Optional peers, in order of preference. */
export const TENSORFLOW_PACKAGES = ["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node"];

/**
 * Makes TensorFlow tfjs's active backend.
 * @returns the package that provides it
 * @throws ConfigError when neither package is installed
 */
export async function useTensorflowBackend(): Promise<string> {
  const require = createRequire(import.meta.url);
  let cause: unknown;
  for (const peer of TENSORFLOW_PACKAGES) {
    try {
      require(peer);
      registerGradients(); // ours again: the package brings tfjs's own
      if (await tf.setBackend("tensorflow")) return peer;
    } catch (error) {
      cause ??= error;
    }
  }
  throw new ConfigError({
    at: "policy.device",
    got: "tensorflow",
    need: `one of the packages ${TENSORFLOW_PACKAGES.join(" and ")}, which are not installed or do not load here`,
    fix: `npm install ${TENSORFLOW_PACKAGES[0]} (NVIDIA GPU) or npm install ${TENSORFLOW_PACKAGES[1]}; or choose policy.device: cpu`,
    cause,
  });
}

/** A tensor that tfjs's backend holds. */
class EagerTensor implements DeviceTensor {
  constructor(
    readonly spec: TensorSpec,
    readonly tensor: tf.Tensor,
  ) {}
  async read(): Promise<HostArray> {
    const data = (await this.tensor.data()) as HostArray | Uint8Array;
    // tfjs's cpu backend keeps the bytes of a bool tensor when it is cast to int32.
    // And gives its own array, which would be taken from it where a reader hands it to another thread.
    return data instanceof Uint8Array ? Int32Array.from(data) : data.slice();
  }
  dispose(): void {
    this.tensor.dispose();
  }
}

/** tfjs has no float16: such a weight keeps its 32 bits. */
const eagerType = ({ dtype }: TensorSpec): "float32" | "int32" => (dtype === "int32" ? dtype : "float32");

function inputTensor(spec: TensorSpec, value: Value): tf.Tensor {
  if (value instanceof EagerTensor) return value.tensor;
  const data = isHostArray(value) ? value : value instanceof HostTensor ? value.data : null;
  if (!data) throw new Error("a tensor of a file or another device was fed to this function; see placeOn");
  return tf.tensor(data, [...spec.shape], eagerType(spec));
}

/** A "compiled" function that runs the original on tfjs's active backend each time. */
export function eagerFunction(
  fn: TracedFunction,
  signature: Signature,
  keepOnDevice: readonly string[],
): CompiledFunction {
  return {
    ...signature,
    run: async (feeds) => {
      checkFeeds(signature.inputs, feeds);
      const outputs = tf.tidy(() => {
        const inputs = Object.entries(signature.inputs).map(
          ([name, spec]) => [name, inputTensor(spec, feeds[name]!)] as const,
        );
        const results = fn(Object.fromEntries(inputs));
        // A copy of each: an output may be an input, or the same tensor as another output.
        return Object.fromEntries(
          Object.entries(signature.outputs).map(([name, { dtype }]) => [
            name,
            tf.clone(tf.cast(results[name]!, dtype === "int32" ? "int32" : "float32")),
          ]),
        );
      });
      const values: Record<string, Value> = {};
      for (const [name, spec] of Object.entries(signature.outputs)) {
        const tensor = new EagerTensor(spec, outputs[name]!);
        values[name] = keepOnDevice.includes(name) ? tensor : await tensor.read();
        if (!keepOnDevice.includes(name)) tensor.dispose();
      }
      return values;
    },
    dispose: () => Promise.resolve(),
  };
}
