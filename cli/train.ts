import { Command } from "commander";
import { collect } from "./arguments.js";

interface TrainOptions {
  readonly set: readonly string[];
  readonly resume?: true;
  readonly fromScratch?: true;
}

/** `retort train`: the training run. */
export const trainCommand = (): Command =>
  new Command("train")
    .description("Train a policy as a run file says.")
    .argument("<run.yaml>", "run file; `retort config schema` describes it")
    .option("--set <key=value>", "override a key of the run file; may be given again and again", collect, [])
    .option("--resume", "go on with the run in run.dir from its last good checkpoint")
    .option("--from-scratch", "make the warm start anew instead of loading the shipped one")
    .addHelpText(
      "after",
      `
Examples:
  $ retort train configs/runs/quickstart.yaml
  $ retort train configs/runs/quickstart.yaml --set run.seed=3 --set run.dir=runs/seed3
  $ retort train configs/runs/quickstart.yaml --resume      after Ctrl-C, a crash or a power cut

Ctrl-C finishes the step, saves, and says how to go on.`,
    )
    .action(async (file: string, options: TrainOptions) => {
      const { loadRunConfig } = await import("../coordinator/config.js");
      const sets = options.fromScratch ? [...options.set, "policy.from_scratch=true"] : options.set;
      const config = loadRunConfig(file, sets);
      const { runTraining } = await import("../coordinator/train.js");
      const resume = options.resume ?? false;
      const outcome = await runTraining(config, { resume, configPath: file, signal: stopSignal() });
      process.stdout.write(`${outcome.text}\n`);
    });

/** Aborted by the first Ctrl-C or SIGTERM; the second one ends the process at once. */
function stopSignal(): AbortSignal {
  const controller = new AbortController();
  const stop = (): void => {
    if (controller.signal.aborted) process.exit(1);
    process.stderr.write("\nFinishing the step and saving; once more stops at once.\n");
    controller.abort();
  };
  process.on("SIGINT", stop);
  process.on("SIGTERM", stop);
  return controller.signal;
}
