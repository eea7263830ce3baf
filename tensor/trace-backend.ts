/**
 * A tfjs backend that records instead of computing. While a function is traced every tfjs op calls one of our kernels,
 * which adds ONNX nodes to the current graph and returns a tensor without data.
 */

import { cast } from "./arithmetic.js";
import type { ElementType, Graph, Value } from "./graph.js";
import * as tf from "./tfjs.js";

// Production mode keeps tfjs's advice to install another backend off the terminal.
tf.whenLoaded(() => tf.enableProdMode());

export const TRACE_BACKEND = "retort-trace";

/** What a traced tensor's dataId stands for. A fresh object for each tensor, since tfjs counts them. */
class TracedData {
  constructor(
    readonly graph: Graph,
    readonly value: Value,
  ) {}
}

/** Records one op. Inputs by tfjs's names; a list of inputs has the names "0", "1", ... */
export type Emit = (
  graph: Graph,
  inputs: Readonly<Record<string, Value>>,
  attributes: tf.NamedAttrMap,
) => Value | readonly Value[];

const MESSAGE_READ =
  "a traced function cannot read a tensor's elements (dataSync, data, array, print): they exist only when it runs";

/** Not a subclass of tfjs's KernelBackend, which would have to be loaded for it; tfjs calls nothing but these. */
class TraceBackend
  implements Omit<tf.KernelBackend, "createTensorFromGPUData" | "memory" | "readToGPU" | "time">
{
  graph: Graph | null = null;

  current(): Graph {
    if (!this.graph) throw new Error("the recording backend was used outside compile()");
    return this.graph;
  }
  write(data: tf.BackendValues, shape: number[], dtype: tf.DataType): tf.DataId {
    const graph = this.current();
    return new TracedData(graph, constantOf(graph, data, shape, dtype));
  }
  move(): void {
    throw new Error("a recorded tensor holds no elements that could move to another backend");
  }
  read(): Promise<tf.BackendValues> {
    return Promise.reject(new Error(MESSAGE_READ));
  }
  readSync(): tf.BackendValues {
    throw new Error(MESSAGE_READ);
  }
  disposeData(): boolean {
    return true;
  }
  refCount(): number {
    return 1;
  }
  incRef(): void {}
  decRef(): void {}
  numDataIds(): number {
    return 0;
  }
  timerAvailable(): boolean {
    return false;
  }
  floatPrecision(): 16 | 32 {
    return 32;
  }
  epsilon(): number {
    return 1e-7;
  }
  dispose(): void {}
}

const backend = new TraceBackend();

const ELEMENT_TYPES: Record<string, ElementType> = { float32: "float32", int32: "int32", bool: "bool" };

/** Our element type of a tfjs dtype. */
export function elementType(dtype: tf.DataType): ElementType {
  const type = ELEMENT_TYPES[dtype];
  if (!type) throw new Error(`compile() records float32, int32 and bool tensors, not ${dtype}`);
  return type;
}

function constantOf(
  graph: Graph,
  data: tf.BackendValues,
  shape: readonly number[],
  dtype: tf.DataType,
): Value {
  const type = elementType(dtype);
  const Elements = type === "float32" ? Float32Array : type === "int32" ? Int32Array : Uint8Array;
  const typed = data instanceof Elements ? data : new Elements(data as ArrayLike<number>);
  return graph.constant(typed, [...shape], type);
}

/** The recorded value of a tensor. A tensor that another backend holds becomes a constant of the graph. */
export function recordedValue(graph: Graph, tensor: tf.TensorInfo): Value {
  const { dataId } = tensor;
  if (dataId instanceof TracedData && dataId.graph === graph) return dataId.value;
  const owner = (tf.engine() as unknown as EngineInternals).state.tensorInfo.get(dataId)?.backend;
  if (!owner || dataId instanceof TracedData)
    throw new Error("a tensor made in another call of compile(), or disposed, was used while tracing");
  return constantOf(graph, owner.readSync(dataId), tensor.shape, tensor.dtype);
}

/** What tfjs's engine keeps and TypeScript does not show. */
interface EngineInternals {
  readonly state: { readonly tensorInfo: WeakMap<object, { readonly backend: tf.KernelBackend }> };
}

const DTYPES: Record<ElementType, tf.DataType> = {
  float32: "float32",
  float16: "float32",
  int8: "float32",
  int32: "int32",
  bool: "bool",
  int64: "int32",
};

const infoOf = (graph: Graph, value: Value): tf.TensorInfo => ({
  dataId: new TracedData(graph, value),
  shape: [...value.shape],
  dtype: DTYPES[value.type],
});

/** A tfjs tensor that stands for a recorded value. */
export function tensorOf(graph: Graph, value: Value): tf.Tensor {
  return tf.engine().makeTensorFromTensorInfo(infoOf(graph, value));
}

/**
 * Registers how one tfjs op is recorded.
 * @param takesHalf - the op records float16 inputs as they are; else they are widened before it
 */
export function defineKernel(kernelName: string, emit: Emit, { takesHalf = false } = {}): void {
  const record: tf.KernelFunc = ({ inputs, attrs }) => {
    const graph = backend.current();
    const values: Record<string, Value> = {};
    for (const [name, tensor] of Object.entries(inputs)) {
      if (!tensor) continue;
      const value = recordedValue(graph, tensor);
      if (value.type === "int8" && kernelName !== "BatchMatMul")
        throw new Error(`${kernelName}: a matrix of int8 can only be multiplied by`);
      values[name] = takesHalf || value.type !== "float16" ? value : cast(graph, value, "float32");
    }
    const result = emit(graph, values, attrs ?? {});
    return "id" in result ? infoOf(graph, result) : result.map((value) => infoOf(graph, value));
  };
  tf.whenLoaded(() => tf.registerKernel({ kernelName, backendName: TRACE_BACKEND, kernelFunc: record }));
}

let isRegistered = false;

/**
 * Runs a function with every tfjs op recorded into `graph`, then puts the backend back that was active before.
 * Synchronous from start to end: nothing else can see the recording backend.
 * @throws Error that names the op, when the function uses one that cannot be recorded
 */
export function whileTracing<T extends tf.TensorContainer>(graph: Graph, fn: () => T): T {
  if (!isRegistered) {
    tf.registerBackend(TRACE_BACKEND, () => backend as unknown as tf.KernelBackend, 0);
    isRegistered = true;
  }
  tf.backend(); // starts tfjs's default backend where none is active yet
  const before = tf.getBackend();
  backend.graph = graph;
  // tfjs's promise settles later, but the switch itself is synchronous for a backend made synchronously.
  void tf.setBackend(TRACE_BACKEND);
  try {
    return tf.tidy(fn);
  } catch (error) {
    throw explained(error);
  } finally {
    backend.graph = null;
    void tf.setBackend(before);
  }
}

function explained(error: unknown): unknown {
  const message = error instanceof Error ? error.message : "";
  const op = /Kernel '(\w+)' not registered for backend/.exec(message)?.[1];
  if (!op) return error;
  return new Error(
    `compile() cannot record the tfjs op ${op}; write the function with other ops, or add it in tensor/kernels/`,
    {
      cause: error,
    },
  );
}
