/** How much memory this process took at most, stage by stage. */
import { readFileSync } from "node:fs";

export type MemoryStage = "sample" | "update" | "save";

/** Bytes. */
export type MemoryPeaks = Readonly<Partial<Record<MemoryStage, number>>>;

export interface MemoryWatch {
  /** From now on another stage; until then the last one counts. */
  enter(stage: MemoryStage): void;
  /** The peaks of all stages since this was asked last. */
  peaks(): MemoryPeaks;
  stop(): void;
}

/** A look costs 0.03 ms; what is there for a shorter time than this may be missed. */
const EVERY_MS = 25;

/** Watches from the main thread, which is free while the policy computes in its own. */
export function watchMemory(): MemoryWatch {
  let stage: MemoryStage | null = null;
  let seen: Partial<Record<MemoryStage, number>> = {};
  const look = (): void => {
    if (stage !== null) seen[stage] = Math.max(seen[stage] ?? 0, ownBytes());
  };
  const timer = setInterval(look, EVERY_MS);
  timer.unref();
  return {
    enter: (next) => {
      look();
      stage = next;
      look();
    },
    peaks: () => {
      look();
      const mapped = mappedBytes();
      const peaks = Object.entries(seen).map(([name, bytes]) => [name, bytes + mapped]);
      seen = {};
      return Object.fromEntries(peaks) as MemoryPeaks;
    },
    stop: () => clearInterval(timer),
  };
}

const kilobytes = (text: string, name: string): number | null => {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text);
  return found === null ? null : Number(found[1]) * 1024;
};

/** Memory that is this process's alone: on Linux its anonymous pages, elsewhere all that is resident. */
function ownBytes(): number {
  if (process.platform !== "linux") return process.memoryUsage.rss();
  const anonymous = kilobytes(readFileSync("/proc/self/status", "utf8"), "RssAnon");
  return anonymous ?? process.memoryUsage.rss();
}

/**
 * Pages of files, each counted once however many sessions map it: the resident set counts them once for each. The system
 * goes through every page for this, so it is asked once a step.
 */
function mappedBytes(): number {
  if (process.platform !== "linux") return 0;
  try {
    return kilobytes(readFileSync("/proc/self/smaps_rollup", "utf8"), "Pss_File") ?? 0;
  } catch {
    return 0; // a kernel that has no such file, or does not show it
  }
}
