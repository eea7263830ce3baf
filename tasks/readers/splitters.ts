/**
 * Bytes into rows, as they come: lines of JSONL, or the elements of one JSON array. Nothing but the row under way is
 * held, and of a row that is too long nothing at all.
 */

/** Longest row that is read: V8 holds no string beyond 2^29 - 24 characters. */
export const MAX_ROW_BYTES = 500_000_000;

/** `bytes` null: the row is longer than the splitter takes. */
export interface RawRow {
  /** Line that it begins on, from 1. */
  readonly line: number;
  readonly bytes: Buffer | null;
}

export interface Splitter {
  push(chunk: Buffer): Iterable<RawRow>;
  /** What stood after the last end of row. @throws SyntaxError where the file stops within its array */
  end(): Iterable<RawRow>;
  /** Line that the next byte stands on. */
  readonly line: number;
}

const [NEWLINE, QUOTE, COMMA, BACKSLASH] = [10, 34, 44, 92] as const;
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [91, 93, 123, 125] as const;
const isSpace = (byte: number): boolean => byte === 32 || (byte >= 9 && byte <= 13);

/** The bytes of one row, gathered over the chunks that it spans. */
class Gathering {
  readonly #most: number;
  #pieces: Buffer[] = [];
  #size = 0;
  constructor(most: number) {
    this.#most = most;
  }

  add(piece: Buffer): void {
    this.#size += piece.length;
    if (this.#size > this.#most) this.#pieces = [];
    else if (piece.length > 0) this.#pieces.push(piece);
  }

  get isEmpty(): boolean {
    return this.#size === 0;
  }

  take(): Buffer | null {
    const bytes = this.#size > this.#most ? null : Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.#size = 0;
    return bytes;
  }
}

/** Rows are lines. */
export class LineSplitter implements Splitter {
  readonly #row: Gathering;
  line = 1;
  constructor(most: number = MAX_ROW_BYTES) {
    this.#row = new Gathering(most);
  }

  *push(chunk: Buffer): Generator<RawRow> {
    let from = 0;
    for (let to = chunk.indexOf(NEWLINE); to >= 0; to = chunk.indexOf(NEWLINE, from)) {
      this.#row.add(chunk.subarray(from, to));
      from = to + 1;
      yield { line: this.line++, bytes: this.#row.take() };
    }
    // A copy: a stream may use its chunk again.
    this.#row.add(Buffer.from(chunk.subarray(from)));
  }

  *end(): Generator<RawRow> {
    if (!this.#row.isEmpty) yield { line: this.line, bytes: this.#row.take() };
  }
}

/** Rows are the elements of one JSON array, on as many lines as they like. */
export class ArraySplitter implements Splitter {
  readonly #row: Gathering;
  line = 1;
  #startLine = 1;
  /** 0 before the array, 1 between its elements' commas, more within an element's own brackets. */
  #depth = 0;
  #isInText = false;
  #isEscaped = false;
  #isOver = false;
  #isWithin = false;
  constructor(most: number = MAX_ROW_BYTES) {
    this.#row = new Gathering(most);
  }

  *push(chunk: Buffer): Generator<RawRow> {
    let from = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (byte === NEWLINE) this.line++;
      if (!this.#isWithin && !isSpace(byte)) {
        if (!this.#begins(byte)) continue;
        from = at;
        this.#startLine = this.line;
        this.#isWithin = true;
      }
      if (this.#isWithin && this.#ends(byte)) {
        this.#row.add(chunk.subarray(from, at));
        this.#isWithin = false;
        yield { line: this.#startLine, bytes: this.#row.take() };
      }
    }
    if (this.#isWithin) this.#row.add(Buffer.from(chunk.subarray(from)));
  }

  /** Whether a byte outside of elements begins one. */
  #begins(byte: number): boolean {
    if (this.#isOver) throw new SyntaxError("something stands after the end of the array");
    if (this.#depth === 0) {
      this.#depth = 1; // the opening bracket, by which the file was known as an array
      return false;
    }
    if (byte === CLOSE_LIST) this.#isOver = true;
    return byte !== CLOSE_LIST && byte !== COMMA;
  }

  /** Whether a byte, which belongs to no element any more, ends the one under way. */
  #ends(byte: number): boolean {
    if (this.#isInText) {
      if (this.#isEscaped) this.#isEscaped = false;
      else if (byte === BACKSLASH) this.#isEscaped = true;
      else if (byte === QUOTE) this.#isInText = false;
      return false;
    }
    if (byte === QUOTE) this.#isInText = true;
    else if (byte === OPEN_LIST || byte === OPEN_OBJECT) this.#depth++;
    else if (this.#depth === 1 && (byte === COMMA || byte === CLOSE_LIST)) {
      if (byte === CLOSE_LIST) this.#isOver = true;
      return true;
    } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) this.#depth--;
    return false;
  }

  end(): readonly RawRow[] {
    if (!this.#isOver) throw new SyntaxError("the file ends within its array");
    return [];
  }
}
