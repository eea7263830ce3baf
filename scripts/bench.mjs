/**
 * `npm run bench`: sets up, PyTorch included, then measures training and sampling against it.
 *   npm run bench -- --json             the numbers as JSON
 *   npm run bench -- --rounds 3         fewer turns of every side
 *   npm run bench -- --shape D128       only shapes whose name contains this
 * `npm run bench:judge`: the judge against the bare tools, a bubblewrap per test, and isolate where it is installed.
 *   npm run bench:judge -- --workers 1,4 --seconds 2 --rounds 3 --json
 * `npm run soak`: tens of thousands of programs through one pool, one in ten hostile; nothing may leak or change.
 *   npm run soak -- --programs 2000 --passes 2
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "./build.mjs";
import { setupOrExit } from "./setup.mjs";

const [first, ...others] = process.argv.slice(2);
const ofTheJudge = first === "judge" || first === "soak";
const args = ofTheJudge ? others : process.argv.slice(2);
await setupOrExit(ofTheJudge ? "bench:judge" : "bench", args);
const main = ofTheJudge ? join("dist", "bench", first ?? "", "main.js") : join("dist", "bench", "main.js");
const measured = spawnSync(process.execPath, [main, ...args.filter((arg) => arg !== "--no-install")], {
  cwd: root,
  stdio: "inherit",
});
process.exitCode = measured.status ?? 1;
