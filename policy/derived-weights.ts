/**
 * Files that are made once from a policy's weights, piece by piece, and stand in the cache for all later runs and all
 * processes: named by the content of their source, made under a lock, checked before they are used.
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, rmSync, statSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import {
  bytesPerElement,
  elementCount,
  fingerprint,
  type HeldLock,
  modelTensorPlaces,
  replaceFile,
  safetensorsContent,
  type TensorStream,
  tryLock,
} from "../checkpoints/index.js";
import { makeFolder } from "../core/index.js";
import {
  cacheError,
  FileState,
  fileDigest,
  fileState,
  makeCacheFolder,
  parseJson,
  sameState,
} from "./cache-folder.js";
import type { WeightPlaces } from "./weight-places.js";

/** Of source.json. */
const FORMAT = 1;
const WEIGHTS = "model.safetensors";
const SOURCE = "source.json";
/** What a folder of the cache was made from, and what its file was when it was finished. */
export const WidenedSource = z.strictObject({
  format: z.literal(FORMAT),
  files: z.array(z.string()),
  state: FileState,
  sha256: z.string(),
});

/** Room left on the disk beside the weights. */
const SPARE_BYTES = 64 * 2 ** 20;
const LOCK_POLL_MS = 200;
/** A file that nothing was written to for so long is nobody's any more. */
const IDLE_MS = 10 * 60_000;

/** How far the widening is, in bytes written; and a sentence before something that may take long. */
export interface WideningProgress {
  readonly note: (line: string) => void;
  readonly wrote?: (bytes: number, total: number) => void;
}

/** What is made of the weights. */
export interface Derivation {
  /** Names what is made; another one when the same source would give another file. */
  readonly key: string;
  /** As in "process 7 is widening the same weights". */
  readonly doing: string;
  /** As in "widening the policy's weights to float32". */
  readonly line: string;
}

type Tensors = ReadonlyMap<string, TensorStream>;

/**
 * Where the tensors stand in the cache; made, or made anew, where they do not.
 * @param places - what they are made from
 * @throws ConfigError when the cache cannot be written or the disk is full; nothing half is left there
 */
export async function derivedPlaces(
  places: WeightPlaces,
  tensors: Tensors,
  how: Derivation,
  progress: WideningProgress,
): Promise<WeightPlaces> {
  const files = [...new Set(Object.values(places).map(({ file }) => file))].sort();
  const digest = createHash("sha256").update(`${how.key} ${Object.keys(places).sort()}`);
  for (const file of files) digest.update(`\n${basename(file)} ${await fileDigest(file)}`);
  const parent = makeCacheFolder("widened");
  const folder = join(parent, digest.digest("hex").slice(0, 32));
  const found = await verified(folder, tensors);
  if (found !== null) return found;
  const release = await lockOf(folder, how, progress);
  try {
    // Another process may have made it while this one waited.
    const known = await verified(folder, tensors);
    if (known !== null) return known;
    makeFolder(folder);
    removeLeftovers(folder, release !== null);
    return await make(folder, files, tensors, how, progress);
  } finally {
    release?.();
  }
}

/** What a process that was killed left; without the lock, what another may be writing stays. */
function removeLeftovers(folder: string, isLocked: boolean): void {
  for (const name of readdirSync(folder).filter((each) => each.endsWith(".tmp"))) {
    const file = join(folder, name);
    if (isLocked || Date.now() - (statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0) > IDLE_MS)
      rmSync(file, { force: true });
  }
}

/** Whether nothing was written there for so long that nobody is at it. */
function isIdle(folder: string): boolean {
  if (!existsSync(folder)) return true;
  const files = readdirSync(folder).map((name) => statSync(join(folder, name), { throwIfNoEntry: false }));
  return files.every((file) => file === undefined || Date.now() - file.mtimeMs > IDLE_MS);
}

/**
 * Waits for a process of this machine that is at it. One elsewhere cannot be watched: while it writes, this one writes too,
 * and the last wins; once nothing has come of it for ten minutes, its lock is taken over.
 * @returns lets the lock go; null where another machine holds it
 */
