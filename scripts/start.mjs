/**
 * `npm start`: sets up, then trains the quick start. Further arguments go to the training:
 *   npm start -- --set run.seed=3
 */
import { spawn } from "node:child_process";
import { root } from "./build.mjs";
import { setupOrExit } from "./setup.mjs";

const args = process.argv.slice(2);
await setupOrExit("start", args);
const training = ["dist/cli/main.js", "train", "configs/runs/quickstart.yaml"];
const child = spawn(process.execPath, [...training, ...args.filter((arg) => arg !== "--no-install")], {
  cwd: root,
  stdio: "inherit",
});
// A terminal's Ctrl-C reaches the training too, which then finishes its step and saves: wait for it.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => child.kill("SIGTERM"));
child.on("exit", (code, signal) => {
  process.exit(signal === null ? (code ?? 1) : 1);
});
