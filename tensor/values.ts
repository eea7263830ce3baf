/** What goes into a compiled function and what comes out. */
import { closeSync, openSync, readSync } from "node:fs";
import { InfrastructureError } from "../core/index.js";
import { giveBack } from "./give-back.js";
import { dequantizedRows, INT8_BLOCK, int8Blocks } from "./int8-blocks.js";

export type HostArray = Float32Array | Int32Array;

export interface TensorSpec {
  readonly shape: readonly number[];
  /**
   * Of inputs alone: float16, on the way to matrix products in half precision, of values that only `placeOn` makes; int8, a
   * matrix [out, in] in a file, bound on cpu, for products alone (int8-blocks.ts).
   */
  readonly dtype: "float32" | "int32" | "float16" | "int8";
}

/** A tensor that stays where it was computed: in a GPU buffer on webgpu, in this process's memory on cpu. */
export interface DeviceTensor {
  readonly spec: TensorSpec;
  /** Its elements, in row-major order. */
  read(): Promise<HostArray>;
  /** Gives the memory back. The tensor cannot be used after. */
  dispose(): void;
}

/**
 * A float32 or int8 tensor that stands in a file: row-major, little-endian, `offset` bytes from its start. Plain data, so
 * that it can be posted to other threads.
 */
export interface FileTensor {
  readonly file: string;
  readonly offset: number;
  readonly spec: TensorSpec;
  /** Of int8, where its scales stand in the file: float32, one of each block. */
  readonly scales?: number;
  /** The file's `fileIdentity` when it was opened: graphs that are compiled later map the same one, or fail. */
  readonly identity?: string;
}

export type Value = HostArray | DeviceTensor | FileTensor;

/** Inputs, outputs and size of a recorded function. */
export interface Signature {
  /** Those that `run` is fed: without the bound ones. */
  readonly inputs: Readonly<Record<string, TensorSpec>>;
  readonly outputs: Readonly<Record<string, TensorSpec>>;
  /** Nodes of the recorded graph, before ONNX Runtime optimises it. */
  readonly nodeCount: number;
}

export interface CompiledFunction extends Signature {
  /**
   * Computes the outputs. On cpu this thread is busy until it is done.
   * @param feeds - one value for each input; host arrays in row-major order
   * @returns host arrays; DeviceTensors for the outputs named in `keepOnDevice`
   * @throws Error when a feed is missing, unknown, or does not fit its spec
   */
  run(feeds: Readonly<Record<string, Value>>): Promise<Record<string, Value>>;
  /** Frees the compiled function; tensors that it left on the device stay valid. */
  dispose(): Promise<void>;
}

export const elements = (spec: TensorSpec): number => spec.shape.reduce((size, length) => size * length, 1);

const describe = (spec: TensorSpec): string => `${spec.dtype} [${spec.shape.join(", ")}]`;

/** Whether a value holds its elements in this process's memory as a plain array. */
export const isHostArray = (value: Value): value is HostArray =>
  value instanceof Float32Array || value instanceof Int32Array;

/** Whether a value stands in a file. */
export const isFileTensor = (value: Value): value is FileTensor => "file" in value;

/** A value's elements in host memory, in row-major order; a host array itself, not a copy. */
export async function readValue(value: Value): Promise<HostArray> {
  if (isHostArray(value)) return value;
  return isFileTensor(value) ? readFileTensor(value) : value.read();
}

/** Gives device memory back; host arrays and files need nothing. */
export function disposeValues(values: Iterable<Value>): void {
  for (const value of values) if ("dispose" in value) value.dispose();
}

/** Of int8, what its bytes stand for. @throws InfrastructureError when the file ends too early: it was whole when it was opened */
export function readFileTensor({ file, offset, spec, scales }: FileTensor): Float32Array {
  if (scales === undefined) return floatsAt(file, offset, elements(spec));
  const [out, width] = spec.shape as [number, number];
  const blocks = out * int8Blocks(width);
  const bytes = floatsAt(file, offset, (blocks * INT8_BLOCK) / 4);
  return dequantizedRows(new Uint8Array(bytes.buffer), floatsAt(file, scales, blocks), width);
}

function floatsAt(file: string, offset: number, count: number): Float32Array {
  const data = new Float32Array(count);
  const bytes = new Uint8Array(data.buffer);
  const fd = openSync(file, "r");
  try {
    for (let done = 0; done < bytes.length; ) {
      // One read moves at most 2 GiB.
      const count = readSync(fd, bytes, done, Math.min(bytes.length - done, 2 ** 30), offset + done);
      if (count === 0) throw new InfrastructureError(`${file} became shorter while it was in use`);
      done += count;
    }
  } finally {
    closeSync(fd);
  }
  return data;
}

/** @throws Error that names the feed that does not fit */
export function checkFeeds(specs: Signature["inputs"], feeds: Readonly<Record<string, Value>>): void {
  for (const name of Object.keys(feeds)) {
    if (!specs[name]) throw new Error(`unknown input "${name}"; inputs are ${Object.keys(specs).join(", ")}`);
  }
  for (const [name, spec] of Object.entries(specs)) {
    const value = feeds[name];
    if (value === undefined) throw new Error(`input "${name}" is missing: need ${describe(spec)}`);
    const got = isHostArray(value)
      ? { dtype: value instanceof Float32Array ? "float32" : "int32", size: value.length }
      : { dtype: value.spec.dtype, size: elements(value.spec) };
    if (got.dtype !== spec.dtype || got.size !== elements(spec)) {
      throw new Error(`input "${name}": need ${describe(spec)}, got ${got.size} elements of ${got.dtype}`);
    }
  }
}

/** Float16 elements in host memory, as bits: JavaScript has no array of them. */
export class HalfTensor implements DeviceTensor {
  constructor(
    readonly spec: TensorSpec,
    readonly data: Uint16Array,
    private readonly widened: (data: Uint16Array) => Promise<HostArray>,
  ) {}
  read(): Promise<HostArray> {
    return this.widened(this.data);
  }
  dispose(): void {}
}

/** Host memory behind the interface of a device's. */
export class HostTensor implements DeviceTensor {
  constructor(
    readonly spec: TensorSpec,
    readonly data: HostArray,
  ) {}
  read(): Promise<HostArray> {
    return Promise.resolve(this.data);
  }
  dispose(): void {
    giveBack(this.data);
  }
}
