/** The folder for what can be made again, and the digests of large files, which are taken once for each state of a file. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { z } from "zod";
import { fingerprint, replaceFile } from "../checkpoints/index.js";
import { ConfigError, makeFolder } from "../core/index.js";

/** `RETORT_CACHE`, else `retort` in `XDG_CACHE_HOME`, else ~/.cache/retort. It need not exist. */
export function cacheFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const { RETORT_CACHE, XDG_CACHE_HOME } = environment;
  if (RETORT_CACHE) return resolve(RETORT_CACHE);
  return join(XDG_CACHE_HOME || join(homedir(), ".cache"), "retort");
}

/** @throws ConfigError saying where else the cache can be */
export function cacheError(folder: string, need: string, cause?: unknown): ConfigError {
  return new ConfigError({
    at: folder,
    need,
    fix: "Weights of 16 bits are widened there once. Set RETORT_CACHE to another folder, or remove what is old with: retort cache",
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Makes a folder of the cache. @throws ConfigError when it cannot be made */
export function makeCacheFolder(...parts: string[]): string {
  const folder = join(cacheFolder(), ...parts);
  try {
    makeFolder(folder);
  } catch (cause) {
    throw cacheError(folder, `a folder that can be written (${(cause as Error).message})`, cause);
  }
  return folder;
}

/** Tells one state of a file from another without reading it. */
export const FileState = z.strictObject({ bytes: z.int(), mtime_ns: z.string() });
export type FileState = z.infer<typeof FileState>;

export function fileState(file: string): FileState {
  const { size, mtimeNs } = statSync(file, { bigint: true });
  return { bytes: Number(size), mtime_ns: String(mtimeNs) };
}

const Remembered = z.strictObject({ path: z.string(), state: FileState, sha256: z.string() });

/**
 * SHA-256 of a file's bytes; remembered in the cache, and taken again only when the file's size or time of change is
 * another, as git does.
 */
export async function fileDigest(file: string): Promise<string> {
  const path = realpathSync(file);
  const key = createHash("sha256").update(path).digest("hex").slice(0, 32);
  const note = join(makeCacheFolder("digests"), `${key}.json`);
  const state = fileState(path);
  const known = existsSync(note) ? parseJson(Remembered, note) : null;
  if (known?.path === path && sameState(known.state, state)) return known.sha256;
  const { sha256 } = await fingerprint(path);
  try {
    await replaceFile(note, `${JSON.stringify({ path, state, sha256 })}\n`);
  } catch (cause) {
    throw cacheError(note, `a file that can be written (${(cause as Error).message})`, cause);
  }
  return sha256;
}

export const sameState = (a: FileState, b: FileState): boolean =>
  a.bytes === b.bytes && a.mtime_ns === b.mtime_ns;

/** null for a file that is missing, cut or of another version: what it said can be found out again. */
export function parseJson<T>(schema: z.ZodType<T>, file: string): T | null {
  try {
    return schema.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch {
    return null;
  }
}
