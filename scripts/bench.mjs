/**
 * `npm run bench`: sets up, PyTorch and llama.cpp included, then measures training and sampling against them.
 *   npm run bench -- --help             tables, sizes, rounds
 *   npm run bench -- --quick            a first look
 *   npm run bench -- --only train       one table; llama.cpp is fetched only for its own
 *   npm run bench -- --json             the numbers as JSON
 * `npm run bench:gpu`: makes the bundle that measures on a GPU machine without Node; see docs/bench.md.
 * `npm run bench:judge`: the judge against the bare tools, a bubblewrap per test, and isolate where it is installed.
 *   npm run bench:judge -- --workers 1,4 --seconds 2 --rounds 3 --json
 * `npm run soak`: tens of thousands of programs through one pool, one in ten hostile; nothing may leak or change.
 *   npm run soak -- --programs 2000 --passes 2
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { root } from "./build.mjs";
import { npmIsCurrent, setupOrExit } from "./setup.mjs";

const OTHERS = ["judge", "soak", "gpu"];

/** Puts llama.cpp's npm packages (85 MB) into .cache/llama: never into the project's own node_modules. @param {boolean} mayInstall */
function ensureLlama(mayInstall) {
  const home = join(root, ".cache", "llama");
  mkdirSync(home, { recursive: true });
  for (const name of ["package.json", "package-lock.json"])
    copyFileSync(join(root, "bench", "llama", name), join(home, name));
  if (existsSync(join(home, "node_modules")) && npmIsCurrent(home)) return;
  const without = "or measure without it: npm run bench -- --only train,sample";
  if (!mayInstall) {
    console.error(`llama.cpp is missing, and --no-install forbids to install it;\n${without}`);
    process.exit(2);
  }
  console.error("Installing llama.cpp (node-llama-cpp) into .cache/llama.");
  // The packages for other platforms and GPUs weigh 600 MB, and an install step would fetch more.
  // Not `npm ci`: npm 11 calls its own lock file incomplete where that leaves other platforms out.
  const flags = ["--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
  const done = spawnSync("npm", ["install", ...flags], { cwd: home, stdio: ["ignore", "ignore", "inherit"] });
  if (done.status === 0) return;
  console.error(`llama.cpp could not be installed, see above. Try again, ${without}`);
  process.exit(2);
}

/** @param {string[]} args */
const wantsLlama = (args) => {
  const only = args.findIndex((arg) => arg.startsWith("--only"));
  if (args.includes("--help")) return false;
  return only === -1 || `${args[only]},${args[only + 1]}`.includes("llama");
};

const [first = "", ...others] = process.argv.slice(2);
const isOther = OTHERS.includes(first);
const args = isOther ? others : process.argv.slice(2);
const purpose =
  first === "judge" || first === "soak" ? "bench:judge" : first === "gpu" ? "bench:gpu" : "bench";
await setupOrExit(purpose, args);
if (!isOther && wantsLlama(args)) ensureLlama(!args.includes("--no-install"));
const main = { "": "main.js", gpu: "gpu/bundle.js" }[isOther ? first : ""] ?? `${first}/main.js`;
const measured = spawnSync(
  process.execPath,
  [join("dist", "bench", main), ...args.filter((arg) => arg !== "--no-install")],
  { cwd: root, stdio: "inherit" },
);
process.exitCode = measured.status ?? 1;
