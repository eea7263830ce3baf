/** Compiles the TypeScript to dist/, only when a source changed. `npm run build` runs this file. */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { SetupError } from "./host.mjs";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const dist = join(root, "dist");
const stamp = join(dist, ".build-stamp");

/** @param {string} folder @returns {string[]} every file below it */
const filesBelow = (folder) =>
  existsSync(folder)
    ? readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    : [];

/** Folders that tsconfig.build.json compiles. */
const parts = () =>
  /** @type {{ include: string[] }} */ (JSON.parse(readFileSync(join(root, "tsconfig.build.json"), "utf8")))
    .include;

const sources = () =>
  parts()
    .flatMap((part) => filesBelow(join(root, part)))
    .filter((file) => file.endsWith(".ts"))
    .sort();

/** Names the sources and the compiler: equal names, equal dist/. */
function sourceHash() {
  const hash = createHash("sha256");
  for (const file of [
    ...sources(),
    ...filesBelow(join(root, "configs", "languages")).sort(),
    ...["tsconfig.json", "tsconfig.build.json", "package-lock.json", "scripts/bundle.mjs"].map((name) =>
      join(root, name),
    ),
  ]) {
    hash
      .update(`${relative(root, file)}\0`)
      .update(readFileSync(file))
      .update("\0");
  }
  return hash.digest("hex");
}

/** Removes what an earlier build made of a source that is gone. */
function prune() {
  const made = new Set(sources().map((file) => relative(root, file).replace(/\.ts$/, "")));
  for (const file of filesBelow(dist)) {
    if (dirname(file) === join(dist, "chunks")) continue; // bundle.mjs's own
    const name = relative(dist, file).replace(/(\.d\.ts|\.js)(\.map)?$/, "");
    if (file !== stamp && /\.(js|d\.ts|map)$/.test(file) && !made.has(name)) rmSync(file);
  }
}

/** Makes few files of what processes and threads start with, see bundle.mjs. */
function bundle() {
  const script = join(root, "scripts", "bundle.mjs");
  const done = spawnSync(process.execPath, [script], { cwd: root, encoding: "utf8" });
  if (done.status !== 0) throw new SetupError(`The build failed:\n${done.stdout}${done.stderr}`);
}

/** Makes `npx retort` find the command of this checkout. */
function linkCommand() {
  const target = join(dist, "cli", "main.js");
  chmodSync(target, 0o755);
  const link = join(root, "node_modules", ".bin", "retort");
  if (existsSync(link)) return;
  mkdirSync(dirname(link), { recursive: true });
  rmSync(link, { force: true });
  symlinkSync(relative(dirname(link), target), link);
}

/** @returns {boolean} whether there was anything to build @throws {SetupError} when the compiler complains */
export function build(say = (/** @type {string} */ line) => console.error(line)) {
  const hash = sourceHash();
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === hash) return false;
  say("Building.");
  rmSync(stamp, { force: true });
  const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
  const done = spawnSync(process.execPath, [compiler, "-p", "tsconfig.build.json"], {
    cwd: root,
    encoding: "utf8",
  });
  if (done.status !== 0) throw new SetupError(`The build failed:\n${done.stdout}${done.stderr}`);
  prune();
  bundle();
  linkCommand();
  writeFileSync(stamp, hash);
  return true;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    build();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
