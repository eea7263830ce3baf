/** What the cache of widened weights holds, and its removal. */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../core/index.js";
import { cacheFolder, parseJson } from "./cache-folder.js";
import { WidenedSource } from "./derived-weights.js";

export interface CacheEntry {
  readonly id: string;
  readonly folder: string;
  readonly bytes: number;
  /** The weight files that it was made from, where they stood then. */
  readonly files: readonly string[];
  /** Whether all of those are still there. */
  readonly isInUse: boolean;
}

/** Finished entries, by id. */
export function cacheEntries(): CacheEntry[] {
  const parent = join(cacheFolder(), "widened");
  if (!existsSync(parent)) return [];
  return readdirSync(parent)
    .sort()
    .flatMap((id) => {
      const folder = join(parent, id);
      const source = parseJson(WidenedSource, join(folder, "source.json"));
      if (source === null) return [];
      const { files, state } = source;
      return [{ id, folder, bytes: state.bytes, files, isInUse: files.every((file) => existsSync(file)) }];
    });
}

/**
 * Removes an entry. A process that has mapped it keeps what it has; the next one widens the weights again.
 * @param id - or its beginning
 * @throws ConfigError when no entry, or more than one, begins so
 */
export function removeCacheEntry(id: string): CacheEntry {
  const found = cacheEntries().filter((entry) => id !== "" && entry.id.startsWith(id));
  const [entry] = found;
  if (entry === undefined || found.length > 1)
    throw new ConfigError({
      at: "--remove",
      got: id,
      need: found.length > 1 ? `one entry; ${found.length} begin so` : "the id of an entry",
      fix: "`retort cache` lists them.",
    });
  rmSync(entry.folder, { recursive: true });
  return entry;
}
