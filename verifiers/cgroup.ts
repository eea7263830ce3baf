/**
 * Control groups, where the caller may make them: memory, processes and CPU of a whole process tree, which resource
 * limits (per process) cannot give. Found by making one, limiting it and removing it, not by looking.
 */
import { spawnSync } from "node:child_process";
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";

/** Where this host lets us make groups, by controller. `version` 1 has one hierarchy a controller, 2 one for all. */
export interface CgroupParents {
  readonly version: 1 | 2;
  readonly memory: string | null;
  readonly pids: string | null;
  /** Gives each program one share of the processors, however many processes it has. */
  readonly cpu: string | null;
  /** Counts CPU time of children too that nobody waited for. */
  readonly cpuAccounting: string | null;
}

export interface Cgroup {
  readonly folders: readonly string[];
  /**
   * Opens the files through which a process joins by writing "0" to each. That takes it 10 us, where moving another
   * process takes 10 ms a group: the kernel then waits for a grace period (measured; Linux 6.18).
   */
  openDoors(): number[];
  /** @param inputMb - room for what the supervisor holds of the program's input */
  limit(memoryMb: number, processes: number, inputMb: number): void;
  /** How often the kernel killed a process here for want of memory. */
  oomKills(): number;
  /** CPU time that its processes have used, milliseconds; null where nothing counts it. */
  cpuMs(): number | null;
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
const TCP_BUFFERS_MB = 16;

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

/** Making a group does not imply that our processes may move there: both groups need a common parent of ours. */
function canJoin(parent: string): boolean {
  const trial = join(parent, `${PREFIX}${process.pid}-join`);
  const works = tryTo(() => {
    mkdirSync(trial);
    const [door] = openAll([join(trial, "cgroup.procs")]);
    try {
      const joined = spawnSync("/bin/sh", ["-c", "echo 0 >&3"], {
        stdio: ["ignore", "ignore", "ignore", door!],
      });
      if (joined.status !== 0) throw new Error("refused");
    } finally {
      closeSync(door!);
    }
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
  const cpu = find("cpu", "cpu.shares", "1024");
  const cpuAccounting = find("cpuacct", "cpuacct.usage", "0");
  return memory === null && pids === null ? null : { version: 1, memory, pids, cpu, cpuAccounting };
}

/**
 * The nearest group at or above our own in which a child can be limited and joined. Ours holds processes (us), so that the
 * kernel refuses to hand controllers to its children; with systemd's delegation its parent has done so already.
 */
function findV2(mounts: ReadonlyMap<string, string>, own: ReadonlyMap<string, string>): CgroupParents | null {
  const mount = mounts.get("");
  if (mount === undefined) return null;
  const parts = (own.get("") ?? "/").split("/").filter(Boolean);
  for (let depth = parts.length; depth >= 0; depth--) {
    const parent = join(mount, ...parts.slice(0, depth));
    for (const controller of ["+memory", "+pids", "+cpu"]) {
      tryTo(() => writeFileSync(join(parent, "cgroup.subtree_control"), controller));
    }
    const can = (file: string, value: string) => (canLimit(parent, file, value) ? parent : null);
    const memory = can("memory.max", String(64 * MIB));
    const pids = can("pids.max", "16");
    if ((memory !== null || pids !== null) && canJoin(parent))
      return { version: 2, memory, pids, cpu: can("cpu.weight", "100"), cpuAccounting: parent };
  }
  return null;
}

/** null where this user may not make groups. Also removes what a killed broker left behind. */
export function findCgroups(): CgroupParents | null {
  const [mounts, own] = [cgroupMounts(), ownGroups()];
  const parents = findV1(mounts, own) ?? findV2(mounts, own);
  if (parents !== null) for (const parent of placesOf(parents)) removeStale(parent);
  return parents;
}

const placesOf = ({ memory, pids, cpu, cpuAccounting }: CgroupParents): string[] =>
  [...new Set([memory, pids, cpu, cpuAccounting])].filter((path) => path !== null);

function removeStale(parent: string): void {
  for (const name of readdirSync(parent)) {
    const pid = /^retort-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`)) tryTo(() => rmdirSync(join(parent, name)));
  }
}

/** @param name - unique among this process's groups */
export function createCgroup(parents: CgroupParents, name: string): Cgroup {
  const inside = (parent: string | null) =>
    parent === null ? null : join(parent, `${PREFIX}${process.pid}-${name}`);
  const [memory, pids, cpuAccounting] = [parents.memory, parents.pids, parents.cpuAccounting].map(inside);
  const folders = placesOf(parents).map((parent) => inside(parent)!);
  for (const path of folders) mkdirSync(path);
  // TCP buffers have a counter of their own in version 1, which nothing limits otherwise.
  if (memory && parents.version === 1)
    tryTo(() => writeFileSync(join(memory, "memory.kmem.tcp.limit_in_bytes"), String(TCP_BUFFERS_MB * MIB)));
  const members = () =>
    [...new Set(folders.flatMap((path) => read(join(path, "cgroup.procs")).split("\n")))]
      .filter(Boolean)
      .map(Number);
  return {
    folders,
    openDoors: () =>
      openAll(folders.map((path) => join(path, parents.version === 1 ? "tasks" : "cgroup.procs"))),
    limit: (memoryMb, processes, inputMb) => {
      if (pids) writeFileSync(join(pids, "pids.max"), String(processes + PROCESS_MARGIN));
      if (!memory) return;
      const bytes = String(Math.ceil((memoryMb + MEMORY_MARGIN_MB + inputMb) * MIB));
      setMemory(memory, parents.version, bytes);
    },
    oomKills: () => {
      if (!memory) return 0;
      const text = read(join(memory, parents.version === 1 ? "memory.oom_control" : "memory.events"));
      return Number(/^oom_kill (\d+)/m.exec(text)?.[1] ?? 0);
    },
    cpuMs: () => {
      if (!cpuAccounting) return null;
      if (parents.version === 1) return Number(read(join(cpuAccounting, "cpuacct.usage"))) / 1e6;
      return Number(/^usage_usec (\d+)/m.exec(read(join(cpuAccounting, "cpu.stat")))?.[1] ?? 0) / 1e3;
    },
    pids: members,
    kill: () => {
      for (const pid of members()) tryTo(() => process.kill(pid, "SIGKILL"));
    },
    remove: () => folders.every((path) => !existsSync(path) || tryTo(() => rmdirSync(path))),
  };
}

/** All or none. */
function openAll(paths: readonly string[]): number[] {
  const fds: number[] = [];
  try {
    for (const path of paths) fds.push(openSync(path, "w"));
    return fds;
  } catch (error) {
    for (const fd of fds) closeSync(fd);
    throw error;
  }
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
