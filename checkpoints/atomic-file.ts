import { randomBytes } from "node:crypto";
import { type FileHandle, open, rename, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";

/** What a file is to hold; pieces are taken one at a time, so that they need not stand in memory together. */
export type Content = string | Uint8Array | Iterable<Uint8Array>;

const piecesOf = (content: Content): Iterable<Uint8Array> =>
  typeof content === "string" ? [Buffer.from(content)] : content instanceof Uint8Array ? [content] : content;

/** One write moves at most 2 GiB. */
const MOST_WRITTEN = 2 ** 30;

async function writeAll(file: FileHandle, content: Content): Promise<void> {
  for (const piece of piecesOf(content)) {
    let done = 0;
    while (done < piece.byteLength) {
      const length = Math.min(piece.byteLength - done, MOST_WRITTEN);
      done += (await file.write(piece, done, length)).bytesWritten;
    }
  }
}

/** A full disk, a folder without permission: the system's own words, with the file, which they lack for a write. */
export class WriteError extends Error {
  override readonly name = "WriteError";
  /** The system's name of it, ENOSPC say. */
  readonly code: string | undefined;
  constructor(path: string, cause: NodeJS.ErrnoException) {
    super(`${path} could not be written: ${cause.message}`, { cause });
    this.code = cause.code;
  }
}

/** Whether the system refused, with a code such as ENOSPC. */
export const isOfTheSystem = (error: unknown): error is NodeJS.ErrnoException =>
  error instanceof Error && (error as NodeJS.ErrnoException).syscall !== undefined;

/** Writes a new file and waits until the disk has it. @throws WriteError */
export async function writeDurably(path: string, content: Content): Promise<void> {
  try {
    const file = await open(path, "w");
    try {
      await writeAll(file, content);
      await file.sync();
    } finally {
      await file.close();
    }
  } catch (cause) {
    throw isOfTheSystem(cause) ? new WriteError(path, cause) : cause;
  }
}

/** Waits until the disk has what was written to a file (or, for a folder, its entries). */
export async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Waits until the disk has the folder's entries: a rename within it survives a power cut only after this. */
export const syncFolder = syncFile;

/** A rename would put a plain file in the place of /dev/null, for everyone on the machine. */
async function refuseDevice(path: string): Promise<void> {
  const found = await stat(path).catch(() => null);
  if (found !== null && !found.isFile()) throw new Error(`${path} is no plain file`);
}

/**
 * Replaces a file: at any moment a reader, or a machine that restarts, sees the old content or the new one, whole.
 * @throws WriteError: the old content stands
 */
export async function replaceFile(path: string, content: Content): Promise<void> {
  await refuseDevice(path);
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
  try {
    await writeDurably(temporary, content);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error instanceof WriteError ? new WriteError(path, error.cause as NodeJS.ErrnoException) : error;
  }
  await syncFolder(dirname(path));
}

/** A file's new content, written as it comes; a reader sees the old content until `commit`. */
export interface Replacement {
  write(text: string): Promise<void>;
  /** Puts the new content in the old one's place, once the disk has it. */
  commit(): Promise<void>;
  /** Leaves the old content, and nothing else; does nothing after `commit`. */
  abandon(): Promise<void>;
}

const GATHERED_CHARS = 1 << 20;

/** As `replaceFile`, for content that does not fit into memory. */
export async function openReplacement(path: string): Promise<Replacement> {
  await refuseDevice(path);
  const temporary = `${path}.${process.pid}-${randomBytes(4).toString("hex")}.tmp`;
  const file = await open(temporary, "wx");
  let gathered: string[] = [];
  let chars = 0;
  let isOpen = true;
  const flush = async (): Promise<void> => {
    // Joined only while that stays small: one string may be near the longest that there is.
    for (const content of chars < 2 * GATHERED_CHARS ? [gathered.join("")] : gathered)
      await writeAll(file, content);
    gathered = [];
    chars = 0;
  };
  const close = async (): Promise<void> => {
    if (isOpen) await file.close();
    isOpen = false;
  };
  return {
    async write(text) {
      gathered.push(text);
      chars += text.length;
      if (chars >= GATHERED_CHARS) await flush();
    },
    async commit() {
      await flush();
      await file.sync();
      await close();
      await rename(temporary, path);
      await syncFolder(dirname(path));
    },
    async abandon() {
      if (isOpen) await close().catch(() => {});
      await rm(temporary, { force: true });
    },
  };
}
