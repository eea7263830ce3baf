import { cast } from "./arithmetic.js";
import type { TracedFunction } from "./differentiate.js";
import { eagerFunction } from "./eager.js";
import { type Dialect, Graph, neededNodes, PLAIN_DIALECT, type Value } from "./graph.js";
import { defineKernels } from "./kernels/index.js";
import { encodeModel } from "./onnx.js";
import { openSession } from "./session.js";
import { recordedValue, tensorOf, whileTracing } from "./trace-backend.js";
import type { CompiledFunction, TensorSpec } from "./values.js";

defineKernels();

/** Where a compiled function runs; `tensorflow`: eagerly, on the tfjs backend that is active. */
export type Provider = "cpu" | "webgpu" | "cuda" | "tensorflow";

export interface CompileOptions {
  readonly provider: Provider;
  /** Threads of one op, on cpu. Default: all. */
  readonly threads?: number;
  /** Names of outputs to return as DeviceTensor; they stay in GPU buffers on webgpu, in host memory on cpu and cuda. */
  readonly keepOnDevice?: readonly string[];
  /** Ask ONNX Runtime for kernels that give the same bits in every run. */
  readonly deterministic?: boolean;
  /** Shows in errors and profiles. */
  readonly name?: string;
  /** Write ONNX Runtime's profile here when the function is disposed of. */
  readonly profilePath?: string;
}

const CPU: Dialect = { fusedMatMul: true, racingScatter: true, inverseOfNorm: true, missing: new Set() };
const DIALECTS: Record<Provider, Dialect> = {
  cpu: CPU,
  tensorflow: CPU,
  cuda: { ...PLAIN_DIALECT, fusedMatMul: true },
  webgpu: { ...PLAIN_DIALECT, missing: new Set(["Sign", "Or"]) },
};

/** A recorded function: its inputs and outputs as values of one graph, by name. */
export interface Recording {
  readonly graph: Graph;
  readonly inputs: Readonly<Record<string, Value>>;
  readonly outputs: Readonly<Record<string, Value>>;
}

/**
 * Runs a function once with symbolic inputs and keeps what it did.
 * @throws Error that names the op, when the function uses one that cannot be recorded
 */
export function record(
  fn: TracedFunction,
  specs: Readonly<Record<string, TensorSpec>>,
  dialect: Dialect,
): Recording {
  const graph = new Graph(dialect);
  const inputs = mapValues(specs, ({ shape, dtype }, name) => graph.input(name, [...shape], dtype));
  const outputs: Record<string, Value> = {};
  whileTracing(graph, () => {
    const results = fn(mapValues(inputs, (value) => tensorOf(graph, value)));
    for (const [name, tensor] of Object.entries(results)) {
      const value = recordedValue(graph, tensor);
      outputs[name] = value.type === "bool" ? cast(graph, value, "int32") : value;
    }
  });
  return { graph, inputs, outputs };
}

/**
 * Compiles a function for fixed shapes.
 * @param fn - pure: same ops whatever the inputs hold; it may take gradients (`valueAndGradients`)
 * @param specs - its inputs
 */
export async function compile(
  fn: TracedFunction,
  specs: Readonly<Record<string, TensorSpec>>,
  options: CompileOptions,
): Promise<CompiledFunction> {
  const recording = record(fn, specs, DIALECTS[options.provider]);
  const outputs = mapValues(recording.outputs, specOf);
  if (options.provider === "tensorflow") {
    const nodeCount = neededNodes(recording.graph, Object.values(recording.outputs)).length;
    return eagerFunction(fn, { inputs: specs, outputs, nodeCount }, options.keepOnDevice ?? []);
  }
  const model = encodeModel(
    recording.graph,
    options.name ?? "retort",
    Object.values(recording.inputs),
    Object.values(recording.outputs),
  );
  return openSession(
    model,
    { inputs: specs, outputs, nodeCount: model.nodeCount },
    { ...options, provider: options.provider },
  );
}

const specOf = (value: Value): TensorSpec => ({
  shape: value.shape,
  dtype: value.type === "float32" ? "float32" : "int32",
});

function mapValues<T, U>(
  record: Readonly<Record<string, T>>,
  fn: (value: T, name: string) => U,
): Record<string, U> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, fn(value, name)]));
}
