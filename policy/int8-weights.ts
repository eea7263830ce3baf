/** A policy's matrices in eight bits, for the sampler's decoding step: made once, into the cache. */
import { float32Values, readElements, type TensorPlace, type TensorStream } from "../checkpoints/index.js";
import { type FileTensor, INT8_BLOCK, int8Blocks, quantizedRows } from "../tensor/index.js";
import type { DecoderConfig } from "./config.js";
import { derivedPlaces, type WideningProgress } from "./derived-weights.js";
import type { WeightPlaces } from "./weight-places.js";
import { parameterShapes } from "./weights.js";

/** Elements of a piece, rounded up to whole rows. */
const PIECE = 1 << 22;
const EMBEDDING = "model.embed_tokens.weight";
const HEAD = "lm_head.weight";
const scalesOf = (name: string): string => `${name}.scales`;

/** All matrices that multiply. The embedding is looked up, not multiplied by: tied, it is here as the head alone. */
function matrices(places: WeightPlaces): Record<string, TensorPlace> {
  const own = Object.entries(places).filter(([name, { shape }]) => shape.length === 2 && name !== EMBEDDING);
  return { ...Object.fromEntries(own), [HEAD]: places[HEAD] ?? places[EMBEDDING]! };
}

/** Whole rows, quantised, piece by piece. */
function* quantizedPieces(place: TensorPlace): Generator<ReturnType<typeof quantizedRows>> {
  const [out, width] = place.shape as [number, number];
  const rows = Math.ceil(PIECE / width);
  for (let row = 0; row < out; row += rows) {
    const count = Math.min(rows, out - row) * width;
    const data = readElements(place, row * width, count);
    yield quantizedRows(float32Values({ dtype: place.dtype, shape: [count], data }), width);
  }
}

/** The matrix's bytes and its scales. Each reads the matrix by itself: the file holds all scales before all bytes. */
function streams(name: string, place: TensorPlace): [string, TensorStream][] {
  const [out, width] = place.shape as [number, number];
  const blocks = int8Blocks(width);
  return [
    [
      name,
      {
        dtype: "U8",
        shape: [out, blocks, INT8_BLOCK],
        *pieces() {
          for (const { bytes } of quantizedPieces(place)) yield bytes;
        },
      },
    ],
    [
      scalesOf(name),
      {
        dtype: "F32",
        shape: [out, blocks],
        *pieces() {
          for (const { scales } of quantizedPieces(place)) yield scales;
        },
      },
    ],
  ];
}

/** Bytes of `int8Weights`. */
export function int8Bytes(config: DecoderConfig): number {
  const shapes = parameterShapes(config);
  const matrices = Object.entries(shapes).filter(([name, { length }]) => length === 2 && name !== EMBEDDING);
  const head = shapes[HEAD] === undefined ? [shapes[EMBEDDING]!] : [];
  return [...matrices.map(([, shape]) => shape), ...head].reduce(
    (sum, [out, width]) => sum + out! * int8Blocks(width!) * (INT8_BLOCK + 4),
    0,
  );
}

/**
 * The matrices under their Hugging Face names, the head always as `lm_head.weight`; norms, biases and the embedding are not
 * among them.
 * @throws ConfigError when the cache cannot be written or the disk is full; nothing half is left there
 */
export async function int8Weights(
  places: WeightPlaces,
  progress: WideningProgress,
): Promise<Record<string, FileTensor>> {
  const sources = matrices(places);
  const tensors = new Map(Object.entries(sources).flatMap(([name, place]) => streams(name, place)));
  const how = {
    key: `int8 in blocks of ${INT8_BLOCK}, 1`,
    doing: "quantising",
    line: "quantising the policy's matrices to int8 for the sampler",
  };
  const found = await derivedPlaces(sources, tensors, how, progress);
  return Object.fromEntries(
    Object.entries(sources).map(([name, { shape }]) => {
      const { file, offset } = found[name]!;
      const spec = { shape, dtype: "int8" as const };
      return [name, { file, offset, scales: found[scalesOf(name)]!.offset, spec }];
    }),
  );
}
