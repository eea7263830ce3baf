/** Tensors piece by piece: a model of gigabytes is read, converted and written in a few megabytes of memory. */
import {
  bytesPerElement,
  type Dtype,
  elementCount,
  emptyData,
  float32Values,
  type TensorData,
} from "./dtypes.js";
import { type FloatDtype, narrowed } from "./narrow.js";
import { encodeHeader, readExactly, type TensorPlace, withFile } from "./safetensors-header.js";

/** Elements of a piece: large enough for the disk, small beside everything else. */
const PIECE = 1 << 22;

/** A tensor to be written. */
export interface TensorStream {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** Its elements in row-major order, in pieces of any length; may be asked for again. */
  pieces(): Iterable<TensorData>;
}

/** Elements `from` to `from + count` of a tensor that stands in a file. @throws ConfigError when the file is shorter */
export function readElements(place: TensorPlace, from: number, count: number): TensorData {
  const { file, dtype, offset } = place;
  const data = emptyData(dtype, count);
  const start = offset + from * bytesPerElement(dtype);
  withFile(file, (fd) => readExactly(file, fd, new Uint8Array(data.buffer), start));
  return data;
}

/** A tensor's values as float32, all of them. */
export function readFloat32(place: TensorPlace): Float32Array {
  const { dtype, shape } = place;
  return float32Values({ dtype, shape, data: readElements(place, 0, elementCount(shape)) });
}

/** A tensor that stands in a file, as it is. */
export const storedTensor = (place: TensorPlace): TensorStream => ({
  dtype: place.dtype,
  shape: place.shape,
  *pieces() {
    const count = elementCount(place.shape);
    for (let from = 0; from < count; from += PIECE)
      yield readElements(place, from, Math.min(PIECE, count - from));
  },
});

/** A tensor in memory. `data` must not change until it is written. */
export const heldTensor = (data: Float32Array, shape: readonly number[]): TensorStream => ({
  dtype: "F32",
  shape,
  *pieces() {
    for (let from = 0; from < data.length; from += PIECE) yield data.subarray(from, from + PIECE);
  },
});

/** A floating-point tensor in another type. @throws HalfRangeError, while it is read, for a value that float16 cannot hold */
export function converted(tensor: TensorStream, dtype: FloatDtype): TensorStream {
  if (tensor.dtype === dtype) return tensor;
  return {
    dtype,
    shape: tensor.shape,
    *pieces() {
      for (const data of tensor.pieces())
        yield narrowed(float32Values({ dtype: tensor.dtype, shape: [data.length], data }), dtype);
    },
  };
}

const bytesOf = (data: TensorData): Uint8Array =>
  new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

/** A safetensors file as content for `replaceFile` or a checkpoint: the bytes of `encodeSafetensors`, made as they are written. */
export function safetensorsContent(
  tensors: ReadonlyMap<string, TensorStream>,
  metadata: Readonly<Record<string, string>> = {},
): Iterable<Uint8Array> {
  const header = encodeHeader(tensors, metadata);
  return {
    *[Symbol.iterator]() {
      yield header.bytes;
      for (const name of header.order) {
        const { dtype, shape, pieces } = tensors.get(name)!;
        let missing = elementCount(shape) * bytesPerElement(dtype);
        for (const data of pieces()) {
          missing -= data.byteLength;
          yield bytesOf(data);
        }
        if (missing !== 0) throw new RangeError(`${name}: ${dtype} [${shape}] lacks ${missing} bytes`);
      }
    },
  };
}
