/** Podman or Docker as the outer wall: the program runs in an image, and our supervisor isolates each test inside. */
import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError, InfrastructureError } from "../core/errors.js";
import type { ContainerTool } from "./backend.js";
import { FIRST_UID, PATH } from "./bubblewrap.js";
import type { Cgroup } from "./cgroup.js";
import type { SandboxPlan } from "./sandbox.js";
import type { Wall } from "./wall.js";

/** A container's name: its broker's pid first, so that what a killed broker left can be told from what is in use. */
const PREFIX = "retort-";
const MIB = 1024 * 1024;
const POLL_MS = 20;
const LABEL = "retort";
/** Most that a container may hold, whatever a program's own limit is. */
const MOST_PROCESSES = 256;

/**
 * @throws ConfigError where the tool is not installed, or does not answer (Docker: its daemon)
 */
export function findContainerTool(name: ContainerTool["name"]): ContainerTool {
  try {
    const version = execFileSync(name, ["--version"], { encoding: "utf8" }).trim();
    execFileSync(name, ["ps", "--quiet"], { stdio: ["ignore", "ignore", "pipe"] });
    return { name, version };
  } catch (cause) {
    const stderr = (cause as { stderr?: Buffer | string }).stderr?.toString().trim();
    throw new ConfigError({
      at: "verifier.backend",
      got: name,
      need: `${name} on this machine${stderr ? `, working: ${stderr.split("\n")[0]}` : ""}`,
      fix:
        name === "podman"
          ? "apt-get install podman, or take the backend bubblewrap."
          : "Install Docker and start its daemon, or take the backend bubblewrap.",
      cause,
    });
  }
}

/** Containers whose broker was killed: their supervisor ends with its stdin, but a stopped daemon may have kept them. */
export function removeStaleContainers({ name }: ContainerTool, isAlive: (pid: number) => boolean): void {
  const list = ["ps", "--all", "--filter", `label=${LABEL}`, "--format", "{{.Names}}"];
  for (const container of execFileSync(name, list, { encoding: "utf8" }).split("\n")) {
    const pid = /^retort-(\d+)-/.exec(container)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) execFileSync(name, ["rm", "--force", container]);
  }
}

const environments = new Map<string, Record<string, string>>();

/**
 * Environment of an image, as its Dockerfile set it; null where this machine does not have the image (none is ever
 * pulled). Blocking, once an image.
 */
export function imageEnvironment({ name }: ContainerTool, image: string): Record<string, string> | null {
  const known = environments.get(image);
  if (known !== undefined) return known;
  try {
    const format = ["image", "inspect", "--format", "{{json .Config.Env}}", image];
    const said = execFileSync(name, format, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    const pairs = ((JSON.parse(said) as string[] | null) ?? []).map((pair) => {
      const at = pair.indexOf("=");
      return [pair.slice(0, at), pair.slice(at + 1)];
    });
    const environment = Object.fromEntries(pairs) as Record<string, string>;
    environments.set(image, environment);
    return environment;
  } catch {
    return null;
  }
}

/** Flags that make a container a wall; the capabilities are the supervisor's alone, every run drops them and its uid. */
function runArguments(container: string, supervisor: string, uid: number, image: string): string[] {
  return [
    ...["run", "--rm", "--interactive", "--pull", "never", "--name", container, "--label", LABEL],
    ...["--network", "none", "--hostname", "sandbox", "--read-only", "--user", "0:0", "--workdir", "/"],
    ...["--cap-drop", "ALL"],
    ...["SYS_ADMIN", "SETPCAP", "SETUID", "SETGID", "KILL"].flatMap((name) => ["--cap-add", name]),
    // The tools' own filters forbid what the supervisor does to isolate a test; a test gets our filter, which is stricter.
    ...["no-new-privileges", "seccomp=unconfined", "apparmor=unconfined", "label=disable"].flatMap(
      (option) => ["--security-opt", option],
    ),
    ...[
      "--pids-limit",
      String(MOST_PROCESSES),
      "--ulimit",
      "nofile=1024:1024",
      "--ulimit",
      "nproc=4096:4096",
    ],
    ...["--shm-size", "1m", "--tmpfs", `/tmp:rw,size=${MIB},mode=1777`],
    ...["--tmpfs", `/w:rw,exec,size=${128 * MIB},mode=1777`],
    ...["--volume", `${supervisor}:/sbx:ro`, "--entrypoint", "/sbx", image, "stdio", String(uid)],
  ];
}

/** @throws InfrastructureError where this machine does not have the image */
export function containerWall(
  tool: ContainerTool,
  supervisor: string,
  plan: SandboxPlan,
  cgroup: Cgroup | null,
): Wall {
  const image = plan.image ?? "";
  const env = imageEnvironment(tool, image);
  if (env === null)
    throw new InfrastructureError(
      `${tool.name} has no image ${image} here; get it: ${tool.name} pull ${image}`,
    );
  const container = `${PREFIX}${process.pid}-${plan.name}`;
  const child = spawn(tool.name, runArguments(container, supervisor, FIRST_UID + plan.slot, image), {
    stdio: ["pipe", "pipe", "pipe"],
    cwd: "/",
  });
  return {
    child,
    input: child.stdin,
    output: child.stdout,
    builder: tool.name,
    env,
    inGroups: cgroup === null ? Promise.resolve() : enter(cgroup, tool, container, child),
    kill: () => {
      // The tool is only a client: killing it alone would leave the container.
      execFile(tool.name, ["rm", "--force", container], () => void child.kill("SIGKILL"));
    },
  };
}

/** Moves the container's first process; never resolves where the container does not come up. */
async function enter(
  cgroup: Cgroup,
  tool: ContainerTool,
  container: string,
  child: ChildProcess,
): Promise<void> {
  while (child.exitCode === null) {
    const pid = await new Promise<number>((resolve) => {
      const format = ["inspect", "--format", "{{.State.Pid}}", container];
      execFile(tool.name, format, { env: { ...process.env, PATH: process.env.PATH ?? PATH } }, (_, stdout) =>
        resolve(Number(stdout.trim()) || 0),
      );
    });
    if (pid > 0) {
      for (const folder of cgroup.folders) writeFileSync(join(folder, "cgroup.procs"), String(pid));
      return;
    }
    await sleep(POLL_MS);
  }
  return new Promise(() => {});
}
