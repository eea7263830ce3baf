/** What the broker knows of the machine, probed once by running something in a real sandbox. */
import { existsSync, readFileSync } from "node:fs";
import { ConfigError, InfrastructureError } from "../core/errors.js";
import type { ContainerTool } from "./backend.js";
import { FIRST_UID, findBubblewrap, refusal } from "./bubblewrap.js";
import { findCgroups } from "./cgroup.js";
import { findContainerTool, imageEnvironment, removeStaleContainers } from "./container.js";
import type { BrokerOptions, Isolation } from "./job.js";
import { openSandbox } from "./open-sandbox.js";
import { FLAG_NO_PROC, type RunLimits } from "./protocol.js";
import type { Host, Sandbox } from "./sandbox.js";
import { seccompFilter } from "./seccomp.js";

const PROBE_LIMITS: RunLimits = {
  timeMs: 5000,
  cpuMs: 5000,
  memoryMb: 64,
  outputBytes: 1024,
  processes: 8,
  fileMb: 1,
  diskMb: 1,
  reservesAddressSpace: false,
};

/** @throws ConfigError where isolation cannot be had, with the fix */
export function probeHost(options: BrokerOptions): Promise<Probed> {
  const { backend } = options;
  return backend === "bubblewrap" ? probeBubblewrap(options) : probeContainers(options, backend);
}

interface Probed {
  readonly host: Host;
  readonly isolation: Isolation;
}

async function probeBubblewrap(options: BrokerOptions): Promise<Probed> {
  const bubblewrap = findBubblewrap(options.bubblewrap);
  const isRoot = mustDropUid(
    process.getuid?.() ?? -1,
    readFileSync("/proc/self/uid_map", "utf8"),
    options.workers + options.prestart,
  );
  const found = options.useCgroups ? findCgroups() : null;
  let problem = "";
  for (const cgroups of found === null ? [null] : [found, null]) {
    for (const supervisor of options.supervisors) {
      for (const runFlags of supervisor === null ? [0] : [0, FLAG_NO_PROC]) {
        const filter = seccompFilter(process.arch, cgroups?.memory != null);
        const host: Host = { bubblewrap, container: null, cgroups, supervisor, isRoot, filter, runFlags };
        const trouble = await tryOut(host, null);
        if (trouble === "") return { host, isolation: describe(host, bubblewrap.version, options, problem) };
        problem ||= trouble; // the best way's, which the others only follow
      }
    }
  }
  throw refusal(problem);
}

/** A container of the first image that is here must run our supervisor, and a test inside. */
async function probeContainers(options: BrokerOptions, name: ContainerTool["name"]): Promise<Probed> {
  const container = findContainerTool(name);
  removeStaleContainers(container, (pid) => existsSync(`/proc/${pid}`));
  const at = "verifier.backend";
  const supervisor = options.supervisors.find((one) => one?.kind === "c") ?? null;
  if (supervisor === null)
    throw new ConfigError({
      at,
      got: name,
      need: `a C compiler for the supervisor inside (${options.supervisorNote})`,
      fix: "apt-get install gcc libc6-dev",
    });
  const image = options.images.find((one) => imageEnvironment(container, one) !== null);
  if (image === undefined)
    throw new ConfigError({
      at,
      got: name,
      need: `an image that a language names under container: ${options.images.join(", ") || "none does"}`,
      fix: `Nothing is pulled by itself. Get one: ${name} pull ${options.images[0] ?? "IMAGE"}`,
    });
  const cgroups = options.useCgroups ? findCgroups() : null;
  const filter = seccompFilter(process.arch, cgroups?.memory != null);
  const host: Host = { bubblewrap: null, container, cgroups, supervisor, isRoot: true, filter, runFlags: 0 };
  const problem = await tryOut(host, image);
  if (problem === "") return { host, isolation: describe(host, container.version, options, "") };
  throw new ConfigError({
    at,
    got: `${container.version}: ${problem}`,
    need: "a container in which a test can be isolated",
    fix: "Podman wants root here, Docker its daemon as root. Or take the backend bubblewrap.",
  });
}

