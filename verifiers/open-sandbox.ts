import { InfrastructureError } from "../core/errors.js";
import { containerWall } from "./container.js";
import type { Host, Sandbox, SandboxPlan } from "./sandbox.js";
import { openSingleRunSandbox } from "./sandbox-single-run.js";
import { openSupervisedSandbox } from "./sandbox-supervised.js";
import { bubblewrapWall } from "./wall.js";

/** A sandbox for one program, built in the best of the ways that this machine allows. */
export async function openSandbox(host: Host, plan: SandboxPlan): Promise<Sandbox> {
  const { bubblewrap, container, supervisor, isRoot } = host;
  if (container !== null && supervisor !== null)
    return openSupervisedSandbox(host, supervisor, plan, (cgroup) =>
      containerWall(container, supervisor.path, plan, cgroup),
    );
  if (bubblewrap === null) throw new InfrastructureError("nothing to build a sandbox with");
  if (supervisor === null) return openSingleRunSandbox(host, bubblewrap, plan);
  return openSupervisedSandbox(host, supervisor, plan, (cgroup) =>
    bubblewrapWall(bubblewrap, isRoot, supervisor, plan, cgroup),
  );
}
