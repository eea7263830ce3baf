/** Mapped weights that outlive their files: the files get names of our own, so whoever wrote them may remove them. */
import { randomBytes } from "node:crypto";
import { constants, existsSync, linkSync, mkdirSync, readdirSync, realpathSync, rmSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { join } from "node:path";
import { tryLock } from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";
import { type FileTensor, fileIdentity } from "../tensor/index.js";
import { makeCacheFolder } from "./cache-folder.js";

export interface LastingWeights {
  readonly weights: Readonly<Record<string, FileTensor>>;
  /** Nothing maps them any more. Calling it twice does no harm. */
  release(): void;
}

/**
 * The weights in files of our own: a second name of each file in the cache, which takes no room, or a copy where the cache is
 * on another disk. Those in the cache already stay where they are: made anew, they are the same.
 * @throws ConfigError for a file that is gone or has changed since it was opened, or that can neither be named nor copied
 */
export async function lastingWeights(weights: Readonly<Record<string, FileTensor>>): Promise<LastingWeights> {
  const foreign = Object.values(weights).filter(({ identity }) => identity !== undefined);
  const files = new Map(foreign.map(({ file, identity }) => [file, identity!]));
  if (files.size === 0) return { weights, release: () => {} };
  const { folder, release } = ownFolder();
  try {
    const own = new Map<string, { file: string; identity: string }>();
    for (const [file, identity] of files)
      own.set(file, await lastingFile(file, identity, join(folder, `${own.size}.safetensors`)));
    const renamed = Object.entries(weights).map(([name, each]) => [name, { ...each, ...own.get(each.file) }]);
    return { weights: Object.fromEntries(renamed), release };
  } catch (error) {
    release();
    throw error;
  }
}

async function lastingFile(
  file: string,
  identity: string,
  own: string,
): Promise<{ file: string; identity: string }> {
  try {
    const path = realpathSync(file); // a link to a link would go with it
    try {
      linkSync(path, own);
    } catch {
      await copyFile(path, own, constants.COPYFILE_FICLONE);
    }
    const isLinked = fileIdentity(own) === identity;
    if (isLinked || fileIdentity(file) === identity) return { file: own, identity: fileIdentity(own) };
  } catch (cause) {
    throw new ConfigError({
      at: file,
      need: `a file that can be kept as ${own} (${(cause as Error).message})`,
      fix: "Set RETORT_CACHE to a folder on the same disk: then it takes no room.",
      cause,
    });
  }
  throw new ConfigError({ at: file, need: "the file that was opened: another is in its place" });
}

/** A folder that this process alone uses, and the removal of those whose process has died. */
function ownFolder(): { folder: string; release: () => void } {
  const parent = makeCacheFolder("served");
  for (const lock of readdirSync(parent).filter((name) => name.endsWith(".lock"))) {
    const attempt = tryLock(join(parent, lock));
    if ("holder" in attempt) continue;
    rmSync(join(parent, lock.replace(/\.lock$/, "")), { recursive: true, force: true });
    attempt.release();
  }
  const folder = join(parent, randomBytes(8).toString("hex"));
  const attempt = tryLock(`${folder}.lock`); // before the folder: nobody finds it without its lock
  if ("holder" in attempt) throw new Error(`${folder} is taken`);
  mkdirSync(folder);
  return {
    folder,
    release: () => {
      if (existsSync(folder)) rmSync(folder, { recursive: true });
      attempt.release();
    },
  };
}
