import { cast } from "./arithmetic.js";
import { boundInputs, externalData, fileTensorsOf, withBound } from "./bound.js";
import type { TracedFunction } from "./differentiate.js";
import { currentDryRun } from "./dry-run.js";
import { eagerFunction } from "./eager.js";
import { type Dialect, Graph, neededNodes, PLAIN_DIALECT, type Recording, type Value } from "./graph.js";
import { type GraphCost, graphCost } from "./graph-cost.js";
import { defineKernels } from "./kernels/index.js";
import { encodeModel } from "./onnx.js";
import { openSession } from "./session.js";
import { recordedValue, tensorOf, whileTracing } from "./trace-backend.js";
import type { CompiledFunction, Signature, TensorSpec, Value as TensorValue } from "./values.js";

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
  /**
   * Inputs whose value never changes: `run` is not fed them. On cpu a FileTensor is memory-mapped, so that it exists once
   * however many functions are bound to it; elsewhere bind what `placeOn` gives. They must outlive the function.
   */
  readonly bound?: Readonly<Record<string, TensorValue>>;
  /**
   * Whether ONNX Runtime keeps the memory of intermediate results between runs, on cpu: faster, and every function then
   * holds its own peak. Default: yes.
   */
  readonly arena?: boolean;
  /**
   * Whether ONNX Runtime lays all intermediate results out in one block from the second run on, on cpu: a few percent
   * faster for a graph of small ops, and for one of large ops no faster, with the first run's memory held beside the block.
   * Default: yes.
   */
  readonly memoryPattern?: boolean;
}

const CPU: Dialect = { fusedMatMul: true, racingScatter: true, inverseOfNorm: true, missing: new Set() };
const DIALECTS: Record<Provider, Dialect> = {
  cpu: CPU,
  tensorflow: CPU,
  cuda: { ...PLAIN_DIALECT, fusedMatMul: true },
  webgpu: { ...PLAIN_DIALECT, missing: new Set(["Sign", "Or"]) },
};

/**
 * Runs a function once with symbolic inputs and keeps what it did.
 * @throws Error that names the op, when the function uses one that cannot be recorded
 */
export function record(
  fn: TracedFunction,
  specs: Readonly<Record<string, TensorSpec>>,
  provider: Provider,
): Recording {
  const graph = new Graph(DIALECTS[provider]);
  const inputs = mapValues(specs, ({ shape, dtype }, name) => graph.input(name, [...shape], dtype));
  const outputs: Record<string, Value> = {};
  whileTracing(graph, () => {
    const results = fn(mapValues(inputs, (value) => tensorOf(graph, value)));
    for (const [name, tensor] of Object.entries(results)) {
      const value = recordedValue(graph, tensor);
      const widened = { bool: "int32", float16: "float32" } as const;
      outputs[name] =
        value.type === "bool" || value.type === "float16" ? cast(graph, value, widened[value.type]) : value;
    }
  });
  return { graph, inputs, outputs };
}

/** A function recorded for fixed shapes and one provider: compiled once for each set of bound values. */
export interface RecordedFunction {
  /** Nodes, inputs and outputs; all inputs, since nothing is bound yet. */
  readonly signature: Signature;
  compile(options?: Omit<CompileOptions, "provider">): Promise<CompiledFunction>;
}

/**
 * Records a function for fixed shapes.
 * @param fn - pure: same ops whatever the inputs hold; it may take gradients (`valueAndGradients`)
 * @param specs - its inputs
 */
export function recordFunction(
  fn: TracedFunction,
  specs: Readonly<Record<string, TensorSpec>>,
  provider: Provider,
): RecordedFunction {
  return recordedFunction(record(fn, specs, provider), specs, provider, fn);
}

/** @param fn - what was recorded, where it is to run eagerly */
export function recordedFunction(
  recording: Recording,
  specs: Readonly<Record<string, TensorSpec>>,
  provider: Provider,
  fn?: TracedFunction,
): RecordedFunction {
  const nodeCount = neededNodes(recording.graph, Object.values(recording.outputs)).length;
  const signature = { inputs: specs, outputs: mapValues(recording.outputs, specOf), nodeCount };
  return {
    signature,
    compile: async (options = {}) => {
      const { keepOnDevice = [] } = options;
      const bound = boundInputs(specs, options.bound ?? {});
      const dry = currentDryRun();
      if (dry !== undefined)
        return withBound(dry.open(recording, signature, { ...options, provider }), bound);
      if (provider === "tensorflow") {
        if (fn === undefined) throw new Error("a part of a function does not run eagerly");
        return withBound(eagerFunction(fn, signature, keepOnDevice), bound);
      }
      const mapped = provider === "cpu" ? fileTensorsOf(bound) : {};
      const unmapped = Object.keys(specs).find((name) => specs[name]!.dtype === "int8" && !mapped[name]);
      if (unmapped !== undefined)
        throw new Error(`input "${unmapped}" is int8: it must be bound to a file, on cpu`);
      const external = externalData(mapped, recording.inputs);
      const fed = Object.entries(recording.inputs).filter(([name]) => mapped[name] === undefined);
      const model = encodeModel(
        recording.graph,
        options.name ?? "retort",
        fed.map(([, value]) => value),
        Object.values(recording.outputs),
        external?.values,
      );
      const inputs = Object.fromEntries(fed.map(([name]) => [name, specs[name]!]));
      const session = await openSession(
        model,
        { ...signature, inputs },
        {
          ...options,
          provider,
          packs: Object.values(mapped).some(({ spec }) => spec.dtype === "int8"),
          ...(external === null ? {} : { externalFolder: external.folder }),
        },
      );
      return withBound(
        session,
        Object.fromEntries(Object.entries(bound).filter(([name]) => mapped[name] === undefined)),
      );
    },
  };
}

/** What one call of a function would take, see `graphCost`; nothing is compiled. */
export const functionCost = (
  fn: TracedFunction,
  specs: Readonly<Record<string, TensorSpec>>,
  provider: Provider,
): GraphCost => graphCost(record(fn, specs, provider));

/** Compiles a function for fixed shapes, see `recordFunction`. */
export async function compile(
  fn: TracedFunction,
  specs: Readonly<Record<string, TensorSpec>>,
  { provider, ...options }: CompileOptions,
): Promise<CompiledFunction> {
  return recordFunction(fn, specs, provider).compile(options);
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
