/** Files of JSON lines, read in pieces: a result file may be larger than the longest string. */
import { closeSync, openSync, readSync } from "node:fs";

const PIECE_BYTES = 1 << 20;
const NEWLINE = 0x0a;

/** A line without its end, and where it stands in the file. `isWhole` is false for a last line without newline. */
export interface Line {
  readonly text: string;
  readonly start: number;
  /** Of the byte after it, its newline included. */
  readonly end: number;
  readonly isWhole: boolean;
}

/** The lines of a file. Text after the last newline is a line too, cut by whatever ended its writer. */
export function* linesOf(file: string): Generator<Line> {
  const fd = openSync(file, "r");
  let pieces: Buffer[] = [];
  let start = 0;
  let at = 0;
  const line = (end: number, isWhole: boolean): Line => {
    const text = (pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces)).toString("utf8");
    const made = { text, start, end, isWhole };
    pieces = [];
    start = end;
    return made;
  };
  try {
    for (;;) {
      const piece = Buffer.allocUnsafe(PIECE_BYTES);
      const size = readSync(fd, piece, 0, PIECE_BYTES, at);
      if (size === 0) break;
      for (let from = 0; from < size; ) {
        const newline = piece.subarray(0, size).indexOf(NEWLINE, from);
        const to = newline < 0 ? size : newline;
        pieces.push(piece.subarray(from, to));
        if (newline >= 0) yield line(at + newline + 1, true);
        from = to + 1;
      }
      at += size;
    }
  } finally {
    closeSync(fd);
  }
  if (at > start) yield line(at, false);
}

/** A part of a file, as `Line` tells it. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** The bytes of some parts of a file, one after the other; one part at a time is in memory. */
export function* rangesOf(file: string, ranges: Iterable<Range>): Generator<Uint8Array> {
  const fd = openSync(file, "r");
  try {
    for (const { start, end } of ranges) {
      const bytes = Buffer.allocUnsafe(end - start);
      let done = 0;
      while (done < bytes.length) {
        const size = readSync(fd, bytes, done, bytes.length - done, start + done);
        if (size === 0) throw new Error(`${file} became shorter while it was read`);
        done += size;
      }
      yield bytes;
    }
  } finally {
    closeSync(fd);
  }
}
