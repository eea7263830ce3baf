/** What this machine is, and whether Retort's sandbox can work on it. Plain JavaScript: runs before any package exists. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";

const [NEEDED_MAJOR, NEEDED_MINOR] = [20, 17];

/** Something a person must mend before the set-up can go on; the message says how. */
export class SetupError extends Error {}

/** @param {string} file @returns {string} "" where it cannot be read */
const read = (file) => {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
};

/** @param {string} version such as "20.17.0" */
export function checkNode(version = process.versions.node) {
  const [major = 0, minor = 0] = version.split(".").map(Number);
  if (major > NEEDED_MAJOR || (major === NEEDED_MAJOR && minor >= NEEDED_MINOR)) return;
  throw new SetupError(
    `Node ${NEEDED_MAJOR}.${NEEDED_MINOR} or newer is needed; this is ${version}. ` +
      "Install it from https://nodejs.org/en/download, or with nvm: nvm install 22",
  );
}

/**
 * Honest sentences about systems other than the one that Retort is developed on.
 * @param {{ platform: string, arch: string, kernel: string }} host kernel: the text of /proc/version
 * @returns {string[]} notes; the set-up goes on
 * @throws {SetupError} where Retort cannot work
 */
export function systemNotes({ platform, arch, kernel }) {
  if (platform === "darwin") {
    throw new SetupError(
      "macOS has no namespaces, so the sandbox cannot run programs safely there. " +
        "Use a Linux machine or virtual machine, for example: limactl start template://debian-12",
    );
  }
  if (platform === "win32") {
    throw new SetupError(
      "Windows has no namespaces, so the sandbox cannot work. Use WSL 2 with Debian: wsl --install -d Debian",
    );
  }
  if (platform !== "linux") throw new SetupError(`Retort needs Linux for its sandbox; this is ${platform}.`);
  const notes = [];
  if (/microsoft/i.test(kernel)) {
    if (!/WSL2/i.test(kernel)) {
      throw new SetupError(
        "WSL 1 has no namespaces, so the sandbox cannot work. Move to WSL 2: wsl --set-version Debian 2",
      );
    }
    notes.push("This is WSL 2: the sandbox should work there, but Retort is not tested on it.");
  }
  if (arch === "arm64") {
    notes.push(
      "This is arm64: every part has a build for it, but Retort is tested on x64 only and figures will differ.",
    );
  } else if (arch !== "x64") {
    throw new SetupError(`ONNX Runtime has no build for ${arch}; x64 (or arm64, untested) is needed.`);
  }
  return notes;
}

/** This machine, for `systemNotes`. */
export const thisHost = () => ({
  platform: process.platform,
  arch: process.arch,
  kernel: read("/proc/version"),
});

/** @returns {{ id: string, version: string, name: string }} from /etc/os-release */
export function distribution(text = read("/etc/os-release")) {
  /** @param {string} key */
  const field = (key) => new RegExp(`^${key}="?([^"\\n]*)"?$`, "m").exec(text)?.[1] ?? "";
  return { id: field("ID"), version: field("VERSION_ID"), name: field("PRETTY_NAME") || "an unknown Linux" };
}

/** What to do where bubblewrap may not make namespaces. @param {string} problem bubblewrap's own words */
export function namespaceFix(problem) {
  const isContainer = existsSync("/.dockerenv") || existsSync("/run/.containerenv");
  if (isContainer) {
    return (
      "This container forbids user namespaces. Start it with:\n" +
      "  docker run --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined ..."
    );
  }
  if (read("/proc/sys/kernel/unprivileged_userns_clone").trim() === "0") {
    return "This kernel allows user namespaces to root only:\n  sudo sysctl -w kernel.unprivileged_userns_clone=1";
  }
  if (read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").trim() === "1") {
    return "AppArmor restricts user namespaces:\n  sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
  }
  if (read("/proc/sys/user/max_user_namespaces").trim() === "0") {
    return "The number of user namespaces is limited to none:\n  sudo sysctl -w user.max_user_namespaces=15000";
  }
  return `User namespaces cannot be made here (${problem}). If this is a container, it must be started with more rights.`;
}

/** Tries the sandbox's outer wall on `true`. @throws {SetupError} with the command that would help */
export function checkNamespaces() {
  const walls = [
    "--unshare-all",
    "--ro-bind",
    "/",
    "/",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "--die-with-parent",
    "true",
  ];
  // Started by root, bubblewrap isolates little; the verifier drops to an unprivileged user first, so this must too.
  const user = process.getuid?.() === 0 ? { uid: 61_000, gid: 61_000 } : {};
  const tried = spawnSync("bwrap", walls, { ...user, cwd: "/", encoding: "utf8", timeout: 10_000 });
  if (tried.status === 0) return;
  const problem = tried.error?.message ?? tried.stderr.trim().split("\n").at(-1) ?? "no message";
  throw new SetupError(`The sandbox cannot start: ${problem}\n${namespaceFix(problem)}`);
}
