/**
 * Compiled functions that compute nothing: the code that calls them runs as ever, and what it would hold and compute is
 * counted. So a plan is made by the very code that it foretells.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { collectGarbage } from "./collect-garbage.js";
import type { Recording } from "./graph.js";
import { arenaBytes, type GraphCost, graphCost } from "./graph-cost.js";
import {
  type CompiledFunction,
  checkFeeds,
  type DeviceTensor,
  type HostArray,
  type Signature,
  type TensorSpec,
  type Value,
} from "./values.js";

/** What happened between two calls of `stage`. */
export interface DryStage {
  /** Most bytes at once: of values that calls returned, and of the graphs' own. */
  readonly peakBytes: number;
  /** Of which what graphs keep between calls. */
  readonly graphBytes: number;
  readonly flops: number;
  readonly movedBytes: number;
  /** Of these, bytes of matrix products. */
  readonly productBytes: number;
  /** Nodes computed, all runs together. */
  readonly nodes: number;
  readonly runs: number;
  /** Largest single value: GPUs limit the size of one buffer. */
  readonly largestBytes: number;
}

/** Smaller results are not worth following. */
const LEAST_FOLLOWED = 2 ** 14;
/** Beside its values, a graph that stands ready: nodes, kernels, optimised copy. Measured: about 35 kB a node. */
const BYTES_PER_NODE = 35_000;

const elements = ({ shape }: TensorSpec): number => shape.reduce((size, length) => size * length, 1);
const BYTES: Readonly<Record<TensorSpec["dtype"], number>> = { float32: 4, int32: 4, float16: 2, int8: 1 };
const bytes = (spec: TensorSpec): number => BYTES[spec.dtype] * elements(spec);

/** A tensor without elements. Read, it is all zeros. */
class DryTensor implements DeviceTensor {
  constructor(
    readonly spec: TensorSpec,
    private readonly free: () => void,
  ) {}
  read(): Promise<HostArray> {
    return Promise.resolve(zeros(this.spec));
  }
  dispose(): void {
    this.free();
  }
}

/** Zeros whose pages the system hands out only when they are written. */
const zeros = (spec: TensorSpec): HostArray =>
  spec.dtype === "int32" ? new Int32Array(elements(spec)) : new Float32Array(elements(spec));

/** A graph that was opened, and what it keeps once it has run. */
interface DryGraph {
  readonly cost: GraphCost;
  readonly nodeCount: number;
  /** Whether it keeps the memory of its intermediate results between runs. */
  readonly keepsMemory: boolean;
  /** Bytes of it, once it has run. */
  readonly arenaBytes: number;
  hasRun: boolean;
}

/** How a function is compiled, as far as its memory depends on it. */
export interface DryOptions {
  readonly provider: string;
  readonly keepOnDevice?: readonly string[];
  readonly arena?: boolean;
}

const NOTHING: DryStage = {
  peakBytes: 0,
  graphBytes: 0,
  flops: 0,
  movedBytes: 0,
  productBytes: 0,
  nodes: 0,
  runs: 0,
  largestBytes: 0,
};

/** Counts what the calls of dry functions would take. */
export class DryRun {
  private readonly graphs = new Set<DryGraph>();
  private readonly values = new Map<number, { bytes: number; value: WeakRef<object> }>();
  /** Bytes of `values`. */
  private followed = 0;
  private next = 0;
  private now: DryStage = NOTHING;
  /** Starts another stage. @returns what the last one took */
  stage(): DryStage {
    const ended = this.now;
    this.now = NOTHING;
    return ended;
  }

  /** A value that was there before and is counted elsewhere; `inFile`: as a file that is never opened. */
  given(spec: TensorSpec, inFile = false): Value {
    return inFile ? { file: "", offset: 0, spec } : new DryTensor(spec, () => {});
  }

  /** Bytes of values that calls returned and that have not been given back. */
  heldBytes(): number {
    return this.followed;
  }

  /** Bytes that graphs which stand open keep. */
  graphBytes(): number {
    let sum = 0;
    for (const graph of this.graphs) sum += residentBytes(graph);
    return sum;
  }

