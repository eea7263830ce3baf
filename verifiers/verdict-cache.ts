/** Verdicts by everything that decides them, in memory; a program asked for twice at once runs once. */
import type { Verdict } from "../core/index.js";

const MAX_ENTRIES = 20_000;
const MAX_CHARS = 64 * 1024 * 1024;
/** What a test's record takes beside its texts. */
const RECORD_CHARS = 200;

export class VerdictCache {
  readonly #verdicts = new Map<string, Promise<Verdict>>();
  readonly #sizes = new Map<string, number>();
  #chars = 0;

  /** @param judge - runs the program; what it gives is kept unless it is our own failure */
  async get(key: string, judge: () => Promise<Verdict>): Promise<Verdict> {
    const known = this.#verdicts.get(key);
    if (known) {
      this.#touch(key);
      const verdict = await known;
      return verdict.status === "infrastructure" ? verdict : { ...verdict, cached: true };
    }
    const fresh = judge();
    this.#verdicts.set(key, fresh);
    try {
      const verdict = await fresh;
      if (verdict.status === "infrastructure") this.#verdicts.delete(key);
      else this.#keep(key, verdict);
      return verdict;
    } catch (error) {
      this.#verdicts.delete(key);
      throw error;
    }
  }

  /** Moves it to the end of those that are dropped first. */
  #touch(key: string): void {
    const size = this.#sizes.get(key);
    if (size === undefined) return; // not judged yet
    this.#sizes.delete(key);
    this.#sizes.set(key, size);
  }

  #keep(key: string, verdict: Verdict): void {
    const size = sizeOf(verdict);
    this.#sizes.set(key, size);
    this.#chars += size;
    for (const [oldest, chars] of this.#sizes) {
      if (this.#sizes.size <= MAX_ENTRIES && this.#chars <= MAX_CHARS) break;
      this.#sizes.delete(oldest);
      this.#verdicts.delete(oldest);
      this.#chars -= chars;
    }
  }
}

function sizeOf({ tests, feedback }: Verdict): number {
  return tests.reduce(
    (sum, { stdout, stderr, message = "" }) =>
      sum + RECORD_CHARS + stdout.length + stderr.length + message.length,
    RECORD_CHARS + feedback.length,
  );
}
