import type { Status } from "../core/index.js";
import type { ProgressState } from "./progress-line.js";
import type { StepRow } from "./rows.js";

/** How many of the last steps the shown rates are a mean of: one step of a few rollouts jumps too much to read. */
const WINDOW = 10;

/** Sums of a run's steps for the progress display. */
export interface Tally {
  /** Takes a step's row and gives what to show. */
  add(row: StepRow): Partial<ProgressState>;
}

export function createTally(): Tally {
  const statuses: Partial<Record<Status, number>> = {};
  const recent: StepRow[] = [];
  return {
    add: (row) => {
      for (const [status, count] of Object.entries(row.statuses) as [Status, number][]) {
        statuses[status] = (statuses[status] ?? 0) + count;
      }
      recent.push(row);
      if (recent.length > WINDOW) recent.shift();
      const mean = (pick: (row: StepRow) => number): number =>
        recent.reduce((sum, r) => sum + pick(r), 0) / recent.length;
      // null in a step where nothing was judged.
      const known = (name: "reward" | "passRate", key: "reward" | "pass_rate"): Partial<ProgressState> => {
        const values = recent.flatMap((r) => (r[key] === null ? [] : [Number(r[key])]));
        return values.length === 0 ? {} : { [name]: values.reduce((a, b) => a + b) / values.length };
      };
      return {
        done: row.step,
        ...known("reward", "reward"),
        ...known("passRate", "pass_rate"),
        loss: Number(row.loss),
        statuses: { ...statuses },
        tokensPerSecond: mean((r) => r.timing.sampled_tokens_per_s ?? 0),
        programsPerSecond: mean((r) => r.timing.programs_per_s ?? 0),
      };
    },
  };
}
