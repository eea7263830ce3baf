/**
 * Makes this checkout ready: system packages, npm packages, build, the sandbox's supervisor. What is done already costs
 * under three seconds. Plain JavaScript, nothing but Node's own modules: it runs before any npm package exists.
 *   node scripts/setup.mjs start|test|bench|bench:gpu|bench:judge [--no-install]
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build, root } from "./build.mjs";
import { checkNamespaces, checkNode, SetupError, systemNotes, thisHost } from "./host.mjs";
import { ensurePackages, PACKAGES } from "./system-packages.mjs";

/** @param {string} line */
const say = (line) => {
  process.stderr.write(`${line}\n`);
};

/**
 * @typedef {{ version?: string, optional?: boolean, devOptional?: boolean, peer?: boolean, link?: boolean }} Locked
 * @param {string} file @returns {Record<string, Locked>} a lock file's packages by path
 */
const lockedPackages = (file) =>
  existsSync(file)
    ? /** @type {{ packages: Record<string, Locked> }} */ (JSON.parse(readFileSync(file, "utf8"))).packages
    : {};

/** Whether node_modules holds what package-lock.json names. Packages for other platforms are optional and may be absent. */
export function npmIsCurrent(folder = root) {
  const wanted = lockedPackages(join(folder, "package-lock.json"));
  const here = lockedPackages(join(folder, "node_modules", ".package-lock.json"));
  return Object.entries(wanted).every(
    ([path, { version, optional, devOptional }]) =>
      path === "" || optional === true || devOptional === true || here[path]?.version === version,
  );
}

/** @param {boolean} mayInstall */
function ensureNpmPackages(mayInstall) {
  if (npmIsCurrent()) return;
  if (!mayInstall)
    throw new SetupError("npm packages are missing, and --no-install forbids to install them:\n  npm ci");
  say("Installing npm packages.");
  const done = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], {
    cwd: root,
    stdio: ["ignore", "ignore", "inherit"],
    // ONNX Runtime's install step would otherwise fetch CUDA libraries, hundreds of megabytes.
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: "skip", npm_config_onnxruntime_node_install: "skip" },
  });
  if (done.status !== 0)
    throw new SetupError("npm ci failed, see above. Check the network, then run the same command again.");
}

async function ensureSupervisor() {
  const file = join(root, "dist", "verifiers", "supervisor-build.js");
  const { buildSupervisor } =
    /** @type {{ buildSupervisor: () => { path: string | null, note: string } }} */ (
      await import(pathToFileURL(file).href)
    );
  const { path, note } = buildSupervisor();
  if (path === null)
    say(`The sandbox works without its fast supervisor (${note}); programs are judged more slowly.`);
}

/**
 * @typedef {"start" | "test" | "bench" | "bench:gpu" | "bench:judge"} Purpose
 * @param {Purpose} purpose bench and bench:gpu run no sandbox
 * @param {{ mayInstall: boolean }} options
 * @throws {SetupError} whose message names the command that would help
 */
export async function setup(purpose, { mayInstall }) {
  checkNode();
  for (const note of systemNotes(thisHost())) say(note);
  ensurePackages(PACKAGES[purpose], { mayInstall, say });
  const runsSandbox = purpose !== "bench" && purpose !== "bench:gpu";
  if (runsSandbox) checkNamespaces();
  ensureNpmPackages(mayInstall);
  build(say);
  if (runsSandbox) await ensureSupervisor();
}

/** `setup` for a script: says what is wrong and ends the process with 2. @param {Purpose} purpose @param {string[]} args */
export async function setupOrExit(purpose, args) {
  try {
    await setup(purpose, { mayInstall: !args.includes("--no-install") });
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(error.message);
    process.exit(2);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [given, ...rest] = process.argv.slice(2);
  const purpose = /** @type {Purpose[]} */ (Object.keys(PACKAGES)).find((name) => name === given);
  if (purpose === undefined) {
    say(`Usage: node scripts/setup.mjs ${Object.keys(PACKAGES).join("|")} [--no-install]`);
    process.exit(2);
  }
  await setupOrExit(purpose, rest);
}
