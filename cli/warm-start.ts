import { Command } from "commander";
import { ConfigError, makeFolder } from "../core/index.js";
import { positiveInteger, seedNumber } from "./arguments.js";

interface WarmStartOptions {
  readonly out: string;
  readonly steps: number;
  readonly seed: number;
  readonly threads: number;
}

/** `retort warm-start`: makes the quick start's policy from nothing. */
export const warmStartCommand = (): Command =>
  new Command("warm-start")
    .description(
      "Make the quick start's small policy: tokenizer, random weights, imitation of demonstrations.",
    )
    .requiredOption("--out <folder>", "policy folder to write")
    .option("--steps <count>", "supervised steps of 32 demonstrations", positiveInteger, 1300)
    .option("--seed <number>", "seed of the weights and the order", seedNumber, 0)
    .option("--threads <count>", "CPU threads; equal bits need an equal number", positiveInteger, 1)
    .addHelpText(
      "after",
      `
The shipped checkpoints/quickstart was made by:
  $ retort warm-start --out checkpoints/quickstart`,
    )
    .action(async ({ out, steps, seed, threads }: WarmStartOptions) => {
      const { createProgress } = await import("../coordinator/progress.js");
      const { makeWarmStart } = await import("../coordinator/make-warm-start.js");
      const { createLocalPool, loadLanguages } = await import("../verifiers/index.js");
      try {
        makeFolder(out);
      } catch (cause) {
        throw new ConfigError({ at: "--out", got: out, need: "a folder that can be made", cause });
      }
      const progress = createProgress({ stream: process.stderr });
      const verifier = await createLocalPool({ languages: loadLanguages() });
      try {
        await makeWarmStart({ folder: out, steps, seed, threads, provider: "cpu", verifier, progress });
        progress.end();
        process.stdout.write(`${out}\n`);
      } finally {
        progress.end();
        await verifier.close();
      }
    });
