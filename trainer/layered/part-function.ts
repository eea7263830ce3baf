/** A function recorded once and compiled for the weights of each layer that it is run on. */
import {
  type CompiledFunction,
  type RecordedFunction,
  recordFunction,
  type TensorSpec,
  type TracedFunction,
  type Value,
} from "../../tensor/index.js";
import type { GraphOptions } from "../graphs.js";
import { boundWeights, type PartWeights } from "./part-weights.js";

export interface PartFunction {
  /** Those that stand in files included: they are not fed. */
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly outputs: Readonly<Record<string, TensorSpec>>;
  run(layer: number, feeds: Readonly<Record<string, Value>>): Promise<Record<string, Value>>;
  dispose(): Promise<void>;
}

/** What a function is recorded from. Its outputs stay on the device, but for those named. */
export interface PartRequest {
  readonly name: string;
  readonly fn: TracedFunction;
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  /** Whose weights are bound, layer by layer. */
  readonly weights?: readonly PartWeights[];
  readonly toHost?: readonly string[];
}

export function partFunction(
  { fn, inputs, ...request }: PartRequest,
  compile: GraphOptions["compile"],
): PartFunction {
  return recordedPart(recordFunction(fn, inputs, compile.provider), request, compile);
}

/** As a part of the policy, a function that is recorded already. */
export function recordedPart(
  recorded: RecordedFunction,
  { name, weights = [], toHost = [] }: Pick<PartRequest, "name" | "weights" | "toHost">,
  compile: GraphOptions["compile"],
): PartFunction {
  const keepOnDevice = Object.keys(recorded.signature.outputs).filter((key) => !toHost.includes(key));
  const sessions = new Map<number, Promise<CompiledFunction>>();
  const session = (layer: number): Promise<CompiledFunction> => {
    const bound = weights[layer] === undefined ? {} : boundWeights(weights[layer]);
    const key = Object.keys(bound).length === 0 ? 0 : layer; // fed weights: one session serves all
    // Without an arena: every session would hold its own peak for good, twice what its values take, since arenas grow by
    // doubling. Measured at 100M parameters, all learned: 1 GB more, for 4 % of the CPU time.
    const opened =
      sessions.get(key) ?? recorded.compile({ ...compile, name, bound, keepOnDevice, arena: false });
    sessions.set(key, opened);
    opened.catch(() => sessions.delete(key)); // tried again when it is asked for again
    return opened;
  };
  return {
    inputs: recorded.signature.inputs,
    outputs: recorded.signature.outputs,
    run: async (layer, feeds) => (await session(layer)).run(feeds),
    dispose: async () => {
      for (const opened of sessions.values()) await (await opened).dispose();
      sessions.clear();
    },
  };
}
