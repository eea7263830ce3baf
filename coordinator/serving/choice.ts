/** One choice of an answer while it is written: its ids, log-probabilities and text, and why it ended. */
import type { FinishReason } from "../../core/index.js";
import type { PolicyTokenizer } from "../../policy/index.js";
import type { StreamedToken } from "../../rollout/index.js";
import { CompletionText } from "./completion-text.js";
import type { Drawing } from "./request-fields.js";

/** Tokens of which the text is known, with it. */
export interface ChoicePart {
  readonly text: string;
  readonly tokens: readonly StreamedToken[];
}

export class Choice {
  readonly index: number;
  finish: FinishReason | null = null;
  /** The stop text, or the id, at which it ended; null: the policy ended its turn, or there was no more room. */
  stopReason: string | number | null = null;
  text = "";
  readonly tokens: StreamedToken[] = [];
  readonly #writer: CompletionText;
  readonly #ownStopIds: readonly number[];
  #told = 0;

  constructor(index: number, tokenizer: PolicyTokenizer, drawing: Drawing, ownStopIds: readonly number[]) {
    this.index = index;
    this.#writer = new CompletionText(tokenizer, drawing.stops, drawing.keepsStop);
    this.#ownStopIds = ownStopIds;
  }

  /** @returns true when a stop text was met: the engine need not go on */
  add(token: StreamedToken): boolean {
    if (this.finish !== null) return false;
    this.tokens.push(token);
    const { text, stop } = this.#writer.push(token.id);
    this.text += text;
    if (stop === null) return false;
    this.finish = "stop";
    this.stopReason = stop;
    return true;
  }

  end(reason: FinishReason): void {
    if (this.finish !== null) return;
    const { text, stop } = this.#writer.end();
    this.text += text;
    this.finish = stop === null ? reason : "stop";
    const last = this.tokens.at(-1)?.id;
    if (stop !== null) this.stopReason = stop;
    else if (reason === "stop" && last !== undefined && !this.#ownStopIds.includes(last))
      this.stopReason = last;
  }

  /** What has come since the last call; null while there is no new text, unless it has ended. */
  part(toldText: number): ChoicePart | null {
    const text = this.text.slice(toldText);
    if (text === "" && this.finish === null) return null;
    const tokens = this.tokens.slice(this.#told);
    this.#told = this.tokens.length;
    return { text, tokens };
  }
}
