/** What an operator demands of a host before any program runs on it, and what a host falls short of. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { ConfigError } from "../core/index.js";
import type { Isolation } from "./job.js";
import { parseYaml } from "./yaml-file.js";

/** Each key is a field of `isolation`; a host that enforces more than is demanded is welcome. */
export const Requirements = z.strictObject({
  memory: z.literal("cgroup").optional().describe("A control group limits the memory of the process tree."),
  processes: z.literal("cgroup").optional().describe("A control group limits processes and threads."),
  cpu: z
    .enum(["cgroup", "process tree"])
    .optional()
    .describe("CPU time is summed over all processes, or over those that somebody waited for."),
  proc: z.literal("fresh").optional().describe("Each test has a /proc of its own."),
  seccomp: z.literal(true).optional().describe("A filter of system calls."),
  mode: z
    .enum(["supervisor", "perl"])
    .optional()
    .describe("A supervisor starts the tests inside one sandbox: the one in C, or at least the one in Perl."),
  user: z.literal("separate").optional().describe("Programs run under a uid that is not the caller's."),
});
export type Requirements = z.infer<typeof Requirements>;

const CGROUP_FIX =
  "Run as root, or have a group delegated: systemd-run --user --scope -p Delegate=yes -- retort ...; in Docker: --privileged --cgroupns=host.";

interface Demand {
  readonly isMet: (isolation: Isolation, wanted: unknown) => boolean;
  readonly fix: string;
}

const isCgroup = (by: string): boolean => by.startsWith("cgroup");

const DEMANDS: Readonly<Record<keyof Requirements, Demand>> = {
  memory: { isMet: ({ memory }) => isCgroup(memory), fix: CGROUP_FIX },
  processes: { isMet: ({ processes }) => isCgroup(processes), fix: CGROUP_FIX },
  cpu: {
    isMet: ({ cpu }, wanted) => isCgroup(cpu) || (wanted === "process tree" && cpu === wanted),
    fix: CGROUP_FIX,
  },
  proc: {
    isMet: ({ proc }) => proc === "fresh",
    fix: "This container masks /proc: docker run --security-opt systempaths=unconfined, podman run --security-opt unmask=ALL.",
  },
  seccomp: { isMet: ({ seccomp }) => seccomp, fix: "x86-64 and arm64 have one." },
  mode: {
    isMet: ({ mode }, wanted) => mode === "supervisor" || mode === wanted,
    fix: "apt-get install gcc libc6-dev (the one in Perl: apt-get install perl-base).",
  },
  user: {
    isMet: ({ user }) => user !== "caller",
    fix: "Run as root: programs then run as uid 61000 and up.",
  },
};

/** @throws ConfigError that names all that is missing here, and how to get it */
export function demand(requirements: Requirements, isolation: Isolation): void {
  const missing = Object.entries(requirements).filter(
    ([key, wanted]) => wanted !== undefined && !DEMANDS[key as keyof Requirements].isMet(isolation, wanted),
  );
  if (missing.length === 0) return;
  const fields = isolation as unknown as Readonly<Record<string, unknown>>;
  const fixes = new Set(missing.map(([key]) => DEMANDS[key as keyof Requirements].fix));
  throw new ConfigError({
    at: "verifier.require",
    need: missing.map(([key, wanted]) => `${key}: ${String(wanted)}`).join(", "),
    got: missing.map(([key]) => `${key}: ${String(fields[key])}`).join(", "),
    fix: [...fixes, ...isolation.notes.map((note) => `Here: ${note}.`)].join(" "),
  });
}

/** @param file - a YAML file with the keys of `verifier.require`. @throws ConfigError with file, line and the nearest right key */
export function readRequirements(file: string): Requirements {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw new ConfigError({ at: file, need: "a YAML file of requirements that can be read", cause });
  }
  return parseYaml(text, file, Requirements);
}

/** One line on what this host does not enforce; null where it enforces everything. */
export function shortcomings({ memory, processes, cpu, proc, user, mode }: Isolation): string | null {
  const weak = [
    !isCgroup(memory) && "memory of a whole process tree (each process alone is held)",
    !isCgroup(processes) && "processes by control group (the user's count is held)",
    mode === "single" && "CPU time of a whole process tree",
    mode !== "single" && !isCgroup(cpu) && "CPU time of children that nobody waits for",
    proc !== "fresh" && "a /proc of its own for each test",
    user === "caller" && "a uid other than yours (a user namespace alone separates them)",
  ].filter((text) => text !== false);
  return weak.length === 0 ? null : `Not enforced on this host: ${weak.join("; ")}. See docs/sandbox.md.`;
}
