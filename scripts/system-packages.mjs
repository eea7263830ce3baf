/** Debian packages that a command needs: found by what they bring, installed without a question. */
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { distribution, SetupError } from "./host.mjs";

export const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

/** @param {string} command */
const hasCommand = (command) =>
  [...(process.env.PATH ?? "").split(delimiter), "/usr/bin", "/bin", "/usr/sbin", "/sbin"].some((folder) => {
    try {
      accessSync(join(folder, command), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });

/** @param {string} library */
const hasLibrary = (library) =>
  ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"].some((folder) =>
    existsSync(join(folder, library)),
  );

/** Package -> whether what it brings is here, wherever it came from. */
const IS_HERE = {
  bubblewrap: () => hasCommand("bwrap"),
  "lua5.4": () => hasCommand("lua5.4"),
  gcc: () => hasCommand("gcc"),
  "libc6-dev": () => existsSync("/usr/include/stdio.h"),
  python3: () => existsSync("/usr/bin/python3"),
  "redis-server": () => hasCommand("redis-server"),
  "g++": () => hasCommand("g++"),
  gawk: () => hasCommand("gawk"),
  gfortran: () => hasCommand("gfortran"),
  "guile-3.0": () => hasCommand("guile-3.0"),
  luajit: () => hasCommand("luajit"),
  "node-typescript": () => hasCommand("tsc"),
  "ocaml-nox": () => hasCommand("ocamlopt"),
  perl: () => hasCommand("perl"),
  "php-cli": () => hasCommand("php"),
  "r-base-core": () => hasCommand("Rscript"),
  ruby: () => hasCommand("ruby"),
  sqlite3: () => hasCommand("sqlite3"),
  tcl: () => hasCommand("tclsh"),
  chromium: () => existsSync(SWIFTSHADER),
  libvulkan1: () => hasLibrary("libvulkan.so.1"),
  "python3-torch": () => existsSync("/usr/lib/python3/dist-packages/torch/__init__.py"),
  "libopenblas0-pthread": () => hasLibrary("openblas-pthread/libblas.so.3"),
};

/** @typedef {keyof typeof IS_HERE} SystemPackage */

/**
 * Languages that `npm test` runs for real beside Lua, C, Bash and JavaScript: 193 MB to download on Debian 12, two thirds
 * of them OCaml's and R's. test/verifiers/languages-run.test.ts names the languages.
 * @type {readonly SystemPackage[]}
 */
const LIGHT_LANGUAGES = [
  "g++",
  "gawk",
  "gfortran",
  "guile-3.0",
  "luajit",
  "node-typescript",
  "ocaml-nox",
  "perl",
  "php-cli",
  "python3",
  "r-base-core",
  "ruby",
  "sqlite3",
  "tcl",
];

/** @type {Readonly<Record<"start" | "test" | "bench" | "bench:gpu" | "bench:judge", readonly SystemPackage[]>>} */
export const PACKAGES = {
  start: ["bubblewrap", "lua5.4", "gcc", "libc6-dev"],
  test: [
    "bubblewrap",
    "lua5.4",
    "gcc",
    "libc6-dev",
    "redis-server",
    "chromium",
    "libvulkan1",
    ...LIGHT_LANGUAGES,
  ],
  bench: ["python3-torch", "libopenblas0-pthread"],
  "bench:gpu": ["libvulkan1"],
  "bench:judge": ["bubblewrap", "lua5.4", "gcc", "libc6-dev", "python3"],
};

/** @param {readonly SystemPackage[]} wanted */
export const missingPackages = (wanted) => wanted.filter((name) => !IS_HERE[name]());

/** The words for systems without apt. @param {readonly string[]} names */
function elsewhere(names) {
  const { name } = distribution();
  const manager = ["dnf", "pacman", "apk", "zypper"].find(hasCommand);
  const how = manager ? ` Its own package manager is ${manager}; package names differ there.` : "";
  return `${name} has no apt-get, so nothing was installed. Install what these Debian packages bring: ${names.join(" ")}.${how}`;
}

/** The command that a person would type. @param {readonly string[]} names */
export const installCommand = (names, sudo = process.getuid?.() !== 0) =>
  `${sudo ? "sudo " : ""}apt-get install -y --no-install-recommends ${names.join(" ")}`;

/**
 * Runs apt-get; waits up to ten minutes for another one that holds a lock.
 * @param {readonly string[]} prefix [] or ["sudo", "-n"] @param {readonly string[]} args
 * @returns {boolean} whether it succeeded
 */
function aptGet(prefix, args) {
  const environment = ["env", "DEBIAN_FRONTEND=noninteractive", "NEEDRESTART_MODE=a"];
  const options = [
    "-q",
    "-o",
    "DPkg::Lock::Timeout=600",
    "-o",
    "Acquire::Retries=3",
    "-o",
    "Dpkg::Options::=--force-confold",
  ];
  const [command = "env", ...rest] = [...prefix, ...environment, "apt-get", ...options, ...args];
  const deadline = Date.now() + 600_000;
  for (;;) {
    const done = spawnSync(command, rest, {
      stdio: ["ignore", "pipe", "pipe"],
      encoding: "utf8",
      maxBuffer: 1 << 28,
    });
    if (done.status === 0) return true;
    // `update` does not wait for its own lock, so that wait is ours.
    if (!/Could not get lock|Unable to lock/.test(done.stderr ?? "") || Date.now() > deadline) {
      process.stderr.write(`${done.stdout ?? ""}${done.stderr ?? ""}${done.error?.message ?? ""}\n`);
      return false;
    }
    process.stderr.write("Another apt-get is running; waiting for it.\n");
    spawnSync("sleep", ["5"]);
  }
}

/**
 * Installs what is missing, after saying so.
 * @param {readonly SystemPackage[]} wanted
 * @param {{ mayInstall: boolean, say: (line: string) => void }} options
 * @throws {SetupError} that names the command that would help
 */
export function ensurePackages(wanted, { mayInstall, say }) {
  const missing = missingPackages(wanted);
  if (missing.length === 0) return;
  const command = installCommand(missing);
  if (!hasCommand("apt-get")) throw new SetupError(elsewhere(missing));
  if (!mayInstall) {
    throw new SetupError(
      `Debian packages are missing, and --no-install forbids to install them:\n  ${command}`,
    );
  }
  const isRoot = process.getuid?.() === 0;
  const canSudo = !isRoot && hasCommand("sudo") && spawnSync("sudo", ["-n", "true"]).status === 0;
  if (!isRoot && !canSudo) {
    throw new SetupError(
      `Debian packages are missing, and sudo is not possible without a password. Please run:\n  ${command}`,
    );
  }
  const { id, version, name } = distribution();
  if (id !== "debian" || version !== "12") say(`This is ${name}; Retort is tested on Debian 12.`);
  say(`Installing system packages: ${missing.join(" ")}`);
  const prefix = isRoot ? [] : ["sudo", "-n"];
  if (!aptGet(prefix, ["update"])) say("apt-get update failed; trying with the package lists that are here.");
  aptGet(prefix, ["install", "-y", "--no-install-recommends", ...missing]);
  const still = missingPackages(missing);
  if (still.length > 0)
    throw new SetupError(
      `These packages could not be installed: ${still.join(" ")}. Please run:\n  ${installCommand(still)}`,
    );
}
