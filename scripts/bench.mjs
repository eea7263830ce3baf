/**
 * `npm run bench`: sets up, PyTorch included, then measures training and sampling against it.
 *   npm run bench -- --json             the numbers as JSON
 *   npm run bench -- --rounds 3         fewer turns of every side
 *   npm run bench -- --shape D128       only shapes whose name contains this
 * `npm run bench:judge`: the judge against the bare tools, a bubblewrap per test, and isolate where it is installed.
 *   npm run bench:judge -- --workers 1,4 --seconds 2 --rounds 3 --json
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "./build.mjs";
import { setupOrExit } from "./setup.mjs";

const [first, ...others] = process.argv.slice(2);
const isJudge = first === "judge";
const args = isJudge ? others : process.argv.slice(2);
await setupOrExit(isJudge ? "bench:judge" : "bench", args);
const main = isJudge ? join("dist", "bench", "judge", "main.js") : join("dist", "bench", "main.js");
const measured = spawnSync(process.execPath, [main, ...args.filter((arg) => arg !== "--no-install")], {
  cwd: root,
  stdio: "inherit",
});
process.exitCode = measured.status ?? 1;
