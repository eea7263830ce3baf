/** What a sandbox is: opened for one program, fed with runs, closed. */

import type { ContainerTool } from "./backend.js";
import type { Bubblewrap } from "./bubblewrap.js";
import { PATH, type Supervisor } from "./bubblewrap.js";
import type { CgroupParents } from "./cgroup.js";
import type { RunLimits, RunReport } from "./protocol.js";

/** What this machine has to build sandboxes from; `probeHost` finds it. */
export interface Host {
  /** null where containers are the outer wall. */
  readonly bubblewrap: Bubblewrap | null;
  readonly container: ContainerTool | null;
  readonly cgroups: CgroupParents | null;
  /** null: a bubblewrap per test. */
  readonly supervisor: Supervisor | null;
  /** bubblewrap started by uid 0 isolates nothing (its only id maps to the host's root), so root drops to 61000 + slot. */
  readonly isRoot: boolean;
  readonly filter: Buffer;
  /** Flags of every run, from what the probe found. */
  readonly runFlags: number;
}

/** What of the world outside a language's tools need. */
export interface Surroundings {
  /** Host paths; bubblewrap only. */
  readonly mounts: readonly string[];
  /** Image of a container; containers only. */
  readonly image: string | null;
}

export interface SandboxPlan extends Surroundings {
  /** Chooses the uid; no two sandboxes of a broker share one at a time. */
  readonly slot: number;
  readonly name: string;
}

export interface SandboxFile {
  readonly name: string;
  readonly bytes: Buffer;
}

export interface SandboxRun {
  /** compile: /w is current and writable. run: /w is read-only, /tmp fresh, current, and holds links to /w's files. */
  readonly phase: "compile" | "run";
  readonly command: string;
  /** More words after the command's own; never read by a shell. */
  readonly args?: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: Buffer;
  readonly limits: RunLimits;
  /** Output as it comes, instead of in the report. */
  readonly onOutput?: (stream: "stdout" | "stderr", bytes: Buffer) => void;
}

export interface Sandbox {
  /** Puts files in: the program's before the first run; further ones, or the same with other bytes, before any later. */
  load(files: readonly SandboxFile[]): void;
  /** @throws InfrastructureError when the sandbox itself fails; then it is no longer usable */
  run(run: SandboxRun): Promise<RunReport>;
  /** More stdin for a streamed run; null ends it. */
  sendInput(bytes: Buffer | null): void;
  /** Kills whatever is left, waits for it, removes the cgroup. Never throws. */
  close(): Promise<void>;
}

/** Nothing else of the host's environment goes in. Python and Lua need a UTF-8 locale for Unicode. */
export function programEnvironment(extra: Readonly<Record<string, string>>): Record<string, string> {
  return {
    PATH,
    HOME: "/tmp",
    USER: "sandbox",
    LOGNAME: "sandbox",
    TMPDIR: "/tmp",
    LANG: "C.UTF-8",
    LC_ALL: "C.UTF-8",
    ...extra,
  };
}

/** Where a program of this environment finds its tools. */
export const searchPath = ({ env }: { readonly env: Readonly<Record<string, string>> }): string =>
  env.PATH ?? PATH;
/** The command's words, then the run's own: a shell would take those as its parameters, so it gets none. */
export function runArguments(run: SandboxRun): string[] {
  const words = commandArguments(run.command);
  return words[0] === "/bin/sh" ? words : [...words, ...(run.args ?? [])];
}

/** Words without a shell where the command needs none: `sh` costs 0.7 ms a run. */
export function commandArguments(command: string): string[] {
  const plain = /^[\w@%+:,./\-\s]+$/.test(command.trim());
  return plain ? command.trim().split(/\s+/) : ["/bin/sh", "-c", command];
}
