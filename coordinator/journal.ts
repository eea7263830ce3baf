import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { ConfigError } from "../core/index.js";

/** A row could not be written; those before it stand. */
export class JournalError extends Error {
  override readonly name = "JournalError";
  constructor(path: string, cause: unknown) {
    super(`${path} could not be written: ${(cause as Error).message}. What it holds is kept.`, { cause });
  }
}

/** A file of JSON lines that only grows, and can be cut back to a length that a checkpoint recorded. */
export class Journal {
  readonly path: string;
  #fd: number | null = null;
  #bytes: number;

  constructor(path: string) {
    this.path = path;
    this.#bytes = existsSync(path) ? statSync(path).size : 0;
  }

  /**
   * Appends rows, each as one line, in a single write. Where the disk is full, what did not fit is taken away again.
   * @throws JournalError
   */
  append(...rows: readonly unknown[]): void {
    if (rows.length === 0) return;
    this.#fd ??= openSync(this.path, "a");
    const text = Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
    let done = 0;
    try {
      while (done < text.length) done += writeSync(this.#fd, text, done);
    } catch (cause) {
      ftruncateSync(this.#fd, this.#bytes);
      throw new JournalError(this.path, cause);
    }
    this.#bytes += text.length;
  }

  /** Length in bytes, after the disk has them: safe to record in a checkpoint. Lets the file go: a run has one a step. */
  mark(): number {
    if (this.#fd !== null) fsyncSync(this.#fd);
    this.close();
    return this.#bytes;
  }

  /**
   * Cuts the file back to a mark.
   * @throws ConfigError when the file is shorter than its mark: rows were lost, which only a hand or a broken disk does
   */
  cutBack(mark: number): void {
    if (this.#bytes < mark) {
      throw new ConfigError({
        at: this.path,
        need: `the ${mark} bytes that the checkpoint recorded, but it has ${this.#bytes}`,
        fix: "Rows are missing: restore the file, or start the run again without --resume.",
      });
    }
    if (this.#bytes > mark) truncateSync(this.path, mark);
    this.#bytes = mark;
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }
}
