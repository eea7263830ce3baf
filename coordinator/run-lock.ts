import { join } from "node:path";
import { lockFile } from "../checkpoints/index.js";

/** Takes the lock of a run directory that exists. */
export const lockFolder = (folder: string): (() => void) =>
  lockFile(join(folder, "run.lock"), {
    at: folder,
    need: "a run directory that no other process uses",
    fix: "Wait for it, stop it, or choose another directory with --set run.dir=DIR.",
  });
