/**
 * Control groups, where the caller may make them: memory, processes and CPU of a whole process tree, which resource
 * limits (per process) cannot give. Found by making one, limiting it and removing it, not by looking.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Where this host lets us make groups, by controller. `version` 1 has one hierarchy a controller, 2 one for all. */
export interface CgroupParents {
  readonly version: 1 | 2;
  readonly memory: string | null;
  readonly pids: string | null;
}

export interface Cgroup {
  readonly folders: readonly string[];
  attach(pid: number): void;
  /** @param inputMb - room for what the supervisor holds of the program's input */
  limit(memoryMb: number, processes: number, inputMb: number): void;
  /** How often the kernel killed a process here for want of memory. */
  oomKills(): number;
  pids(): number[];
  kill(): void;
  /** false while processes are still dying. */
  remove(): boolean;
}

const PREFIX = "retort-";
const MIB = 1024 * 1024;
/** The supervisor, the namespace's own kernel objects and the program's files live in the same group. */
const MEMORY_MARGIN_MB = 8;
const PROCESS_MARGIN = 4;

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function tryTo(action: () => void): boolean {
  try {
    action();
    return true;
  } catch {
    return false;
  }
}

/** Mount points by controller, "" for version 2, from /proc/self/mountinfo. */
function cgroupMounts(): Map<string, string> {
  const mounts = new Map<string, string>();
  for (const line of read("/proc/self/mountinfo").split("\n")) {
    const [left, right] = line.split(" - ");
    const point = left?.split(" ")[4];
    const [type, , options] = right?.split(" ") ?? [];
    if (point === undefined) continue;
    if (type === "cgroup2") mounts.set("", point);
    if (type === "cgroup") for (const name of options?.split(",") ?? []) mounts.set(name, point);
  }
  return mounts;
}

/** Own group by controller, "" for version 2, from /proc/self/cgroup. */
function ownGroups(): Map<string, string> {
  const groups = new Map<string, string>();
  for (const line of read("/proc/self/cgroup").split("\n")) {
    const [, controllers, ...path] = line.split(":");
    for (const name of controllers?.split(",") ?? []) groups.set(name, path.join(":"));
  }
  return groups;
}

/** A trial child of `parent` in which `file` can be written. */
function canLimit(parent: string, file: string, value: string): boolean {
  const trial = join(parent, `${PREFIX}${process.pid}-trial`);
  const works = tryTo(() => {
    mkdirSync(trial);
    writeFileSync(join(trial, file), value);
  });
  tryTo(() => rmdirSync(trial));
  return works;
}

function findV1(mounts: ReadonlyMap<string, string>, own: ReadonlyMap<string, string>): CgroupParents | null {
  const find = (controller: string, file: string, value: string) => {
    const mount = mounts.get(controller);
    if (mount === undefined) return null;
    const candidates = [join(mount, own.get(controller) ?? "/"), mount];
    return candidates.find((parent) => existsSync(parent) && canLimit(parent, file, value)) ?? null;
  };
  const memory = find("memory", "memory.limit_in_bytes", String(64 * MIB));
  const pids = find("pids", "pids.max", "16");
  return memory === null && pids === null ? null : { version: 1, memory, pids };
}

function findV2(mounts: ReadonlyMap<string, string>, own: ReadonlyMap<string, string>): CgroupParents | null {
  const mount = mounts.get("");
  if (mount === undefined) return null;
  for (const parent of [join(mount, own.get("") ?? "/"), mount]) {
    // Fails with EBUSY where the group holds processes (ours): then it must have been delegated already.
    for (const controller of ["+memory", "+pids"]) {
      tryTo(() => writeFileSync(join(parent, "cgroup.subtree_control"), controller));
    }
    const memory = canLimit(parent, "memory.max", String(64 * MIB)) ? parent : null;
    const pids = canLimit(parent, "pids.max", "16") ? parent : null;
    if (memory !== null || pids !== null) return { version: 2, memory, pids };
  }
  return null;
}

/** null where this user may not make groups. Also removes what a killed broker left behind. */
export function findCgroups(): CgroupParents | null {
  const [mounts, own] = [cgroupMounts(), ownGroups()];
  const parents = findV1(mounts, own) ?? findV2(mounts, own);
  for (const parent of new Set([parents?.memory, parents?.pids])) if (parent) removeStale(parent);
  return parents;
}

function removeStale(parent: string): void {
  for (const name of readdirSync(parent)) {
    const pid = /^retort-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) tryTo(() => rmdirSync(join(parent, name)));
  }
}

/** @param name - unique among this process's groups */
export function createCgroup(parents: CgroupParents, name: string): Cgroup {
  const folder = `${PREFIX}${process.pid}-${name}`;
  const memory = parents.memory === null ? null : join(parents.memory, folder);
  const pids = parents.pids === null ? null : join(parents.pids, folder);
  const folders = [...new Set([memory, pids])].filter((path) => path !== null);
  for (const path of folders) mkdirSync(path);
  const members = () =>
    [...new Set(folders.flatMap((path) => read(join(path, "cgroup.procs")).split("\n")))]
      .filter(Boolean)
      .map(Number);
  return {
    folders,
    attach: (pid) => {
      for (const path of folders) writeFileSync(join(path, "cgroup.procs"), String(pid));
    },
    limit: (memoryMb, processes, inputMb) => {
      if (pids !== null) writeFileSync(join(pids, "pids.max"), String(processes + PROCESS_MARGIN));
      if (memory === null) return;
      const bytes = String(Math.ceil((memoryMb + MEMORY_MARGIN_MB + inputMb) * MIB));
      setMemory(memory, parents.version, bytes);
    },
    oomKills: () => {
      if (memory === null) return 0;
      const text = read(join(memory, parents.version === 1 ? "memory.oom_control" : "memory.events"));
      return Number(/^oom_kill (\d+)/m.exec(text)?.[1] ?? 0);
    },
    pids: members,
    kill: () => {
      for (const pid of members()) tryTo(() => process.kill(pid, "SIGKILL"));
    },
    remove: () => folders.every((path) => !existsSync(path) || tryTo(() => rmdirSync(path))),
  };
}

/** Lowering must touch the plain limit before the one with swap, raising the other way round. */
function setMemory(folder: string, version: 1 | 2, bytes: string): void {
  if (version === 2) {
    writeFileSync(join(folder, "memory.max"), bytes);
    tryTo(() => writeFileSync(join(folder, "memory.swap.max"), "0"));
    return;
  }
  const plain = () => writeFileSync(join(folder, "memory.limit_in_bytes"), bytes);
  const withSwap = () => writeFileSync(join(folder, "memory.memsw.limit_in_bytes"), bytes);
  if (tryTo(plain)) tryTo(withSwap);
  else {
    tryTo(withSwap);
    plain();
  }
}
