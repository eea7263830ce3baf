import { STATUSES } from "../core/index.js";
import type { EvaluationSummary } from "./evaluate-solutions.js";
import { duration, rate } from "./progress-line.js";

/** The summary of an evaluation for a person: pass@k, statuses that occurred, speed. */
export function summaryTable(summary: EvaluationSummary): string {
  const row = (name: string, value: string, more = ""): string =>
    `${name.padEnd(16)}${value.padStart(8)}${more === "" ? "" : `  ${more}`}`;
  const passes = Object.entries(summary)
    .filter((entry): entry is [string, number] => entry[0].startsWith("pass@"))
    .map(([name, value]) => row(name, value.toFixed(4)));
  const statuses = STATUSES.filter((status) => summary.statuses[status] > 0).map((status) => {
    const count = summary.statuses[status];
    return row(status, String(count), `${((100 * count) / summary.samples).toFixed(1)}%`);
  });
  const lines = [row("tasks", String(summary.tasks)), row("samples", String(summary.samples)), ...passes];
  lines.push("", ...statuses, "");
  lines.push(`${duration(summary.seconds)}, ${rate(summary.programs_per_s)} programs/s`);
  if (summary.infrastructure > 0) {
    lines.push(
      `${summary.infrastructure} programs could not be judged, by our own fault: their rows name the reason; run the same command again.`,
    );
  }
  return lines.join("\n");
}
