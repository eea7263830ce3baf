/** The numbers of an evaluation, from its result rows alone. Definitions: docs/eval.md. */
import { STATUSES, type Status } from "../core/index.js";
import { clusteredInterval, type Interval } from "./intervals.js";
import { DEFAULT_KS, passAllK, passAtK, reportedKs, type TaskCount } from "./pass-at-k.js";

/** What the numbers need of a result row. */
export interface CountedRow {
  readonly task_id: string;
  readonly language: string;
  readonly status: Status;
  readonly comparator: string;
}

/** Any set of result rows in numbers; snake_case because it crosses a process. */
export interface Numbers {
  readonly tasks: number;
  /** Rows, infrastructure failures among them. */
  readonly samples: number;
  readonly [passAtK: `pass@${number}`]: number;
  readonly [passAllK: `pass^${number}`]: number;
  /** 95%, by the names of the rates. */
  readonly intervals: Readonly<Record<string, Interval>>;
  readonly statuses: Readonly<Record<Status, number>>;
  /** Never part of a rate. */
  readonly infrastructure: number;
}

/** What `retort eval --json` prints. */
export interface EvaluationSummary extends Numbers {
  readonly languages: Readonly<Record<string, Numbers>>;
  readonly comparators: Readonly<Record<string, Numbers>>;
  /** Tasks of which no program could be judged, by our own fault; they are in no rate. */
  readonly unjudged_tasks: readonly string[];
  /** What this host enforces. */
  readonly isolation: unknown;
  /** Wall time of this call. */
  readonly seconds: number;
  /** Programs judged by this call; the others' rows were there. */
  readonly judged_now: number;
  /** null where this call had nothing to judge. */
  readonly programs_per_s: number | null;
}

/** Judged and passed programs of each (task, language) pair, in order of appearance. */
export function countsOf(rows: Iterable<CountedRow>): (TaskCount & { readonly language: string })[] {
  const counts = new Map<string, { task: string; language: string; judged: number; passed: number }>();
  for (const { task_id: task, language, status } of rows) {
    const pair = JSON.stringify([task, language]);
    const count = counts.get(pair) ?? { task, language, judged: 0, passed: 0 };
    if (status !== "infrastructure") count.judged++;
    if (status === "accepted") count.passed++;
    counts.set(pair, count);
  }
  return [...counts.values()];
}

/** pass@k and pass^k, averaged over (task, language) pairs that have a judged program, and their intervals. */
function rates(counts: readonly TaskCount[], ks: readonly number[]): Pick<Numbers, "intervals"> {
  const means: Record<string, number> = {};
  const intervals: Record<string, Interval> = {};
  const judged = counts.filter((count) => count.judged > 0);
  const estimators = [
    ["pass@", passAtK],
    ["pass^", passAllK],
  ] as const;
  for (const [name, estimate] of estimators) {
    for (const k of reportedKs(counts, ks)) {
      const values = judged.map(({ task, judged: n, passed }) => ({
        task,
        value: estimate(n, passed, k),
        programs: n,
      }));
      means[`${name}${k}`] = values.reduce((sum, { value }) => sum + value, 0) / values.length;
      intervals[`${name}${k}`] = clusteredInterval(values);
    }
  }
  return { ...means, intervals };
}

export function numbersOf(rows: readonly CountedRow[], ks: readonly number[] = DEFAULT_KS): Numbers {
  const statuses = Object.fromEntries(STATUSES.map((status) => [status, 0])) as Record<Status, number>;
  for (const { status } of rows) statuses[status]++;
  const counts = countsOf(rows);
  return {
    tasks: new Set(counts.map(({ task }) => task)).size,
    samples: rows.length,
    ...rates(counts, ks),
    statuses,
    infrastructure: statuses.infrastructure,
  };
}

function numbersBy(
  key: "language" | "comparator",
  rows: readonly CountedRow[],
  ks: readonly number[],
): Record<string, Numbers> {
  const groups = new Map<string, CountedRow[]>();
  for (const row of rows) {
    const group = groups.get(row[key]);
    if (group === undefined) groups.set(row[key], [row]);
    else group.push(row);
  }
  const names = [...groups.keys()].sort();
  return Object.fromEntries(names.map((name) => [name, numbersOf(groups.get(name)!, ks)]));
}

/** Tasks without a single judged program. */
function unjudgedTasks(counts: readonly TaskCount[]): string[] {
  const judged = new Set(counts.filter((count) => count.judged > 0).map(({ task }) => task));
  return [...new Set(counts.map(({ task }) => task))].filter((task) => !judged.has(task));
}

/**
 * @param rows - everything that was asked for and has a row
 * @param now - what this call did: programs judged, seconds taken
 */
export function summarise(
  rows: readonly CountedRow[],
  now: { readonly judged: number; readonly seconds: number; readonly isolation: unknown },
  ks: readonly number[] = DEFAULT_KS,
): EvaluationSummary {
  return {
    ...numbersOf(rows, ks),
    languages: numbersBy("language", rows, ks),
    comparators: numbersBy("comparator", rows, ks),
    unjudged_tasks: unjudgedTasks(countsOf(rows)),
    isolation: now.isolation,
    seconds: now.seconds,
    judged_now: now.judged,
    programs_per_s: now.judged > 0 ? now.judged / now.seconds : null,
  };
}
