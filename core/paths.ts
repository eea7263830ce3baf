import { existsSync } from "node:fs";
import { dirname, join, relative, sep } from "node:path";
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
 * @param importMetaUrl - the caller's import.meta.url
 * @param file - relative to the caller, e.g. "./broker-main.js"
 */
export function builtModule(importMetaUrl: string, file: string): string {
  const target = join(dirname(fileURLToPath(importMetaUrl)), file);
  const fromRoot = relative(packageRoot, target);
  return fromRoot.startsWith(`dist${sep}`) ? target : join(packageRoot, "dist", fromRoot);
}
