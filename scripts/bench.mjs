/**
 * `npm run bench`: sets up, PyTorch included, then measures training and sampling against it.
 *   npm run bench -- --json             the numbers as JSON
 *   npm run bench -- --rounds 3         fewer turns of every side
 *   npm run bench -- --shape D128       only shapes whose name contains this
 */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { root } from "./build.mjs";
import { setupOrExit } from "./setup.mjs";

const args = process.argv.slice(2);
await setupOrExit("bench", args);
const measured = spawnSync(
  process.execPath,
  [join("dist", "bench", "main.js"), ...args.filter((arg) => arg !== "--no-install")],
  { cwd: root, stdio: "inherit" },
);
process.exitCode = measured.status ?? 1;
