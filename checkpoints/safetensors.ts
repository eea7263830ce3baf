/** Whole safetensors files, read and written with their tensors in memory; tensor by tensor: tensor-stream.ts. */
import { replaceFile } from "./atomic-file.js";
import { bytesPerElement, elementCount, emptyData, type NamedTensor } from "./dtypes.js";
import { encodeHeader, readExactly, readHeaderFrom, withFile } from "./safetensors-header.js";

/**
 * Every tensor of a file, each in its own array; use `float32Values` for F16 and BF16.
 * @throws ConfigError that names the file when it is missing, truncated, or breaks a rule of the format
 */
export function readSafetensors(path: string): {
  tensors: Map<string, NamedTensor>;
  metadata: Readonly<Record<string, string>>;
} {
  return withFile(path, (fd) => {
    const header = readHeaderFrom(path, fd);
    const tensors = new Map<string, NamedTensor>();
    for (const [name, { dtype, shape, offset }] of header.tensors) {
      const data = emptyData(dtype, elementCount(shape));
      readExactly(path, fd, new Uint8Array(data.buffer), offset);
      tensors.set(name, { dtype, shape, data });
    }
    return { tensors, metadata: header.metadata };
  });
}

const bytesOf = (tensor: NamedTensor): Uint8Array =>
  new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);

/** The file's bytes, in pieces that share the tensors' memory. */
export function encodeSafetensors(
  tensors: Iterable<readonly [string, NamedTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array[] {
  const entries = [...tensors];
  for (const [name, { dtype, shape, data }] of entries) {
    const bytes = elementCount(shape) * bytesPerElement(dtype);
    if (bytes !== data.byteLength)
      throw new RangeError(`${name}: ${dtype} [${shape}] needs ${bytes} bytes, got ${data.byteLength}`);
  }
  const header = encodeHeader(entries, metadata);
  const byName = new Map(entries);
  return [header.bytes, ...header.order.map((name) => bytesOf(byName.get(name)!))];
}

/** Writes a file that is, at any moment, the old one or the new one whole (temporary file, fsync, rename). */
export const writeSafetensors = (
  path: string,
  tensors: Iterable<readonly [string, NamedTensor]>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> => replaceFile(path, encodeSafetensors(tensors, metadata));