async function lockOf(
  folder: string,
  { doing }: Derivation,
  { note }: WideningProgress,
): Promise<(() => void) | null> {
  const path = `${folder}.lock`;
  const isAbandoned = ({ holder, heldMs }: HeldLock): boolean => {
    if (heldMs <= IDLE_MS || !isIdle(folder)) return false;
    note(
      `process ${holder.pid} on ${holder.host} began ${doing} these weights ${minutes(heldMs)} ago and has written nothing lately: taking its place`,
    );
    return true;
  };
  for (let isNoted = false; ; isNoted = true) {
    let attempt: ReturnType<typeof tryLock>;
    try {
      attempt = tryLock(path, isAbandoned);
    } catch (cause) {
      throw cacheError(path, `a file that can be written (${(cause as Error).message})`, cause);
    }
    if ("release" in attempt) return attempt.release;
    if (attempt.holder.host !== hostname()) {
      const { holder, heldMs } = attempt;
      note(
        `process ${holder.pid} on ${holder.host} has been ${doing} the same weights for ${minutes(heldMs)} (${path}): doing so here, too`,
      );
      return null;
    }
    if (!isNoted) note(`process ${attempt.holder.pid} is ${doing} the same weights: waiting for it`);
    await sleep(LOCK_POLL_MS);
  }
}

/** The finished file's tensors; null where it is missing, or is not the one that was finished. */
async function verified(folder: string, tensors: Tensors): Promise<WeightPlaces | null> {
  const source = parseJson(WidenedSource, join(folder, SOURCE));
  const file = join(folder, WEIGHTS);
  if (source === null || !existsSync(file)) return null;
  const state = fileState(file);
  if (state.bytes !== source.state.bytes) return null;
  // Read again only where something may have touched it.
  if (!sameState(state, source.state)) {
    if ((await fingerprint(file)).sha256 !== source.sha256) return null;
    await replaceFile(join(folder, SOURCE), `${JSON.stringify({ ...source, state }, null, 2)}\n`);
  }
  const found = modelTensorPlaces(folder);
  return Object.fromEntries([...tensors.keys()].map((name) => [name, found.get(name)!]));
}

/** Content that is hashed, counted and handed on. */
function watched(content: Iterable<Uint8Array>, onPiece: (piece: Uint8Array) => void): Iterable<Uint8Array> {
  return {
    *[Symbol.iterator]() {
      for (const piece of content) {
        onPiece(piece);
        yield piece;
      }
    },
  };
}

async function make(
  folder: string,
  files: readonly string[],
  tensors: Tensors,
  { line }: Derivation,
  { note, wrote }: WideningProgress,
): Promise<WeightPlaces> {
  let total = 0;
  for (const { shape, dtype } of tensors.values()) total += elementCount(shape) * bytesPerElement(dtype);
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize < total + SPARE_BYTES)
    throw cacheError(
      folder,
      `${gigabytes(total)} free on its disk, and there are ${gigabytes(bavail * bsize)}`,
    );
  note(`${line}, once: ${gigabytes(total)} in ${folder}`);
  const hash = createHash("sha256");
  let bytes = 0;
  const content = watched(safetensorsContent(tensors, { format: "pt" }), (piece) => {
    hash.update(piece);
    bytes += piece.byteLength;
    wrote?.(bytes, total);
  });
  const file = join(folder, WEIGHTS);
  try {
    rmSync(join(folder, SOURCE), { force: true });
    await replaceFile(file, content);
    const source = { format: FORMAT, files, state: fileState(file), sha256: hash.digest("hex") };
    await replaceFile(join(folder, SOURCE), `${JSON.stringify(source, null, 2)}\n`);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === undefined || !["ENOSPC", "EDQUOT", "EACCES", "EROFS", "EIO"].includes(code)) throw cause;
    throw cacheError(folder, `${gigabytes(total)} that can be written (${(cause as Error).message})`, cause);
  }
  const made = await verified(folder, tensors);
  if (made === null) throw new Error(`${file} changed while it was finished`);
  return made;
}

const minutes = (ms: number): string => `${Math.round(ms / 60_000)} min`;

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(bytes < 1e9 ? 3 : 1)} GB`;