  /** The stand-in for a compiled function. */
  open(recording: Recording, signature: Signature, options: DryOptions): CompiledFunction {
    const keepsMemory = options.provider === "cpu" && options.arena !== false;
    const graph: DryGraph = {
      cost: costOf(recording),
      nodeCount: signature.nodeCount,
      keepsMemory,
      arenaBytes: keepsMemory ? arenaBytes(recording) : 0,
      hasRun: false,
    };
    this.graphs.add(graph);
    const kept = new Set(options.keepOnDevice ?? []);
    return {
      ...signature,
      run: async (feeds) => {
        checkFeeds(signature.inputs, feeds);
        await this.ran(graph);
        const outputs: Record<string, Value> = {};
        for (const [name, spec] of Object.entries(signature.outputs))
          outputs[name] = this.value(spec, kept.has(name));
        await this.measure(0);
        return outputs;
      },
      dispose: () => {
        this.graphs.delete(graph);
        return Promise.resolve();
      },
    };
  }

  /** Counts a pass over memory that is no call of a function, with what is held while it is made. */
  async swept(bytes: number): Promise<void> {
    this.now = { ...this.now, movedBytes: this.now.movedBytes + bytes };
    await this.measure(0);
  }

  /** A value as a call would return it, followed until it is disposed of or nobody holds it. */
  value(spec: TensorSpec, isKept: boolean): Value {
    const id = this.next++;
    const value = isKept ? new DryTensor(spec, () => this.forget(id)) : zeros(spec);
    if (bytes(spec) >= LEAST_FOLLOWED) {
      this.values.set(id, { bytes: bytes(spec), value: new WeakRef(value) });
      this.followed += bytes(spec);
    }
    return value;
  }

  private async ran(graph: DryGraph): Promise<void> {
    const { flops, movedBytes, productBytes, nodes, largestBytes } = graph.cost;
    const { now } = this;
    this.now = {
      ...now,
      flops: now.flops + flops,
      movedBytes: now.movedBytes + movedBytes,
      productBytes: now.productBytes + productBytes,
      nodes: now.nodes + nodes,
      runs: now.runs + 1,
      largestBytes: Math.max(now.largestBytes, largestBytes),
    };
    graph.hasRun = true;
    await this.measure(graph.keepsMemory ? 0 : graph.cost.peakBytes);
  }

  /** Compares what is held now with the most so far; garbage is collected first where it would decide. */
  private async measure(transient: number): Promise<void> {
    const graphBytes = this.graphBytes();
    const other = graphBytes + transient;
    // Collecting takes a tenth of a second: not for a hundredth more.
    if (this.followed + other <= 1.01 * this.now.peakBytes) return;
    await new Promise((resolve) => setImmediate(resolve)); // what this turn has looked at cannot be collected in it
    collectGarbage();
    for (const [id, { value }] of this.values) if (value.deref() === undefined) this.forget(id);
    const total = this.followed + other;
    if (total > this.now.peakBytes) this.now = { ...this.now, peakBytes: total, graphBytes };
  }

  private forget(id: number): void {
    this.followed -= this.values.get(id)?.bytes ?? 0;
    this.values.delete(id);
  }
}

function residentBytes({ cost, nodeCount, arenaBytes, hasRun }: DryGraph): number {
  return nodeCount * BYTES_PER_NODE + cost.constantBytes + (hasRun ? arenaBytes : 0);
}

/** One recording serves every layer of a shape. */
const costs = new WeakMap<Recording, GraphCost>();
function costOf(recording: Recording): GraphCost {
  const cost = costs.get(recording) ?? graphCost(recording);
  costs.set(recording, cost);
  return cost;
}

const dryRuns = new AsyncLocalStorage<DryRun>();

/** The dry run that the code now running belongs to, if any. */
export const currentDryRun = (): DryRun | undefined => dryRuns.getStore();

/** Runs code whose compiled functions, wherever it makes them, compute nothing and are counted in `dry`. */
export const whileDry = <T>(dry: DryRun, code: () => Promise<T>): Promise<T> => dryRuns.run(dry, code);
