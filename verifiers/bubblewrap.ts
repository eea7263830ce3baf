/** The command line of the outer wall, and what this host's bubblewrap can do. */
import { execFileSync } from "node:child_process";
import { lstatSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { ConfigError } from "../core/errors.js";
import { packageRoot } from "../core/paths.js";

/** The program that is pid 1 of a sandbox, in two makes with one protocol. */
export interface Supervisor {
  readonly kind: "c" | "perl";
  readonly path: string;
}

export interface Bubblewrap {
  readonly path: string;
  readonly version: string;
  readonly canDisableUserns: boolean;
}

/** Uid and gid of the processes of slot n when we are root: 61000 + n. */
export const FIRST_UID = 61000;
const MIB = 1024 * 1024;
const PROGRAM_FOLDER_MB = 128;
export const PATH = "/usr/local/bin:/usr/bin:/bin";
export const PERL = "/usr/bin/perl";
/** Copied into every sandbox. */
export const HOSTS_FILE = join(packageRoot, "verifiers", "hosts");
const FIRST_GROUP_FD = 5;

/**
 * @param path - of bwrap; "bwrap" searches PATH
 * @throws ConfigError where there is none, or one too old to size a tmpfs
 */
export function findBubblewrap(path = "bwrap"): Bubblewrap {
  let version: string;
  let help: string;
  try {
    version = execFileSync(path, ["--version"], { encoding: "utf8" }).trim();
    help = execFileSync(path, ["--help"], { encoding: "utf8" });
  } catch (cause) {
    const fix =
      process.platform === "linux"
        ? INSTALL
        : `Programs run only on Linux; ${process.platform} needs a Linux machine, container or WSL 2.`;
    throw new ConfigError({ at: "the sandbox", need: "bubblewrap to run programs in", fix, cause });
  }
  for (const flag of ["--size", "--perms", "--as-pid-1", "--info-fd"]) {
    if (!help.includes(flag))
      throw new ConfigError({
        at: "the sandbox",
        got: version,
        need: `a bubblewrap with ${flag} (0.6 or newer)`,
        fix: INSTALL,
      });
  }
  return { path, version, canDisableUserns: help.includes("--disable-userns") };
}

const INSTALL =
  "Install it: apt-get install bubblewrap (Debian, Ubuntu), dnf install bubblewrap, apk add bubblewrap.";

/** /lib, /bin and so on: a link into /usr on merged systems, a folder of their own elsewhere. */
function systemFolders(): string[] {
  const args = ["--ro-bind", "/usr", "/usr"];
  for (const folder of ["/lib", "/lib64", "/lib32", "/bin", "/sbin"]) {
    try {
      if (lstatSync(folder).isSymbolicLink()) args.push("--symlink", readlinkSync(folder), folder);
      else args.push("--ro-bind", folder, folder);
    } catch {
      // this host has none
    }
  }
  for (const file of ["/etc/alternatives", "/etc/ld.so.cache"]) args.push("--ro-bind-try", file, file);
  return args;
}
const SYSTEM_FOLDERS = systemFolders();

function namespaces(bubblewrap: Bubblewrap): string[] {
  return [
    ...["--unshare-user", "--unshare-all"],
    ...(bubblewrap.canDisableUserns ? ["--disable-userns"] : []),
    ...[
      "--uid",
      "1000",
      "--gid",
      "1000",
      "--hostname",
      "sandbox",
      "--die-with-parent",
      "--new-session",
      "--clearenv",
    ],
  ];
}

/**
 * bubblewrap's own /dev and / are tmpfs of half the memory each unless sized or made read-only, hence the remounts.
 * @param programFolder - how /w is made
 * @param hostsFd - an open /etc/hosts that knows localhost, which programs connect to by name
 */
function files(
  mounts: readonly string[],
  tmpMb: number,
  programFolder: readonly string[],
  hostsFd: number,
): string[] {
  return [
    ...["--perms", "0444", "--file", String(hostsFd), "/etc/hosts"],
    ...SYSTEM_FOLDERS,
    ...mounts.flatMap((path) => ["--ro-bind-try", path, path]),
    ...[
      "--proc",
      "/proc",
      "--dev",
      "/dev",
      "--size",
      String(tmpMb * MIB),
      "--tmpfs",
      "/dev/shm",
      "--remount-ro",
      "/dev",
    ],
    ...["--size", String(tmpMb * MIB), "--perms", "1777", "--tmpfs", "/tmp"],
    ...programFolder,
  ];
}

/**
 * A sandbox with our supervisor as pid 1. fd 3: control socket, 4: the supervisor's bytes (bound from a descriptor, so that
 * its folder may be closed to the dropped uid and its host path shows nowhere), 5, ...: the groups that it joins,
 * then /etc/hosts.
 */
export function supervisedArguments(
  bubblewrap: Bubblewrap,
  mounts: readonly string[],
  kind: Supervisor["kind"],
  groups: number,
): string[] {
  return [
    ...namespaces(bubblewrap),
    "--as-pid-1",
    // For the supervisor alone, inside its own user namespace; every child drops them.
    ...["--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP", "--cap-add", "CAP_KILL"],
    ...["--cap-add", "CAP_NET_ADMIN"],
    ...files(mounts, 1, ["--dir", "/w"], FIRST_GROUP_FD + groups),
    ...["--perms", "0555", "--ro-bind-data", "4", "/sbx", "--remount-ro", "/"],
    ...(kind === "perl" ? [PERL, "/sbx", process.arch, String(groups)] : ["/sbx", String(groups)]),
  ];
}

/**
 * A sandbox for one run without a supervisor; /w is current and writable, and lost with the run. fd 3: status as JSON
 * lines, 4: seccomp filter, then the descriptors named in `options`.
 * @param options.fileNames - written to /w from firstFileFd, firstFileFd + 1, ... in this order
 */
export function singleRunArguments(
  bubblewrap: Bubblewrap,
  mounts: readonly string[],
  options: {
    readonly diskMb: number;
    readonly fileNames: readonly string[];
    readonly firstFileFd: number;
    readonly hostsFd: number;
  },
): string[] {
  return [
    ...namespaces(bubblewrap),
    ...["--cap-drop", "ALL", "--seccomp", "4", "--json-status-fd", "3"],
    ...files(
      mounts,
      options.diskMb,
      ["--size", String(PROGRAM_FOLDER_MB * MIB), "--tmpfs", "/w"],
      options.hostsFd,
    ),
    ...["--remount-ro", "/proc"],
    ...options.fileNames.flatMap((name, i) => ["--file", String(options.firstFileFd + i), `/w/${name}`]),
    ...["--chdir", "/w", "--remount-ro", "/"],
  ];
}

const FORBIDDEN =
  /new namespace failed|setting up uid map|No permissions to create|Creating new namespace|clone|uid_map/i;
const MASKED_PROC = /Can't mount proc/i;

/** Why the wall could not be built on this host, as an error that names the fix. */
export function refusal(stderr: string): ConfigError {
  const lines = stderr.trim().split("\n").slice(-3).join(" ");
  const fix = FORBIDDEN.test(lines)
    ? "This kernel forbids user namespaces here. On a host: sysctl -w kernel.unprivileged_userns_clone=1 (Debian), sysctl -w user.max_user_namespaces=15000, or on Ubuntu 24.04 sysctl -w kernel.apparmor_restrict_unprivileged_userns=0. In Docker: docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined."
    : MASKED_PROC.test(lines)
      ? "This container masks parts of /proc: docker run --security-opt systempaths=unconfined, podman run --security-opt unmask=ALL."
      : "The command bwrap --unshare-all --ro-bind / / true shows the cause.";
  return new ConfigError({
    at: "the sandbox",
    got: lines,
    need: "a working bubblewrap; programs never run outside one",
    fix,
  });
}
