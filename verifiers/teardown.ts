/** Waiting for the end of a sandbox. */
import type { ChildProcess } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import type { Cgroup } from "./cgroup.js";

const LONGEST_MS = 5000;

/** Resolves when the process has ended, or could not be started. */
export function untilExit(child: ChildProcess): Promise<void> {
  return new Promise((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
}

/** Processes killed with their namespace leave a moment later; the group goes when they have. */
export async function removeCgroup(cgroup: Cgroup): Promise<void> {
  const start = performance.now();
  for (let waitMs = 1; !cgroup.remove(); waitMs = Math.min(waitMs * 2, 50)) {
    if (performance.now() - start > LONGEST_MS) return;
    if (waitMs > 4) cgroup.kill();
    await sleep(waitMs);
  }
}
