/** One folder of whole weights out of a policy and its adapter, tensor by tensor. */

import { existsSync, rmdirSync, rmSync } from "node:fs";
import { rename } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import {
  float32Values,
  readElements,
  replaceFile,
  storedTensor,
  type TensorPlace,
  type TensorStream,
} from "../checkpoints/index.js";
import { ConfigError, makeFolder } from "../core/index.js";
import { readAdapter } from "./adapter-folder.js";
import { type OpenedPolicy, openPolicy, type WeightSource } from "./folder.js";
import { adaptedProjections, addAdapter, loraA, loraB, loraScale } from "./lora.js";
import { policyFiles } from "./save-folder.js";
import type { StoredType } from "./stored-type.js";

/** Elements read at once. */
const PIECE = 1 << 22;

/** A matrix with its adapter added in, some rows at a time. */
function mergedTensor(
  place: TensorPlace,
  add: (rows: Float32Array, firstRow: number) => Float32Array,
): TensorStream {
  const [height, width] = [place.shape[0]!, place.shape[1]!];
  const rows = Math.max(1, Math.floor(PIECE / width));
  return {
    dtype: "F32",
    shape: place.shape,
    *pieces() {
      for (let row = 0; row < height; row += rows) {
        const count = Math.min(rows, height - row);
        const data = readElements(place, row * width, count * width);
        yield add(float32Values({ dtype: place.dtype, shape: [count, width], data }), row);
      }
    },
  };
}

/** The whole weights as tensors to be written. */
function wholeWeights({ config, places, adapter }: WeightSource): Map<string, TensorStream> {
  const tensors = new Map<string, TensorStream>(
    Object.entries(places).map(([name, place]) => [name, storedTensor(place)]),
  );
  if (adapter === null) return tensors;
  const { lora } = adapter;
  const learned = readAdapter(adapter.folder, { ...config, lora });
  const scale = loraScale(lora);
  for (const { name } of adaptedProjections(config, lora)) {
    const [a, b] = [learned[loraA(name)]!, learned[loraB(name)]!];
    const add = (rows: Float32Array, firstRow: number): Float32Array =>
      addAdapter(rows, firstRow, { a, b, scale, rank: lora.rank });
    tensors.set(`${name}.weight`, mergedTensor(places[`${name}.weight`]!, add));
  }
  return tensors;
}

/**
 * Writes a policy as one folder of whole weights; the folder appears whole or not at all.
 * @param out - new, or empty
 * @param onFile - told each file as it is finished
 * @throws ConfigError when the policy cannot be opened, or the folder cannot be made
 */
export async function exportPolicy(
  path: string,
  out: string,
  { type = "source", onFile = () => {} }: { type?: StoredType; onFile?: (name: string) => void } = {},
): Promise<OpenedPolicy> {
  const policy = openPolicy(path);
  const target = resolve(out);
  const partial = join(dirname(target), `.${basename(target)}.${process.pid}.partial`);
  try {
    makeFolder(partial);
  } catch (cause) {
    throw new ConfigError({
      at: target,
      need: `a place where a folder can be made (${(cause as Error).message})`,
      fix: "Choose another place for the new folder.",
      cause,
    });
  }
  try {
    const files = policyFiles(policy.config, wholeWeights(policy.source), policy.folder, type);
    for (const [name, content] of Object.entries(files)) {
      await replaceFile(join(partial, name), content);
      onFile(name);
    }
    if (existsSync(target)) rmdirSync(target);
    await rename(partial, target);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    throw error;
  }
  return policy;
}
