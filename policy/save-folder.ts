/** A policy folder as others open it: in the files, the types and with the keys that it was published with. */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import {
  type Content,
  converted,
  type FloatDtype,
  HalfRangeError,
  heldTensor,
  isFloatDtype,
  modelFiles,
  modelTensorPlaces,
  type NamedTensor,
  replaceFile,
  type TensorStream,
} from "../checkpoints/index.js";
import { ConfigError, makeFolder } from "../core/index.js";
import { type DecoderConfig, huggingFaceConfig, parseDecoderConfig } from "./config.js";
import type { StoredType } from "./stored-type.js";
import type { HostWeights } from "./weight-places.js";
import { parameterShapes } from "./weights.js";

/** Carried along unchanged, where they are there. */
const COMPANIONS = [
  ...["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"],
  ...["vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json"],
];

const DTYPES: Record<Exclude<StoredType, "source">, FloatDtype> = {
  float32: "F32",
  bfloat16: "BF16",
  float16: "F16",
};
const NAMES: Record<FloatDtype, string> = { F32: "float32", BF16: "bfloat16", F16: "float16" };

/** Weights as named tensors in file order. */
export function namedTensors(
  weights: Readonly<HostWeights>,
  config: DecoderConfig,
): Map<string, NamedTensor> {
  const shapes = Object.entries(parameterShapes(config));
  return new Map(shapes.map(([name, shape]) => [name, { dtype: "F32", shape, data: weights[name]! }]));
}

/** Weights in memory as tensors to be written. */
export const heldWeights = (
  weights: Readonly<HostWeights>,
  config: DecoderConfig,
): Map<string, TensorStream> =>
  new Map(
    Object.entries(parameterShapes(config)).map(([name, shape]) => [name, heldTensor(weights[name]!, shape)]),
  );

/** How a folder stores its weights; null where it has none. */
function layoutOf(
  folder: string,
): { dtypes: Map<string, FloatDtype>; files: Map<string, string> | null } | null {
  const isSingle = existsSync(join(folder, "model.safetensors"));
  if (!isSingle && !existsSync(join(folder, "model.safetensors.index.json"))) return null;
  const places = [...modelTensorPlaces(folder)];
  return {
    dtypes: new Map(
      places.flatMap(([name, { dtype }]) => (isFloatDtype(dtype) ? [[name, dtype] as const] : [])),
    ),
    files: isSingle ? null : new Map(places.map(([name, { file }]) => [name, basename(file)])),
  };
}

/** The type in which each of the weights is saved. */
export function savedTypes(config: DecoderConfig, from: string, type: StoredType): Map<string, FloatDtype> {
  const published = type === "source" ? layoutOf(from)?.dtypes : undefined;
  const all = type === "source" ? "F32" : DTYPES[type];
  return new Map(Object.keys(parameterShapes(config)).map((name) => [name, published?.get(name) ?? all]));
}

/**
 * The published config.json with the type that the weights are saved in, so that keys which only other programs read
 * survive; our own where the folder has none, or one of another shape.
 */
function configToSave(config: DecoderConfig, from: string, types: Iterable<FloatDtype>): object {
  const [only, ...others] = [...new Set(types)];
  // Of several types the matrices' own is what other programs load all of them in.
  const type = others.length > 0 ? {} : { torch_dtype: NAMES[only!] };
  const file = join(from, "config.json");
  if (!existsSync(file)) return { ...huggingFaceConfig(config), ...type };
  const published = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  const shapeOf = ({ stopIds: _, ...shape }: DecoderConfig): string => JSON.stringify(shape);
  if (shapeOf(parseDecoderConfig(published, file)) !== shapeOf(config))
    return { ...huggingFaceConfig(config), ...type };
  // What transformers 5 calls torch_dtype.
  const renamed = published.dtype !== undefined && "torch_dtype" in type ? { dtype: type.torch_dtype } : type;
  return { ...published, ...renamed };
}

/** A weight in the type that it is saved in. @throws ConfigError, while it is written, for a number that float16 cannot hold */
function savedAs(name: string, tensor: TensorStream, dtype: FloatDtype): TensorStream {
  const { shape, pieces } = converted(tensor, dtype);
  return {
    dtype,
    shape,
    *pieces() {
      try {
        yield* pieces();
      } catch (cause) {
        if (!(cause instanceof HalfRangeError)) throw cause;
        throw new ConfigError({
          at: name,
          got: cause.value,
          need: "numbers of at most 65504 to be saved in float16",
          fix: "Nothing of it was saved. Set checkpoint.dtype: float32 and go on with --resume from the newest checkpoint, which is whole (retort export: --dtype float32).",
          cause,
        });
      }
    },
  };
}

/**
 * The files of a policy folder that Retort, transformers, vLLM and SGLang open, by name; weights are converted as they are
 * written.
 * @param from - folder whose tokenizer, template, other keys of config.json, weight files and types go along
 * @throws ConfigError, while a file is written, for a weight that its type cannot hold
 */
export function policyFiles(
  config: DecoderConfig,
  weights: ReadonlyMap<string, TensorStream>,
  from: string,
  type: StoredType = "source",
): Record<string, Content> {
  const companions = COMPANIONS.filter((name) => existsSync(join(from, name)));
  const types = savedTypes(config, from, type);
  const files = layoutOf(from)?.files ?? null;
  const last = files === null ? "" : [...files.values()].sort().at(-1)!;
  const tensors = new Map(
    [...weights].map(([name, tensor]) => [name, savedAs(name, tensor, types.get(name)!)]),
  );
  const fileOf = files && new Map([...weights.keys()].map((name) => [name, files.get(name) ?? last]));
  return {
    "config.json": `${JSON.stringify(configToSave(config, from, types.values()), null, 2)}\n`,
    ...Object.fromEntries(companions.map((name) => [name, readFileSync(join(from, name))])),
    ...modelFiles(tensors, fileOf),
  };
}

/** Writes a policy folder; each file appears whole or not at all. */
export async function writePolicy(
  folder: string,
  config: DecoderConfig,
  weights: Readonly<HostWeights>,
  from: string,
  type: StoredType = "source",
): Promise<void> {
  makeFolder(folder);
  for (const [name, content] of Object.entries(policyFiles(config, heldWeights(weights, config), from, type)))
    await replaceFile(join(folder, name), content);
}
