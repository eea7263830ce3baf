/** What a conversion kept and refused, counted as it goes, and told in words. */
import type { ConvertedRow, Reason } from "../tasks/index.js";
import { REASONS } from "../tasks/index.js";

/** Of each reason, so many rows are told in the summary; the report has all. */
const SHOWN_ROWS = 3;

export interface ReasonCount {
  readonly count: number;
  /** The first rows, as file:line. */
  readonly first: readonly { readonly at: string; readonly id?: string; readonly message: string }[];
}

/** Printed by `--json`; snake_case because it crosses a process. */
export interface ConversionSummary {
  readonly files: readonly string[];
  readonly formats: readonly string[];
  readonly rows: number;
  readonly kept: number;
  readonly tests: number;
  /** Tasks by language; "" for those that name none. */
  readonly languages: Readonly<Record<string, number>>;
  readonly refused: Readonly<Partial<Record<Reason, ReasonCount>>>;
  /** Tests left out of tasks that were kept. */
  readonly dropped_tests: Readonly<Partial<Record<Reason, ReasonCount>>>;
}

type Counts = Map<Reason, { count: number; first: ReasonCount["first"][number][] }>;

function count(counts: Counts, reason: Reason, row: ReasonCount["first"][number]): void {
  const of = counts.get(reason) ?? { count: 0, first: [] };
  of.count++;
  if (of.first.length < SHOWN_ROWS) of.first.push(row);
  counts.set(reason, of);
}

/** The most frequent first. */
const sorted = (counts: Counts): Partial<Record<Reason, ReasonCount>> =>
  Object.fromEntries([...counts].sort(([, a], [, b]) => b.count - a.count));

/** Counts rows as they come. */
export class ConversionTally {
  readonly #refused: Counts = new Map();
  readonly #dropped: Counts = new Map();
  readonly #languages = new Map<string, number>();
  readonly #formats = new Set<string>();
  #rows = 0;
  #kept = 0;
  #tests = 0;

  add(row: ConvertedRow): void {
    this.#rows++;
    const { at } = row;
    if (!("task" in row)) {
      const { id, reason, message } = row;
      count(this.#refused, reason, { at, ...(id === undefined ? {} : { id }), message });
      return;
    }
    const { task, dropped, format } = row;
    this.#kept++;
    this.#tests += task.tests.length;
    this.#formats.add(format);
    this.#languages.set(task.language ?? "", (this.#languages.get(task.language ?? "") ?? 0) + 1);
    for (const { test, reason, message } of dropped) {
      count(this.#dropped, reason, { at, id: task.id, message: `test ${test}: ${message}` });
    }
  }

  get kept(): number {
    return this.#kept;
  }

  get languages(): readonly string[] {
    return [...this.#languages.keys()].filter((name) => name !== "");
  }

  summary(files: readonly string[]): ConversionSummary {
    return {
      files,
      formats: [...this.#formats],
      rows: this.#rows,
      kept: this.#kept,
      tests: this.#tests,
      languages: Object.fromEntries(this.#languages),
      refused: sorted(this.#refused),
      dropped_tests: sorted(this.#dropped),
    };
  }
}

function reasonLines(counts: Readonly<Partial<Record<Reason, ReasonCount>>>): string[] {
  return Object.entries(counts).flatMap(([reason, { count, first }]) => [
    `  ${reason} ${count}: ${REASONS[reason as Reason]}`,
    ...first.map(({ at, message }) => `    ${at}: ${message}`),
    ...(count > first.length ? [`    ... and ${count - first.length} more`] : []),
  ]);
}

const total = (counts: Readonly<Partial<Record<Reason, ReasonCount>>>): number =>
  Object.values(counts).reduce((sum, { count }) => sum + count, 0);

/** The summary as a person reads it. */
export function summaryLines(summary: ConversionSummary): string[] {
  const { rows, kept, tests, refused, dropped_tests, formats } = summary;
  return [
    `${kept} of ${rows} rows kept (${formats.join(", ") || "no format"}), with ${tests} tests`,
    ...(total(dropped_tests) > 0
      ? [`${total(dropped_tests)} tests left out`, ...reasonLines(dropped_tests)]
      : []),
    ...(total(refused) > 0 ? [`${total(refused)} rows refused`, ...reasonLines(refused)] : []),
  ];
}