/**
 * Whether programs must leave our uid: always for root, except for the root of a user namespace (a rootless container)
 * that has no other uid to give and is an ordinary user outside.
 * @param uidMap - lines of /proc/self/uid_map: first id inside, first id outside, count
 * @throws ConfigError where we are the host's root and uids from 61000 on do not exist here
 */
export function mustDropUid(uid: number, uidMap: string, workers: number): boolean {
  if (uid !== 0) return false;
  const ranges = uidMap
    .trim()
    .split("\n")
    .map((line) => line.trim().split(/\s+/).map(Number) as [inside: number, outside: number, count: number]);
  const last = FIRST_UID + workers - 1;
  if (ranges.some(([inside, , count]) => inside <= FIRST_UID && last < inside + count)) return true;
  if (ranges.some(([inside, outside]) => inside === 0 && outside !== 0)) return false;
  throw new ConfigError({
    at: "the sandbox",
    need: `uids ${FIRST_UID} to ${last}, which this user namespace does not map; bubblewrap started by uid 0 isolates nothing`,
    fix: "Run as an ordinary user.",
  });
}

/** "" when a program ran to its end in a sandbox, else why not. */
async function tryOut(host: Host, image: string | null): Promise<string> {
  let sandbox: Sandbox | null = null;
  try {
    sandbox = await openSandbox(host, { slot: 0, name: "probe", mounts: [], image });
    const report = await sandbox.run({
      phase: "run",
      // An image may hold next to nothing, but the supervisor is in it.
      command: image === null ? "true" : "/sbx nothing",
      env: {},
      stdin: Buffer.alloc(0),
      limits: PROBE_LIMITS,
    });
    return report.kind === "exited" && report.code === 0
      ? ""
      : `${report.kind} ${report.code} ${report.message}`;
  } catch (error) {
    if (error instanceof InfrastructureError) return error.message;
    throw error;
  } finally {
    await sandbox?.close();
  }
}

/** @param problem - why a better way did not work; "" when this is the best */
function describe(host: Host, sandbox: string, options: BrokerOptions, problem: string): Isolation {
  const cgroup = host.cgroups === null ? null : (`cgroup v${host.cgroups.version}` as const);
  const counts = (place: string | null | undefined) => (place == null ? null : cgroup);
  const memory = counts(host.cgroups?.memory);
  const mode = host.supervisor === null ? "single" : host.supervisor.kind === "perl" ? "perl" : "supervisor";
  const why = problem === "" ? options.supervisorNote : problem;
  const notes = [
    memory === null &&
      "no cgroup for memory: the limit holds for each process, not for the sum of a program's processes",
    mode === "perl" && `the supervisor in Perl (1 ms slower a test): ${why}`,
    mode === "single" && `a bubblewrap for each test (slower; CPU time not summed over processes): ${why}`,
    host.runFlags & FLAG_NO_PROC && "this host masks /proc: tests see the sandbox's own",
    host.container !== null &&
      "a container for each program; its supervisor, not the program, is root with few capabilities",
    host.bubblewrap?.canDisableUserns === false &&
      "old bubblewrap: nested user namespaces are refused by the system-call filter alone",
    host.cgroups?.version === 2 && UNTRIED_V2,
    process.arch === "arm64" && "arm64: the numbers of the system calls are checked, the whole is untested",
  ];
  return {
    sandbox,
    mode,
    user: host.isRoot ? "61000+" : "caller",
    network: "none",
    seccomp: true,
    memory: memory ?? "per process",
    processes: counts(host.cgroups?.pids) ?? "per user",
    cpu: mode === "single" ? "per process" : (counts(host.cgroups?.cpuAccounting) ?? "process tree"),
    proc: host.runFlags & FLAG_NO_PROC ? "of the sandbox" : "fresh",
    tree_memory_accounting: memory !== null,
    notes: notes.filter((note) => typeof note === "string"),
  };
}

const UNTRIED_V2 = "cgroup version 2: its limits have been tried, not the whole list of attacks";
