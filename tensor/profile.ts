/** ONNX Runtime's profile of a session: which node ran where, and for how long. */
import { readdirSync, readFileSync, renameSync } from "node:fs";
import { basename, dirname, join } from "node:path";

/** One node of the optimised graph, over all runs. */
export interface NodeProfile {
  readonly node: string;
  readonly op: string;
  /** "CPUExecutionProvider", "WebGpuExecutionProvider", "CUDAExecutionProvider" */
  readonly provider: string;
  /** Element types of its inputs and outputs, in ONNX's words: "float", "int32", "int64", "bool" */
  readonly types: readonly string[];
  readonly runs: number;
  readonly totalMs: number;
}

/** ONNX Runtime adds a date to the name it was given; puts the file where it was asked for. */
export function collectProfile(path: string): void {
  const prefix = `${basename(path)}_`;
  const written = readdirSync(dirname(path)).filter(
    (name) => name.startsWith(prefix) && name.endsWith(".json"),
  );
  const newest = written.sort().at(-1);
  if (newest) renameSync(join(dirname(path), newest), path);
}

interface ProfileEvent {
  readonly cat: string;
  readonly name: string;
  readonly dur: number;
  readonly args?: {
    readonly op_name?: string;
    readonly provider?: string;
    readonly input_type_shape?: readonly Record<string, unknown>[];
    readonly output_type_shape?: readonly Record<string, unknown>[];
  };
}

/** Reads a profile that `profilePath` asked for. The function must have been disposed of. */
export function readProfile(path: string): NodeProfile[] {
  const events = JSON.parse(readFileSync(path, "utf8")) as ProfileEvent[];
  const nodes = new Map<string, NodeProfile>();
  for (const { cat, name, dur, args } of events) {
    if (cat !== "Node" || !args?.op_name || !args.provider || !name.endsWith("_kernel_time")) continue;
    const node = name.slice(0, -"_kernel_time".length);
    const known = nodes.get(node);
    nodes.set(node, {
      node,
      op: args.op_name,
      provider: args.provider,
      types: [...(args.input_type_shape ?? []), ...(args.output_type_shape ?? [])].flatMap(Object.keys),
      runs: (known?.runs ?? 0) + 1,
      totalMs: (known?.totalMs ?? 0) + dur / 1000,
    });
  }
  return [...nodes.values()];
}
