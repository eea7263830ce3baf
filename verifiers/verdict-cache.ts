/** Verdicts by everything that decides them, in memory; a program asked for twice at once runs once. */
import { createHash } from "node:crypto";
import type { Verdict } from "../core/index.js";

const MAX_ENTRIES = 20_000;
const MAX_CHARS = 64 * 1024 * 1024;

export class VerdictCache {
  readonly #verdicts = new Map<string, Promise<Verdict>>();
  readonly #sizes = new Map<string, number>();
  #chars = 0;

  /** @param judge - runs the program; what it gives is kept unless it is our own failure */
  async get(key: string, judge: () => Promise<Verdict>): Promise<Verdict> {
    const known = this.#verdicts.get(key);
    if (known) {
      this.#verdicts.delete(key);
      this.#verdicts.set(key, known); // most recently used last
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

  #keep(key: string, verdict: Verdict): void {
    const size = verdict.tests.reduce(
      (sum, test) => sum + test.stdout.length + test.stderr.length + (test.message?.length ?? 0),
      verdict.feedback.length,
    );
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

/** A key of plain values; the order of an object's keys does not matter where the caller builds it. */
export function cacheKey(parts: readonly unknown[]): string {
  return createHash("sha256").update(JSON.stringify(parts)).digest("base64");
}
