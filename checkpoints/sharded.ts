/** A model's weights as Hugging Face lays them out: one file, or several with an index. */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { z } from "zod";
import { ConfigError } from "../core/index.js";
import type { Content } from "./atomic-file.js";
import { bytesPerElement, elementCount, type NamedTensor } from "./dtypes.js";
import { readSafetensors } from "./safetensors.js";
import { readSafetensorsHeader, type TensorPlace } from "./safetensors-header.js";
import { safetensorsContent, type TensorStream } from "./tensor-stream.js";

export const SINGLE = "model.safetensors";
export const INDEX = "model.safetensors.index.json";

const Index = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

function readIndex(path: string): Readonly<Record<string, string>> {
  try {
    return Index.parse(JSON.parse(readFileSync(path, "utf8"))).weight_map;
  } catch (cause) {
    throw new ConfigError({ at: path, need: 'an index with a "weight_map" from tensor to file', cause });
  }
}

/** Reads each file of a model with `read` and keeps of it what the index places there. */
function gather<T>(folder: string, read: (file: string) => Iterable<readonly [string, T]>): Map<string, T> {
  const single = join(folder, SINGLE);
  const index = join(folder, INDEX);
  if (existsSync(single) || !existsSync(index)) return new Map(read(single));
  const places = readIndex(index);
  const tensors = new Map<string, T>();
  for (const file of [...new Set(Object.values(places))].sort()) {
    if (basename(file) !== file || !file.endsWith(".safetensors"))
      throw new ConfigError({ at: index, got: file, need: "safetensors files beside the index" });
    if (!existsSync(join(folder, file)))
      throw new ConfigError({
        at: index,
        need: `every file that it names beside it; ${file} is missing`,
        fix: "The download is incomplete: fetch the model again.",
      });
    for (const [name, tensor] of read(join(folder, file))) {
      if (places[name] === file) tensors.set(name, tensor);
    }
  }
  const missing = Object.keys(places).filter((name) => !tensors.has(name));
  if (missing.length === 0) return tensors;
  throw new ConfigError({
    at: index,
    need: `every tensor in the file that it names; ${places[missing[0]!]} lacks ${missing[0]}`,
    fix: "The download is incomplete: fetch the model again.",
  });
}

/**
 * Every tensor of a model folder, by name: from `model.safetensors`, or from the files that
 * `model.safetensors.index.json` names.
 * @throws ConfigError when there is neither, or a file lacks a tensor that the index places in it
 */
export const readModelTensors = (folder: string): Map<string, NamedTensor> =>
  gather(folder, (file) => readSafetensors(file).tensors);

/** Where every tensor of a model folder stands, by name; only the files' headers are read. @throws as `readModelTensors` */
export const modelTensorPlaces = (folder: string): Map<string, TensorPlace> =>
  gather(folder, (file) =>
    [...readSafetensorsHeader(file).tensors].map(([name, location]): [string, TensorPlace] => [
      name,
      { ...location, file },
    ]),
  );

/**
 * The files of a model folder, by name, written tensor by tensor.
 * @param fileOf - the file of each tensor, where there are several; a single file otherwise
 */
export function modelFiles(
  tensors: ReadonlyMap<string, TensorStream>,
  fileOf: ReadonlyMap<string, string> | null = null,
): Record<string, Content> {
  const metadata = { format: "pt" };
  if (fileOf === null) return { [SINGLE]: safetensorsContent(tensors, metadata) };
  const byFile = new Map<string, Map<string, TensorStream>>();
  let bytes = 0;
  for (const [name, tensor] of tensors) {
    const file = fileOf.get(name)!;
    if (!byFile.has(file)) byFile.set(file, new Map());
    byFile.get(file)!.set(name, tensor);
    bytes += elementCount(tensor.shape) * bytesPerElement(tensor.dtype);
  }
  const index = {
    metadata: { total_size: bytes },
    weight_map: Object.fromEntries([...tensors.keys()].sort().map((name) => [name, fileOf.get(name)!])),
  };
  return {
    ...Object.fromEntries([...byFile].map(([file, own]) => [file, safetensorsContent(own, metadata)])),
    [INDEX]: `${JSON.stringify(index, null, 2)}\n`,
  };
}
