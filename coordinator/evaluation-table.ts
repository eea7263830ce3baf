/** The summary of an evaluation for a person. */
import { STATUSES } from "../core/index.js";
import type { EvaluationSummary, Numbers } from "./evaluation-summary.js";
import type { Interval } from "./intervals.js";
import { duration, rate } from "./progress-line.js";

const NAME = 16;
const row = (name: string, value: string, more = ""): string =>
  `${name.padEnd(NAME)}${value.padStart(8)}${more === "" ? "" : `  ${more}`}`;

const shownInterval = ([low, high]: Interval): string => `[${low.toFixed(4)}, ${high.toFixed(4)}]`;

/** pass@k and pass^k with their intervals; pass^1 is pass@1, so it is not shown twice. */
export const ratesOf = (numbers: Numbers): { name: string; value: number; interval: Interval }[] =>
  Object.entries(numbers.intervals)
    .filter(([name]) => name !== "pass^1")
    .map(([name, interval]) => ({ name, value: numbers[name as `pass@${number}`]!, interval }));

/** One line a language, or comparator; with one alone there is nothing to compare. */
function breakdown(title: string, groups: Readonly<Record<string, Numbers>>): string[] {
  const entries = Object.entries(groups);
  if (entries.length < 2) return [];
  const width = Math.max(NAME, ...entries.map(([name]) => name.length + 2));
  const lines = entries.map(([name, numbers]) => {
    const first = numbers.intervals["pass@1"];
    const passed =
      first === undefined
        ? "      -  none judged"
        : `${numbers["pass@1"]!.toFixed(4).padStart(7)}  ${shownInterval(first)}`;
    return `${name.padEnd(width)}${String(numbers.samples).padStart(8)}${passed.padStart(28)}`;
  });
  return ["", `${title.padEnd(width)} samples  pass@1`, ...lines];
}

const MOST_NAMED = 5;

function unjudged({ infrastructure, unjudged_tasks: tasks }: EvaluationSummary): string[] {
  if (infrastructure === 0) return [];
  const lines = [
    `${infrastructure} programs could not be judged, by our own fault: their rows name the reason; run the same command again.`,
  ];
  if (tasks.length > 0) {
    const named = tasks.slice(0, MOST_NAMED).join(", ");
    const more = tasks.length > MOST_NAMED ? ` and ${tasks.length - MOST_NAMED} more` : "";
    lines.push(`${tasks.length} tasks have no verdict at all and are in no rate: ${named}${more}`);
  }
  return lines;
}

/** Rates with 95% intervals, statuses that occurred, languages and comparators, speed. */
export function summaryTable(summary: EvaluationSummary): string {
  const statuses = STATUSES.filter((status) => summary.statuses[status] > 0).map((status) => {
    const count = summary.statuses[status];
    return row(status, String(count), `${((100 * count) / summary.samples).toFixed(1)}%`);
  });
  const speed =
    summary.programs_per_s === null
      ? "every row was there already"
      : `${summary.judged_now} judged now, ${rate(summary.programs_per_s)} programs/s`;
  return [
    row("tasks", String(summary.tasks)),
    row("samples", String(summary.samples)),
    ...ratesOf(summary).map(({ name, value, interval }) =>
      row(name, value.toFixed(4), `95% ${shownInterval(interval)}`),
    ),
    "",
    ...statuses,
    ...breakdown("language", summary.languages),
    ...breakdown("comparator", summary.comparators),
    "",
    `${duration(summary.seconds)}, ${speed}; compared by ${Object.keys(summary.comparators).join(", ")}`,
    ...unjudged(summary),
  ].join("\n");
}
