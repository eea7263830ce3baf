/** float32 to the 16-bit types that models are published in: to the nearest, of two as near the even one, as PyTorch rounds. */
import type { TensorData } from "./dtypes.js";

/** Types that weights are stored in. */
export type FloatDtype = "F32" | "BF16" | "F16";

export const isFloatDtype = (dtype: string): dtype is FloatDtype =>
  dtype === "F32" || dtype === "BF16" || dtype === "F16";

/** A number that would be infinity in float16. */
export class HalfRangeError extends RangeError {
  override readonly name = "HalfRangeError";
  readonly value: number;
  constructor(value: number) {
    super(`${value} does not fit into float16, which ends at 65504`);
    this.value = value;
  }
}

const bitsOf = (values: Float32Array): Uint32Array =>
  new Uint32Array(values.buffer, values.byteOffset, values.length);

function toBrainFloat(values: Float32Array): Uint16Array {
  const bits = bitsOf(values);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const x = bits[i]!;
    const isNan = (x & 0x7fffffff) > 0x7f800000;
    // Rounding could carry a NaN's pattern over to infinity.
    out[i] = isNan ? (x >>> 16) | 0x40 : (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** @throws HalfRangeError for a number beyond 65504: infinity in its place would spoil the policy */
function toHalf(values: Float32Array): Uint16Array {
  const bits = bitsOf(values);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < out.length; i++) {
    const x = bits[i]!;
    const sign = (x >>> 16) & 0x8000;
    const size = x & 0x7fffffff;
    if (size >= 0x47800000 - 0x1000 && size < 0x7f800000) throw new HalfRangeError(values[i]!);
    if (size >= 0x7f800000) out[i] = sign | (size > 0x7f800000 ? 0x7e00 : 0x7c00);
    else if (size >= 0x38800000) out[i] = sign | ((size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13);
    else out[i] = sign | nearestEven(Math.abs(values[i]!) * 2 ** 24);
  }
  return out;
}

/** The nearest integer; of two as near, the even one. Exact: a float32 times a power of two loses nothing in a double. */
function nearestEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

/** Values in a storage type; as F32 the array itself. @throws HalfRangeError for a value that float16 cannot hold */
export function narrowed(values: Float32Array, dtype: FloatDtype): TensorData {
  if (dtype === "F32") return values;
  return dtype === "BF16" ? toBrainFloat(values) : toHalf(values);
}
