/** The lines of a plan: what takes memory, where, and in which stages of a step. */
import type { Provider } from "../../tensor/index.js";

export const STAGES = ["sample", "update", "save"] as const;
export type Stage = (typeof STAGES)[number];
export type Place = "host" | "device";

/** Where a provider computes. */
export const placeOf = (provider: Provider): Place =>
  provider === "webgpu" || provider === "cuda" ? "device" : "host";

/** One thing that takes memory. */
export interface PlanItem {
  readonly what: string;
  readonly place: Place;
  readonly bytes: number;
  /** When it is there. */
  readonly stages: readonly Stage[];
  /** Why it is as large, where its name does not say. */
  readonly note?: string;
}

/** Bytes of each stage in one place. */
export function peaksOf(items: readonly PlanItem[], place: Place): Record<Stage, number> {
  const own = items.filter((item) => item.place === place);
  const total = (stage: Stage): number =>
    own.reduce((sum, { stages, bytes }) => (stages.includes(stage) ? sum + bytes : sum), 0);
  return { sample: total("sample"), update: total("update"), save: total("save") };
}

/** The largest stage of a place. */
export function highest(peaks: Readonly<Record<Stage, number>>): { stage: Stage; bytes: number } {
  return STAGES.map((stage) => ({ stage, bytes: peaks[stage] })).reduce((a, b) =>
    b.bytes > a.bytes ? b : a,
  );
}

/** 1536 MiB -> "1.50 GB". GB and MB are 2^30 and 2^20 bytes, as everywhere here and on the labels of GPUs. */
export function bytesText(bytes: number): string {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let [value, unit] = [bytes, 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1024, unit + 1];
  const digits = unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${units[unit]}`;
}
