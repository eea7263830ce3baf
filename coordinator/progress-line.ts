/** The words of a progress display: pure, so that a terminal and a log say the same. */
import { STATUSES, type Status } from "../core/index.js";

/** What is known of the stage under way; absent fields are not shown. */
export interface ProgressState {
  readonly done: number;
  /** Mean reward of the step's samples. */
  readonly reward?: number;
  /** Share of accepted programs, 0 to 1. */
  readonly passRate?: number;
  readonly loss?: number;
  /** Verdicts so far in this stage. */
  readonly statuses?: Readonly<Partial<Record<Status, number>>>;
  readonly tokensPerSecond?: number;
  readonly programsPerSecond?: number;
}

/** 75 -> "1:15", 3700 -> "1:01:40". */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (n: number): string => String(n).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** 12345 -> "12.3k", 7.25 -> "7.3". */
export const rate = (perSecond: number): string =>
  perSecond >= 1000
    ? `${(perSecond / 1000).toFixed(1)}k`
    : perSecond >= 100
      ? perSecond.toFixed(0)
      : perSecond.toFixed(1);

const BAR = 20;

/** Stage, bar, steps, time left (time taken once it is done). */
export function progressHead(at: {
  readonly stage: string;
  readonly done: number;
  readonly total: number;
  readonly elapsedMs: number;
}): string {
  const { stage, done, total } = at;
  const share = total > 0 ? Math.min(1, done / total) : 0;
  const filled = Math.round(share * BAR);
  const bar = `${"#".repeat(filled)}${".".repeat(BAR - filled)}`;
  const seconds = at.elapsedMs / 1000;
  const clock =
    share >= 1
      ? `took ${duration(seconds)}`
      : done > 0
        ? `${duration((seconds / done) * (total - done))} left`
        : "";
  return `${stage.padEnd(12)} [${bar}] ${done}/${total}  ${clock}`.trimEnd();
}

/** "accepted 12, wrong_answer 3": the statuses that occurred, in their fixed order. */
export const statusMix = (statuses: Readonly<Partial<Record<Status, number>>>): string =>
  STATUSES.filter((status) => (statuses[status] ?? 0) > 0)
    .map((status) => `${status} ${statuses[status]}`)
    .join(", ");

/** Reward, pass rate, loss, verdicts, speed: whatever is known. */
export function progressDetail(state: ProgressState): string {
  const parts = [
    state.reward === undefined ? "" : `reward ${state.reward.toFixed(2)}`,
    state.passRate === undefined ? "" : `pass ${(100 * state.passRate).toFixed(0)}%`,
    state.loss === undefined ? "" : `loss ${state.loss.toFixed(3)}`,
    state.tokensPerSecond === undefined ? "" : `${rate(state.tokensPerSecond)} tokens/s`,
    state.programsPerSecond === undefined ? "" : `${rate(state.programsPerSecond)} programs/s`,
    state.statuses === undefined ? "" : statusMix(state.statuses),
  ];
  return parts.filter((part) => part !== "").join("  ");
}

/** Whether a log deserves another line: at the end, each tenth of the way but not more often than once a second, or after 10 s. */
export function plainDue(at: {
  readonly done: number;
  readonly total: number;
  /** `done` of the last line. */
  readonly printed: number;
  readonly sinceMs: number;
}): boolean {
  if (at.done === at.printed) return false;
  if (at.done >= at.total) return true;
  const isTenth = at.done - at.printed >= at.total / 10;
  return (isTenth && at.sinceMs >= 1000) || at.sinceMs >= 10_000;
}
