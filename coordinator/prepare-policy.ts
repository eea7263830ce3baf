import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Provider } from "../tensor/index.js";
import type { RunConfig } from "./config.js";
import { makeWarmStart } from "./make-warm-start.js";
import type { Runner } from "./open-pool.js";
import type { Progress } from "./progress.js";

/**
 * The policy folder that a run starts from: the one it names, or, from scratch, a warm start made in the run directory.
 * A resumed run finds the one it made.
 */
export async function preparePolicy(
  config: RunConfig,
  folder: string,
  runner: Runner,
  progress: Progress,
  provider: Provider,
): Promise<string> {
  if (!config.policy.from_scratch) return config.policy.path;
  const made = join(folder, "warm-start");
  if (existsSync(join(made, "model.safetensors"))) return made;
  const threads = config.policy.threads ?? 1;
  await makeWarmStart({
    folder: made,
    provider,
    threads,
    verifier: await runner.open(),
    progress,
  });
  return made;
}
