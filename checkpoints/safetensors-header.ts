/**
 * The safetensors format: 8 bytes little-endian header length, a JSON header
 * {"name": {"dtype", "shape", "data_offsets": [begin, end]}, "__metadata__": {...}}, then the tensors' bytes.
 * @see https://huggingface.co/docs/safetensors: offsets count from the end of the header and cover the rest without holes
 */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { ConfigError } from "../core/index.js";
import { bytesPerElement, type Dtype, elementCount, isDtype } from "./dtypes.js";

const PREFIX_BYTES = 8;
/** The format's own limit; a larger length means that the file is something else. */
const MAX_HEADER_BYTES = 100_000_000;

/** Where one tensor stands in a file. `offset` counts from the start of the file, in bytes. */
export interface TensorLocation {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
}

/** A tensor of a file, not read. Plain data, so that it can be posted to other threads. */
export interface TensorPlace extends TensorLocation {
  readonly file: string;
}

export interface SafetensorsHeader {
  /** In the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, TensorLocation>;
  readonly metadata: Readonly<Record<string, string>>;
}

const damaged = (path: string, what: string): ConfigError =>
  new ConfigError({
    at: path,
    need: `a whole safetensors file, but ${what}`,
    fix: "It is damaged or of another format: fetch or save it again.",
  });

const isPlainObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** One header entry, checked; its offset is relative to the end of the header. */
function parseEntry(path: string, name: string, entry: unknown): TensorLocation {
  if (!isPlainObject(entry)) throw damaged(path, `the header entry of "${name}" is not an object`);
  const { dtype, shape, data_offsets: range } = entry;
  if (!isDtype(dtype)) {
    throw new ConfigError({
      at: `${path}: ${name}`,
      got: dtype,
      need: "dtype F32, F16, BF16, I32, I64 or U8",
    });
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) throw damaged(path, `"${name}" has no valid shape`);
  const [begin, end] = Array.isArray(range) && range.length === 2 ? (range as unknown[]) : [];
  if (!isCount(begin) || !isCount(end) || end < begin)
    throw damaged(path, `"${name}" has no valid data_offsets`);
  const bytes = elementCount(shape) * bytesPerElement(dtype);
  if (end - begin !== bytes) {
    throw damaged(path, `"${name}" (${dtype} [${shape}]) needs ${bytes} bytes and has ${end - begin}`);
  }
  return { dtype, shape, offset: begin, bytes };
}

function parseMetadata(path: string, value: unknown): Record<string, string> {
  if (value === undefined) return {};
  if (!isPlainObject(value) || !Object.values(value).every((text) => typeof text === "string")) {
    throw damaged(path, "its __metadata__ is not a map of strings");
  }
  return value as Record<string, string>;
}

/**
 * The header's meaning, with every rule of the format checked: sizes agree with shapes, tensors neither overlap nor leave holes.
 * @param headerText - the JSON, without the 8 length bytes
 * @param dataBytes - length of what follows the header
 * @throws ConfigError that names the file and the broken rule
 */
export function parseHeader(path: string, headerText: string, dataBytes: number): SafetensorsHeader {
  let header: unknown;
  try {
    header = JSON.parse(headerText);
  } catch (cause) {
    throw damaged(path, `its header is not JSON (${(cause as Error).message})`);
  }
  if (!isPlainObject(header)) throw damaged(path, "its header is not a JSON object");
  const { __metadata__: metadata, ...entries } = header;
  const located = Object.entries(entries).map(([name, entry]) => ({
    name,
    ...parseEntry(path, name, entry),
  }));
  located.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = 0;
  const dataStart = PREFIX_BYTES + Buffer.byteLength(headerText);
  const tensors = new Map<string, TensorLocation>();
  for (const { name, dtype, shape, offset, bytes } of located) {
    if (offset < end) throw damaged(path, `"${name}" overlaps the tensor before it`);
    if (offset > end) throw damaged(path, `there is a hole of ${offset - end} bytes before "${name}"`);
    end = offset + bytes;
    tensors.set(name, { dtype, shape, offset: dataStart + offset, bytes });
  }
  if (end > dataBytes)
    throw damaged(path, `it is truncated: ${end - dataBytes} bytes of tensors are missing`);
  if (end < dataBytes) throw damaged(path, `${dataBytes - end} bytes follow its last tensor`);
  return { tensors, metadata: parseMetadata(path, metadata) };
}

/** One read moves at most 2 GiB. */
const MOST_READ = 2 ** 30;

/** @throws ConfigError when the file ends before the array is full */
export function readExactly(path: string, fd: number, into: Uint8Array, position: number): void {
  let done = 0;
  while (done < into.byteLength) {
    const count = readSync(fd, into, done, Math.min(into.byteLength - done, MOST_READ), position + done);
    if (count === 0) throw damaged(path, "it ends too early");
    done += count;
  }
}

export function readHeaderFrom(path: string, fd: number): SafetensorsHeader {
  const size = fstatSync(fd).size;
  if (size < PREFIX_BYTES) throw damaged(path, `it has only ${size} bytes`);
  const prefix = Buffer.alloc(PREFIX_BYTES);
  readExactly(path, fd, prefix, 0);
  if (prefix.toString("latin1") === "version ")
    throw new ConfigError({
      at: path,
      need: "a safetensors file, but it is a Git LFS pointer to one",
      fix: "Run git lfs pull in the folder, or fetch the file by other means.",
    });
  const headerBytes = Number(prefix.readBigUInt64LE());
  if (headerBytes > MAX_HEADER_BYTES) throw damaged(path, `its header claims ${headerBytes} bytes`);
  if (PREFIX_BYTES + headerBytes > size) throw damaged(path, "it ends within its header");
  const text = Buffer.alloc(headerBytes);
  readExactly(path, fd, text, PREFIX_BYTES);
  return parseHeader(path, text.toString("utf8"), size - PREFIX_BYTES - headerBytes);
}

/** @throws ConfigError when the file cannot be opened */
export function withFile<T>(path: string, use: (fd: number) => T): T {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new ConfigError({ at: path, need: `a safetensors file that can be read (${code})`, cause });
  }
  if (fstatSync(fd).isDirectory()) {
    closeSync(fd);
    throw new ConfigError({ at: path, need: "a safetensors file, not a folder" });
  }
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}

