/** The text of a completion while it is written: whole characters only, and nothing of a stop text before its time. */
import type { PolicyTokenizer } from "../../policy/index.js";

/** What a decoder gives for bytes that are no whole character yet. */
const HALF = "\uFFFD";
/** A character is at most four bytes, a token at least one: more tokens than this are no half character but broken bytes. */
const MOST_HELD_TOKENS = 8;

export interface TextPiece {
  /** Text that may be shown now; it is never taken back. */
  readonly text: string;
  /** The stop text that was met; the completion ends here. */
  readonly stop: string | null;
}

/**
 * Decodes token by token. Each piece is the difference of two short decodings, since the text of a token may depend on the
 * one before it (leading spaces, characters of several tokens).
 */
export class CompletionText {
  readonly #tokenizer: Pick<PolicyTokenizer, "decode">;
  readonly #stops: readonly string[];
  readonly #keepsStop: boolean;
  readonly #ids: number[] = [];
  /** Tokens before this are decoded and out of the window. */
  #windowStart = 0;
  /** Tokens before this have given their text. */
  #read = 0;
  /** Decoded, not yet shown: it may be the beginning of a stop text. */
  #held = "";

  constructor(tokenizer: Pick<PolicyTokenizer, "decode">, stops: readonly string[], keepsStop: boolean) {
    this.#tokenizer = tokenizer;
    this.#stops = stops;
    this.#keepsStop = keepsStop;
  }

  /** The piece that a further token gives; often empty. */
  push(id: number): TextPiece {
    this.#ids.push(id);
    this.#held += this.#decodeNew(false);
    return this.#cut(false);
  }

  /** What is left when the completion has ended. */
  end(): TextPiece {
    this.#held += this.#decodeNew(true);
    return this.#cut(true);
  }

  #decodeNew(isLast: boolean): string {
    const before = this.#tokenizer.decode(this.#ids.slice(this.#windowStart, this.#read));
    const now = this.#tokenizer.decode(this.#ids.slice(this.#windowStart));
    const isHalf = now.endsWith(HALF) && this.#ids.length - this.#read < MOST_HELD_TOKENS;
    if (isHalf && !isLast) return "";
    this.#windowStart = this.#read;
    this.#read = this.#ids.length;
    // Broken bytes that were shown may have held the beginning of a character: its second half alone is no text.
    return now.slice(before.length).replace(/^[\uDC00-\uDFFF]/, "");
  }

  #cut(isLast: boolean): TextPiece {
    const found = this.#stops
      .map((stop) => ({ stop, at: this.#held.indexOf(stop) }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at - b.at || b.stop.length - a.stop.length)[0];
    if (found !== undefined) {
      const text = this.#held.slice(0, found.at + (this.#keepsStop ? found.stop.length : 0));
      this.#held = "";
      return { text, stop: found.stop };
    }
    const keep = isLast ? 0 : this.#possibleStop();
    const text = this.#held.slice(0, this.#held.length - keep);
    this.#held = this.#held.slice(this.#held.length - keep);
    return { text, stop: null };
  }

  /** Length of the longest end of the held text that begins a stop text. */
  #possibleStop(): number {
    let longest = 0;
    for (const stop of this.#stops)
      for (let length = Math.min(stop.length - 1, this.#held.length); length > longest; length--)
        if (this.#held.endsWith(stop.slice(0, length))) longest = length;
    return longest;
  }
}
