/** A model's weights as Hugging Face lays them out: one file, or several with an index. */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { z } from "zod";
import { ConfigError } from "../core/index.js";
import type { NamedTensor } from "./dtypes.js";
import { readSafetensors } from "./safetensors.js";

const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";

const Index = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

function readIndex(path: string): Readonly<Record<string, string>> {
  try {
    return Index.parse(JSON.parse(readFileSync(path, "utf8"))).weight_map;
  } catch (cause) {
    throw new ConfigError({ at: path, need: 'an index with a "weight_map" from tensor to file', cause });
  }
}

/**
 * Every tensor of a model folder, by name: from `model.safetensors`, or from the files that
 * `model.safetensors.index.json` names.
 * @throws ConfigError when there is neither, or a file lacks a tensor that the index places in it
 */
export function readModelTensors(folder: string): Map<string, NamedTensor> {
  const single = join(folder, SINGLE);
  const index = join(folder, INDEX);
  if (existsSync(single) || !existsSync(index)) return readSafetensors(single).tensors;
  const places = readIndex(index);
  const tensors = new Map<string, NamedTensor>();
  for (const file of [...new Set(Object.values(places))].sort()) {
    if (basename(file) !== file)
      throw new ConfigError({ at: index, got: file, need: "files beside the index" });
    for (const [name, tensor] of readSafetensors(join(folder, file)).tensors) {
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
