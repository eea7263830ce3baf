/**
 * Matrices of eight bits: each row in blocks of 128 elements, each block with its own scale, symmetric about 0. An element is
 * stored as a byte from 1 to 255 and stands for (byte - 128) * scale, as ONNX Runtime's MatMulNBits reads it. The last block
 * of a row is filled up with zeros.
 */
export const INT8_BLOCK = 128;
const ZERO = 128;
const LARGEST = 127;

/** Blocks of a row. */
export const int8Blocks = (width: number): number => Math.ceil(width / INT8_BLOCK);

/** Whole rows of float32, quantised to the nearest. A block with a number that is not finite gets a scale that is not: it stays broken. */
export function quantizedRows(
  values: Float32Array,
  width: number,
): { readonly bytes: Uint8Array; readonly scales: Float32Array } {
  const blocks = int8Blocks(width);
  const rows = values.length / width;
  const bytes = new Uint8Array(rows * blocks * INT8_BLOCK).fill(ZERO);
  const scales = new Float32Array(rows * blocks);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block < blocks; block++) {
      const from = row * width + block * INT8_BLOCK;
      const to = Math.min(from + INT8_BLOCK, (row + 1) * width);
      const at = row * blocks + block;
      const scale = largestOf(values, from, to) / LARGEST;
      scales[at] = scale;
      if (scale === 0) continue;
      for (let i = from; i < to; i++)
        bytes[at * INT8_BLOCK + i - from] = Math.round(values[i]! / scale) + ZERO;
    }
  }
  return { bytes, scales };
}

/** The largest magnitude; NaN where one is NaN. */
function largestOf(values: Float32Array, from: number, to: number): number {
  let largest = 0;
  for (let i = from; i < to; i++) {
    const size = Math.abs(values[i]!);
    if (size > largest || Number.isNaN(size)) largest = size;
  }
  return largest;
}

/** What the bytes stand for: [rows, width]. */
export function dequantizedRows(bytes: Uint8Array, scales: Float32Array, width: number): Float32Array {
  const blocks = int8Blocks(width);
  const rows = scales.length / blocks;
  const values = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < width; i++) {
      const at = row * blocks + Math.floor(i / INT8_BLOCK);
      values[row * width + i] = (bytes[at * INT8_BLOCK + (i % INT8_BLOCK)]! - ZERO) * scales[at]!;
    }
  }
  return values;
}
