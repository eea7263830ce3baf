/** What the judge holds of its machine: descriptors, processes, memory, files, control groups, kernel objects. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Footprint {
  readonly descriptors: number;
  readonly broker_descriptors: number;
  readonly processes: number;
  readonly memory_mb: number;
  readonly broker_memory_mb: number;
  readonly temporary_files: number;
  readonly cgroups: number;
  readonly ipc_objects: number;
}

const lines = (file: string): string[] =>
  existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];

const residentMb = (pid: number): number =>
  Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;

/** Every process below `pid`. */
function descendants(pid: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(name)]);
    } catch {
      // it ended while we looked
    }
  }
  const below = (of: number): number[] =>
    (children.get(of) ?? []).flatMap((child) => [child, ...below(child)]);
  return below(pid);
}

function cgroupsOf(brokerPid: number, folder = "/sys/fs/cgroup"): number {
  if (!existsSync(folder)) return 0;
  let count = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (!entry.isDirectory()) continue;
    if (entry.name.startsWith(`retort-${brokerPid}-`)) count++;
    count += cgroupsOf(brokerPid, join(folder, entry.name));
  }
  return count;
}

/** @param temporary - the folder that TMPDIR names, empty at the beginning */
export function footprint(brokerPid: number, temporary: string): Footprint {
  return {
    descriptors: readdirSync("/proc/self/fd").length,
    broker_descriptors: readdirSync(`/proc/${brokerPid}/fd`).length,
    processes: descendants(process.pid).length,
    memory_mb: Math.round(residentMb(process.pid)),
    broker_memory_mb: Math.round(residentMb(brokerPid)),
    temporary_files: readdirSync(temporary).length,
    cgroups: cgroupsOf(brokerPid),
    ipc_objects: ["shm", "msg", "sem"].reduce(
      (sum, kind) => sum + lines(`/proc/sysvipc/${kind}`).length - 1,
      0,
    ),
  };
}
