/** Inputs of a compiled function that are given once: files that the session maps, values that are fed in every run. */
import { realpathSync, statSync } from "node:fs";
import { dirname, parse, relative } from "node:path";
import { InfrastructureError } from "../core/index.js";
import type { Value as Recorded } from "./graph.js";
import { INT8_BLOCK } from "./int8-blocks.js";
import type { ExternalData } from "./onnx.js";
import {
  type CompiledFunction,
  checkFeeds,
  elements,
  type FileTensor,
  isFileTensor,
  type TensorSpec,
  type Value,
} from "./values.js";

/** Those of the values that are inputs of the function. @throws Error that names the one which does not fit its input */
export function boundInputs(
  specs: Readonly<Record<string, TensorSpec>>,
  values: Readonly<Record<string, Value>>,
): Record<string, Value> {
  const bound = Object.fromEntries(Object.entries(values).filter(([name]) => specs[name] !== undefined));
  checkFeeds(Object.fromEntries(Object.keys(bound).map((name) => [name, specs[name]!])), bound);
  return bound;
}

export const fileTensorsOf = (values: Readonly<Record<string, Value>>): Record<string, FileTensor> =>
  Object.fromEntries(
    Object.entries(values).flatMap(([name, value]) => (isFileTensor(value) ? [[name, value]] : [])),
  );

/** Tells whether a file is still the one it was: another in its place, or one that was written to, has another. */
export function fileIdentity(file: string): string {
  const { ino, size, mtimeNs } = statSync(file, { bigint: true });
  return `${ino} ${size} ${mtimeNs}`;
}

/** @throws InfrastructureError for a file that is gone or is not the one that was opened: graphs would differ in their weights */
function checkIdentities(tensors: readonly FileTensor[]): void {
  const opened = new Map(tensors.map(({ file, identity }) => [file, identity]));
  for (const [file, identity] of opened) {
    const isGone = statSync(file, { throwIfNoEntry: false }) === undefined;
    if (!isGone && (identity === undefined || fileIdentity(file) === identity)) continue;
    throw new InfrastructureError(
      `${file} ${isGone ? "is gone" : "has changed"} since it was opened, and it is read where it stands: leave it there while it is in use`,
    );
  }
}

/**
 * Where ONNX Runtime finds the files. It refuses data outside of one folder, also through a link.
 * @returns null where nothing is in a file
 * @throws InfrastructureError for a file that is not the one it was
 */
export function externalData(
  mapped: Readonly<Record<string, FileTensor>>,
  inputs: Readonly<Record<string, Recorded>>,
): { folder: string; values: Map<Recorded, ExternalData> } | null {
  checkIdentities(Object.values(mapped));
  const paths = new Map(
    [...new Set(Object.values(mapped).map(({ file }) => file))].map((file) => [file, realpathSync(file)]),
  );
  if (paths.size === 0) return null;
  const folders = new Set([...paths.values()].map(dirname));
  const first = [...folders][0]!;
  const folder = folders.size === 1 ? first : parse(first).root;
  const values = new Map(
    Object.entries(mapped).flatMap(([name, { file, offset, spec, scales }]): [Recorded, ExternalData][] => {
      const location = relative(folder, paths.get(file)!);
      const value = inputs[name]!;
      if (value.scales === undefined || scales === undefined)
        return [[value, { location, offset, bytes: elements(spec) * 4 }]];
      const blocks = elements({ ...spec, shape: value.scales.shape });
      return [
        [value, { location, offset, bytes: blocks * INT8_BLOCK }],
        [value.scales, { location, offset: scales, bytes: blocks * 4 }],
      ];
    }),
  );
  return { folder, values };
}

/** The function with some of its inputs fed by itself. */
export function withBound(fn: CompiledFunction, bound: Readonly<Record<string, Value>>): CompiledFunction {
  if (Object.keys(bound).length === 0) return fn;
  const inputs = Object.fromEntries(Object.entries(fn.inputs).filter(([name]) => bound[name] === undefined));
  return { ...fn, inputs, run: (feeds) => fn.run({ ...feeds, ...bound }) };
}
