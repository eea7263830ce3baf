/**
 * Weights that are computed on where they stand. float32 files are mapped as they are; what is published in 16 bits is
 * widened once into a float32 file in the cache, which all later runs and all processes share.
 */
import { converted, storedTensor, type TensorPlace } from "../checkpoints/index.js";
import { type FileTensor, fileIdentity } from "../tensor/index.js";
import { derivedPlaces, type WideningProgress } from "./derived-weights.js";
import type { WeightPlaces } from "./weight-places.js";

/** ONNX Runtime reads a mapped float where it stands: it must not straddle. */
const canBeMapped = ({ dtype, offset }: TensorPlace): boolean => dtype === "F32" && offset % 4 === 0;

const fileTensor = ({ file, offset, shape }: TensorPlace): FileTensor => ({
  file,
  offset,
  spec: { shape, dtype: "float32" },
});

/**
 * Every weight as a float32 tensor in a file; widened first where it is not.
 * @throws ConfigError when the cache cannot be written or the disk is full; nothing half is left there
 */
export async function mappedWeights(
  places: WeightPlaces,
  progress: WideningProgress,
): Promise<Record<string, FileTensor>> {
  const narrow = Object.fromEntries(Object.entries(places).filter(([, place]) => !canBeMapped(place)));
  const widened = Object.keys(narrow).length === 0 ? {} : await widenedPlaces(narrow, progress);
  // Those in the cache are named by their content: made anew, they are the same.
  const own = Object.entries(places).filter(([name]) => widened[name] === undefined);
  const identities = new Map(
    [...new Set(own.map(([, { file }]) => file))].map((file) => [file, fileIdentity(file)]),
  );
  return Object.fromEntries(
    Object.entries(places).map(([name, place]) => {
      const found = widened[name];
      if (found !== undefined) return [name, fileTensor(found)];
      return [name, { ...fileTensor(place), identity: identities.get(place.file)! }];
    }),
  );
}

function widenedPlaces(places: WeightPlaces, progress: WideningProgress): Promise<WeightPlaces> {
  const tensors = new Map(
    Object.entries(places).map(([name, place]) => [name, converted(storedTensor(place), "F32")]),
  );
  const how = { key: "1", doing: "widening", line: "widening the policy's weights to float32" };
  return derivedPlaces(places, tensors, how, progress);
}
