/** The rows of a file as text: JSONL or one JSON array, plain or gzipped, in pieces. */
import { createReadStream } from "node:fs";
import { createGunzip } from "node:zlib";
import { ConfigError } from "../../core/index.js";
import type { Reason } from "./refusals.js";
import { ArraySplitter, LineSplitter, MAX_ROW_BYTES, type RawRow, type Splitter } from "./splitters.js";

const CHUNK_BYTES = 1 << 20;

/** A row's text, or why it has none; `at` is "file:line". */
export type SourceRow =
  | { readonly at: string; readonly text: string }
  | { readonly at: string; readonly reason: Reason; readonly message: string };

export interface SourceOptions {
  /** Called with the bytes read off the disk since the last call. */
  readonly onBytes?: (bytes: number) => void;
  readonly maxRowBytes?: number;
}

/** First bytes of files that people take for JSON, and how they become it. */
const FOREIGN: readonly { readonly magic: string; readonly is: string; readonly fix: string }[] = [
  {
    magic: "PAR1",
    is: "Parquet",
    fix: "Convert it first: python3 -c 'import sys, pandas; pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], orient=\"records\", lines=True)' in.parquet out.jsonl",
  },
  { magic: "\x28\xb5\x2f\xfd", is: "zstd", fix: "Unpack it first: zstd -d FILE" },
  { magic: "\xfd7zXZ", is: "xz", fix: "Unpack it first: xz -dk FILE" },
  { magic: "BZh", is: "bzip2", fix: "Unpack it first: bzip2 -dk FILE" },
  { magic: "PK\x03\x04", is: "zip", fix: "Unpack it first: unzip FILE" },
  { magic: "\xff\xfe", is: "UTF-16", fix: "Save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE" },
  { magic: "\xfe\xff", is: "UTF-16", fix: "Save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE" },
];
const BYTE_ORDER_MARK = "\xef\xbb\xbf";
const GZIP = "\x1f\x8b";
const LONGEST_MAGIC = 6;

/** @throws ConfigError for a file that is no text */
function checkMagic(file: string, head: string): void {
  const foreign = FOREIGN.find(({ magic }) => head.startsWith(magic));
  if (foreign === undefined) return;
  throw new ConfigError({ at: file, need: `JSON or JSONL; this is ${foreign.is}`, fix: foreign.fix });
}

/** Chunks of a stream, the first of them long enough to know the file by. */
async function* withHead(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let head: Buffer = Buffer.alloc(0);
  let isKnown = false;
  for await (const chunk of chunks) {
    if (isKnown) {
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    isKnown = head.length >= LONGEST_MAGIC;
    if (isKnown) yield head;
  }
  if (!isKnown) yield head;
}

async function* diskChunks(file: string, onBytes: (bytes: number) => void): AsyncGenerator<Buffer> {
  const stream = createReadStream(file, { highWaterMark: CHUNK_BYTES });
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      onBytes(chunk.length);
      yield chunk;
    }
  } catch (cause) {
    throw new ConfigError({ at: file, need: `a file that can be read (${reasonOf(cause)})`, cause });
  }
}

const reasonOf = (cause: unknown): string =>
  (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;

async function* unzipped(first: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  const feed = async (): Promise<void> => {
    for (let chunk: Buffer | null = first; chunk !== null && !gunzip.destroyed; ) {
      if (!gunzip.write(chunk)) {
        await new Promise<void>((resolve) => {
          gunzip.once("drain", resolve);
          gunzip.once("close", resolve);
        });
      }
      const next: IteratorResult<Buffer> = await rest.next();
      chunk = next.done ? null : next.value;
    }
    if (gunzip.destroyed)
      await rest.return?.(); // nobody reads on: the file is let go
    else gunzip.end();
  };
  void feed().catch((error: Error) => gunzip.destroy(error));
  yield* gunzip as AsyncIterable<Buffer>;
}

function textOf(row: RawRow, at: string, most: number): SourceRow | null {
  if (row.bytes === null) {
    return { at, reason: "too_large", message: `a row is read up to ${Math.floor(most / 1e6)} MB` };
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(row.bytes);
  } catch {
    return { at, reason: "not_utf8", message: "bytes that are not UTF-8" };
  }
  return text.trim() === "" ? null : { at, text };
}

/** How a file's rows are told apart: an array where it begins as one. */
function splitterFor(start: Buffer, most: number): Splitter {
  const firstMark = start.find((byte) => byte > 32);
  return firstMark === 0x5b ? new ArraySplitter(most) : new LineSplitter(most);
}

/**
 * The rows of a file. Blank lines, a byte order mark and Windows line ends are no mistakes.
 * @throws ConfigError for a file that cannot be read, that is no text, or that is cut short
 */
export async function* sourceRows(file: string, options: SourceOptions = {}): AsyncGenerator<SourceRow> {
  const most = options.maxRowBytes ?? MAX_ROW_BYTES;
  const disk = withHead(diskChunks(file, options.onBytes ?? (() => {})));
  const { value: first = Buffer.alloc(0) } = (await disk.next()) as { value?: Buffer };
  const isZipped = first.toString("latin1", 0, 2) === GZIP;
  const plain = isZipped ? withHead(unzipped(first, disk)) : startingWith(first, disk);
  let splitter: Splitter | null = null;
  const located = function* (rows: Iterable<RawRow>): Generator<SourceRow> {
    for (const raw of rows) {
      const row = textOf(raw, `${file}:${raw.line}`, most);
      if (row !== null) yield row;
    }
  };
  try {
    for await (const chunk of plain) {
      if (splitter === null) {
        const head = chunk.toString("latin1", 0, LONGEST_MAGIC);
        checkMagic(file, head);
        const start = head.startsWith(BYTE_ORDER_MARK) ? chunk.subarray(BYTE_ORDER_MARK.length) : chunk;
        splitter = splitterFor(start, most);
        yield* located(splitter.push(start));
      } else yield* located(splitter.push(chunk));
    }
    if (splitter !== null) yield* located(splitter.end());
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const isZlib = /^Z_/.test((cause as NodeJS.ErrnoException).code ?? "");
    if (!isZlib && !(cause instanceof SyntaxError)) throw cause;
    const what = isZlib ? "a whole gzip file" : "one JSON array, or JSONL";
    throw new ConfigError({
      at: `${file}:${splitter?.line ?? 1}`,
      need: `${what} (${(cause as Error).message})`,
      fix: "It was probably cut short on its way here: fetch it again.",
      cause,
    });
  }
}

async function* startingWith(first: Buffer, rest: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  if (first.length > 0) yield first;
  yield* rest;
}
