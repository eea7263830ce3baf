/** Element types of a safetensors file, and the JavaScript arrays that hold them. F16 and BF16 are raw 16-bit patterns. */
const ARRAYS = {
  F32: Float32Array,
  F16: Uint16Array,
  BF16: Uint16Array,
  I32: Int32Array,
  I64: BigInt64Array,
  U8: Uint8Array,
} as const;

export type Dtype = keyof typeof ARRAYS;
export const DTYPES = Object.keys(ARRAYS) as Dtype[];

export type TensorData = Float32Array | Uint16Array | Int32Array | BigInt64Array | Uint8Array;

/** A tensor as it stands in a file: row-major, little-endian. `data` owns its memory. */
export interface NamedTensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: TensorData;
}

export const isDtype = (name: unknown): name is Dtype =>
  typeof name === "string" && Object.hasOwn(ARRAYS, name);

export const bytesPerElement = (dtype: Dtype): number => ARRAYS[dtype].BYTES_PER_ELEMENT;

/** A zeroed array for `count` elements; its length in bytes is `count * bytesPerElement(dtype)`. */
export const emptyData = (dtype: Dtype, count: number): TensorData => new ARRAYS[dtype](count);

/** Number of elements of a shape; 1 for a scalar's []. */
export const elementCount = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** A 16-bit IEEE half as a number: 1 sign bit, 5 exponent bits (bias 15), 10 mantissa bits. */
export function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const mantissa = bits & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 31) return mantissa === 0 ? sign * Infinity : Number.NaN;
  return sign * (1 + mantissa / 1024) * 2 ** (exponent - 15);
}

/** The number of each of the 65,536 half patterns; made when first needed. */
let halves: Float32Array | null = null;

function fromHalf(bits: Uint16Array): Float32Array {
  halves ??= Float32Array.from({ length: 65536 }, (_, pattern) => halfToNumber(pattern));
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = halves[bits[i]!]!;
  return out;
}

/** bfloat16 is the upper half of a float32, so widening is a shift and loses nothing. */
function fromBrainFloat(bits: Uint16Array): Float32Array {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = bits[i]! << 16;
  return new Float32Array(out.buffer);
}

/**
 * The tensor's values as float32; F16 and BF16 widen exactly. An F32 tensor's own array is returned, not a copy.
 * @throws TypeError for integer tensors, whose values may not fit
 */
export function float32Values(tensor: NamedTensor): Float32Array {
  if (tensor.dtype === "F32") return tensor.data as Float32Array;
  if (tensor.dtype === "BF16") return fromBrainFloat(tensor.data as Uint16Array);
  if (tensor.dtype === "F16") return fromHalf(tensor.data as Uint16Array);
  throw new TypeError(`a tensor of ${tensor.dtype} holds no floating-point values`);
}