/** Where each tensor of a file stands, without reading the tensors: for external data of an ONNX graph. */
export const readSafetensorsHeader = (path: string): SafetensorsHeader =>
  withFile(path, (fd) => readHeaderFrom(path, fd));

/** The bytes before the tensors, and the tensors in the order in which their bytes must follow. */
export interface EncodedHeader {
  readonly bytes: Uint8Array;
  readonly order: readonly string[];
}

/**
 * The header of a new file. Widest elements first and the header padded to 8 bytes, so that every tensor is aligned in
 * the file; the same tensors give the same bytes, whatever their order in the list.
 */
export function encodeHeader(
  tensors: Iterable<readonly [string, { readonly dtype: Dtype; readonly shape: readonly number[] }]>,
  metadata: Readonly<Record<string, string>>,
): EncodedHeader {
  const ordered = [...tensors].sort(
    ([a, x], [b, y]) => bytesPerElement(y.dtype) - bytesPerElement(x.dtype) || (a < b ? -1 : a > b ? 1 : 0),
  );
  const header: Record<string, unknown> = Object.keys(metadata).length > 0 ? { __metadata__: metadata } : {};
  let offset = 0;
  for (const [name, { dtype, shape }] of ordered) {
    if (Object.hasOwn(header, name)) throw new RangeError(`two tensors are called ${name}`);
    const end = offset + elementCount(shape) * bytesPerElement(dtype);
    header[name] = { dtype, shape, data_offsets: [offset, end] };
    offset = end;
  }
  const text = Buffer.from(JSON.stringify(header));
  const bytes = Buffer.alloc(PREFIX_BYTES + Math.ceil(text.length / 8) * 8, " ");
  bytes.writeBigUInt64LE(BigInt(bytes.length - PREFIX_BYTES));
  text.copy(bytes, PREFIX_BYTES);
  return { bytes, order: ordered.map(([name]) => name) };
}
