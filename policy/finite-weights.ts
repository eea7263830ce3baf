import { readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { converted, isFloatDtype, readSafetensorsHeader, storedTensor } from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";
import { isAdapterFolder, readAdapterConfig } from "./adapter-folder.js";
import { policyFolder } from "./folder.js";

/** The policy's own outputs are NaN or infinite: the weights that it samples with are broken. */
export class NonFinitePolicyError extends Error {
  override readonly name = "NonFinitePolicyError";
}

/**
 * What is wrong with a policy whose outputs are NaN or infinite: the first weight that is, or an overflow on the way.
 * The files are read again for it: to test every weight of every policy that is opened would cost each of them seconds.
 */
export function nonFinitePolicy(path: string): ConfigError {
  const folder = policyFolder(path);
  const bases = isAdapterFolder(folder) ? [resolve(folder, readAdapterConfig(folder).base)] : [];
  for (const place of [folder, ...bases]) {
    for (const file of readdirSync(place).filter((name) => name.endsWith(".safetensors"))) {
      const found = firstNonFinite(join(place, file));
      if (found !== null)
        return new ConfigError({
          at: `${join(place, file)}: ${found.name}`,
          need: `finite numbers, but element ${found.index} is ${found.value}`,
          fix: "The weights are broken: fetch them again, or take an earlier checkpoint.",
        });
    }
  }
  return new ConfigError({
    at: folder,
    need: "a policy that gives finite log-probabilities; its weights are finite, but numbers overflow on their way through it",
    fix: "Compute in float32, or take an earlier checkpoint.",
  });
}

function firstNonFinite(file: string): { name: string; index: number; value: number } | null {
  for (const [name, location] of readSafetensorsHeader(file).tensors) {
    if (!isFloatDtype(location.dtype)) continue;
    let before = 0;
    for (const values of converted(storedTensor({ ...location, file }), "F32").pieces()) {
      const index = (values as Float32Array).findIndex((value) => !Number.isFinite(value));
      if (index >= 0) return { name, index: before + index, value: (values as Float32Array)[index]! };
      before += values.length;
    }
  }
  return null;
}
