import type { Host, Sandbox, SandboxPlan } from "./sandbox.js";
import { openSingleRunSandbox } from "./sandbox-single-run.js";
import { openSupervisedSandbox } from "./sandbox-supervised.js";

/** A sandbox for one program, built in the better of two ways that this machine allows. */
export function openSandbox(host: Host, plan: SandboxPlan): Promise<Sandbox> {
  return host.supervisor === null
    ? openSingleRunSandbox(host, plan)
    : openSupervisedSandbox(host, host.supervisor, plan);
}
