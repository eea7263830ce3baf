import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

function findPackageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
}

/** Absolute path of the package: where package.json, configs/ and the shipped checkpoints stand. */
export const packageRoot = findPackageRoot();

/**
 * Path of the compiled JavaScript of a module of ours, for worker threads and child processes: they cannot load
 * TypeScript, and tests run from the sources.
 * @param file - from the package's root, e.g. "verifiers/broker-main.js"; one that a product's process or thread starts with
 *   stands in scripts/bundle.mjs too
 */
export const builtModule = (file: string): string => join(packageRoot, "dist", file);
