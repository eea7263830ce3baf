/** What a rewriting kept, refused and cost. */
import { REASONS, type Reason } from "../../tasks/index.js";
import type { Reply } from "./endpoint.js";
import { REWRITE_REASONS, type RewriteReason } from "./prove.js";
import type { Rewriting } from "./rewrite-one.js";

/** In any currency, for a million tokens. */
export interface Prices {
  readonly prompt?: number;
  readonly completion?: number;
}

/** An exercise that did not become a task, as it stands in the report. */
export interface UnkeptRow {
  readonly at: string;
  readonly id?: string;
  /** no_answer_came: the endpoint's fault or ours, and asked again by the next run. */
  readonly reason: Reason | RewriteReason | "no_answer_came";
  readonly message: string;
  readonly attempts?: number;
}

/** Printed by `--json`; snake_case because it crosses a process. */
export interface RewriteSummary {
  readonly rows: number;
  /** Became tasks now. */
  readonly rewritten: number;
  /** Were tasks of the output already. */
  readonly known: number;
  readonly refused: Readonly<Record<string, number>>;
  /** No answer came for them; the next run asks again. */
  readonly unanswered: number;
  /** Of those rewritten now: how many at the first attempt, the second, and so on. */
  readonly attempts: readonly number[];
  /** Requests sent, those tried again included. */
  readonly requests: number;
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  /** null: no prices were given. */
  readonly cost: number | null;
}

const WORDS: Readonly<Record<string, string>> = { ...REASONS, ...REWRITE_REASONS };
const SHOWN_ROWS = 3;

export class RewriteTally {
  readonly rows: UnkeptRow[] = [];
  readonly #prices: Prices;
  readonly #attempts: number[] = [];
  #known = 0;
  #rewritten = 0;
  #promptTokens = 0;
  #completionTokens = 0;

  constructor(prices: Prices) {
    this.#prices = prices;
  }

  add(at: string, id: string, result: Rewriting): void {
    if (!("task" in result)) {
      this.rows.push({ at, id, ...result });
      return;
    }
    this.#rewritten++;
    const { attempts } = result;
    while (this.#attempts.length < attempts) this.#attempts.push(0);
    this.#attempts[attempts - 1]!++;
  }

  addKnown(): void {
    this.#known++;
  }

  addRefusedRow(row: UnkeptRow): void {
    this.rows.push(row);
  }

  addFailure(at: string, id: string, message: string): void {
    this.rows.push({ at, id, reason: "no_answer_came", message });
  }

  addReply({ promptTokens, completionTokens }: Reply): void {
    this.#promptTokens += promptTokens;
    this.#completionTokens += completionTokens;
  }

  get done(): number {
    return this.rows.length + this.#known + this.#rewritten;
  }

  summary(requests: number): RewriteSummary {
    const refused: Record<string, number> = {};
    for (const { reason } of this.rows) {
      if (reason !== "no_answer_came") refused[reason] = (refused[reason] ?? 0) + 1;
    }
    const { prompt, completion } = this.#prices;
    const isPriced = prompt !== undefined || completion !== undefined;
    return {
      rows: this.done,
      rewritten: this.#rewritten,
      known: this.#known,
      refused,
      unanswered: this.rows.filter(({ reason }) => reason === "no_answer_came").length,
      attempts: this.#attempts,
      requests,
      prompt_tokens: this.#promptTokens,
      completion_tokens: this.#completionTokens,
      cost: isPriced
        ? (this.#promptTokens * (prompt ?? 0) + this.#completionTokens * (completion ?? 0)) / 1e6
        : null,
    };
  }
}

/** The summary, and the rows that it counts. */
export interface RewriteResult {
  readonly summary: RewriteSummary;
  readonly rows: readonly UnkeptRow[];
}

function firstRows(rows: readonly UnkeptRow[], reason: string): string[] {
  const line = (message: string): string => message.split("\n").slice(0, 4).join(" | ");
  return rows
    .filter((row) => row.reason === reason)
    .slice(0, SHOWN_ROWS)
    .map(({ at, id, message }) => `  ${at}${id === undefined ? "" : ` ${id}`}: ${line(message)}`);
}

/** The result as a person reads it. */
export function summaryLines({ summary, rows }: RewriteResult): string[] {
  const { rewritten, known, refused, unanswered, attempts, cost } = summary;
  const tries = attempts.map((count, index) => `${count} at attempt ${index + 1}`).join(", ");
  const before = known > 0 ? `, ${known} of them from before` : "";
  const reasons = Object.entries(refused).flatMap(([reason, count]) => [
    `${reason} ${count}: ${WORDS[reason]}`,
    ...firstRows(rows, reason),
  ]);
  const open = [
    `${unanswered} got no answer; run again to ask for them`,
    ...firstRows(rows, "no_answer_came"),
  ];
  return [
    `${rewritten + known} of ${summary.rows} exercises are tasks${before}${tries === "" ? "" : ` (${tries})`}`,
    ...reasons,
    ...(unanswered > 0 ? open : []),
    `${summary.requests} requests, ${summary.prompt_tokens} tokens in, ${summary.completion_tokens} tokens out${cost === null ? "" : `, cost ${cost.toFixed(4)}`}`,
  ];
}
