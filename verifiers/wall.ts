/** The outer wall of a supervised sandbox: a process that ends with it, and the stream of frames to the supervisor. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import type { Readable, Writable } from "node:stream";
import {
  type Bubblewrap,
  FIRST_UID,
  HOSTS_FILE,
  PATH,
  type Supervisor,
  supervisedArguments,
} from "./bubblewrap.js";
import type { Cgroup } from "./cgroup.js";
import type { SandboxPlan } from "./sandbox.js";

export interface Wall {
  /** Of bubblewrap, or of the container tool. */
  readonly child: ChildProcess;
  /** Frames to the supervisor, and from it. */
  readonly input: Writable;
  readonly output: Readable;
  /** Who builds the wall, for messages. */
  readonly builder: string;
  /** Variables that every run has before the language's own. */
  readonly env: Readonly<Record<string, string>>;
  /**
   * Resolves when the supervisor stands in its control groups, or will before it reads a frame. Never resolves where the
   * wall does not stand.
   */
  readonly inGroups: Promise<void>;
  /** Everything inside dies. */
  kill(): void;
}

/**
 * A bubblewrap: control socket on fd 3, the supervisor's bytes on fd 4, the doors of its groups from fd 5 on, through which
 * the supervisor moves itself before it reads, and /etc/hosts.
 */
export function bubblewrapWall(
  bubblewrap: Bubblewrap,
  isRoot: boolean,
  supervisor: Supervisor,
  plan: SandboxPlan,
  cgroup: Cgroup | null,
): Wall {
  const passed: number[] = [];
  let child: ChildProcess;
  try {
    passed.push(openSync(supervisor.path, "r"), ...(cgroup?.openDoors() ?? []));
    const args = supervisedArguments(bubblewrap, plan.mounts, supervisor.kind, passed.length - 1);
    passed.push(openSync(HOSTS_FILE, "r"));
    child = spawn(bubblewrap.path, args, {
      stdio: ["ignore", "ignore", "pipe", "pipe", ...passed],
      env: { PATH: process.env.PATH ?? PATH },
      cwd: "/",
      ...(isRoot ? { uid: FIRST_UID + plan.slot, gid: FIRST_UID + plan.slot } : {}),
    });
  } finally {
    for (const fd of passed) closeSync(fd);
  }
  const control = child.stdio[3] as Readable & Writable;
  return {
    child,
    input: control,
    output: control,
    builder: "bubblewrap",
    env: {},
    inGroups: Promise.resolve(),
    kill: () => void child.kill("SIGKILL"),
  };
}
