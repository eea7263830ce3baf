/** What else this machine does while something is measured. */
import { readFileSync } from "node:fs";
import { cpus, freemem, release } from "node:os";

/** Of /proc/stat: seconds that all CPUs together were busy, time taken by the host included. */
export function busySeconds(stat: string): number {
  const columns = /^cpu\s+(.*)$/m.exec(stat)?.[1]?.trim().split(/\s+/).map(Number);
  if (columns === undefined) throw new Error("no line of all CPUs in /proc/stat");
  const [user, nice, system, , , irq, softirq, steal] = columns as number[];
  return (user! + nice! + system! + irq! + softirq! + steal!) / 100; // Linux counts in hundredths for every user
}

/** Starts to watch; the call it returns says which share of the CPUs others used, given what the measured process did. */
export function watchOthers(): (ownCpuSeconds: number) => number {
  const busy = (): number => busySeconds(readFileSync("/proc/stat", "utf8"));
  const [before, started] = [busy(), performance.now()];
  return (own) => {
    const capacity = ((performance.now() - started) / 1000) * cpus().length;
    return Math.max(0, (busy() - before - own) / capacity);
  };
}

/** GiB that programs can still take. */
export function availableGib(): number {
  const kib = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1];
  return kib === undefined ? freemem() / 2 ** 30 : Number(kib) / 2 ** 20;
}

export const machineName = (): string =>
  `${cpus()[0]?.model ?? "unknown CPU"}, ${cpus().length} CPUs, Linux ${release()}, Node ${process.version}`;
