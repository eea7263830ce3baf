import { Command } from "commander";
import { setOption } from "./arguments.js";
import { stopSignals } from "./stop-signals.js";

interface TrainOptions {
  readonly set: readonly string[];
  readonly resume?: true;
  readonly fromScratch?: true;
  /** false with --no-plan. */
  readonly plan: boolean;
}

/** `retort train`: the training run. */
export const trainCommand = (): Command =>
  new Command("train")
    .description("Train a policy as a run file says.")
    .argument("<run.yaml>", "run file; `retort config schema` describes it")
    .addOption(setOption())
    .option("--resume", "go on with the run in run.dir from its last good checkpoint")
    .option("--from-scratch", "make the warm start anew instead of loading the shipped one")
    .option("--no-plan", "start even if the plan says that memory will not suffice (see `retort plan`)")
    .addHelpText(
      "after",
      `
Examples:
  $ retort train configs/runs/quickstart.yaml
  $ retort train configs/runs/quickstart.yaml --set run.seed=3 --set run.dir=runs/seed3
  $ retort train configs/runs/quickstart.yaml --resume      after Ctrl-C, a crash or a power cut

Ctrl-C finishes the step, saves, says how to go on and exits with 130 (SIGTERM: 143); a second one stops at once.
Either way, and after kill -9 too, --resume goes on with the numbers of the uninterrupted run.`,
    )
    .action(async (file: string, options: TrainOptions) => {
      const { loadRunConfig } = await import("../coordinator/config.js");
      const sets = options.fromScratch ? [...options.set, "policy.from_scratch=true"] : options.set;
      const config = loadRunConfig(file, sets);
      if (options.plan) {
        const { checkPlan } = await import("../coordinator/plan/check.js");
        const line = await checkPlan(config);
        if (line !== null) process.stderr.write(`${line}\n`);
      }
      const { runTraining } = await import("../coordinator/train.js");
      const stop = stopSignals("Finishing the step and saving; once more stops at once.");
      const outcome = await runTraining(config, {
        resume: options.resume ?? false,
        resumeCommand: resumeCommand(file, options),
        signal: stop.signal,
      });
      if (outcome.status === "finished") process.stdout.write(`${outcome.text}\n`);
      else {
        process.stderr.write(`${outcome.text}\n`);
        process.exitCode = stop.exitCode();
      }
    });

const shellWord = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

/** The same command once more: without the same --set the configuration would be another one. */
const resumeCommand = (file: string, options: TrainOptions): string =>
  [
    "npx retort train",
    shellWord(file),
    ...options.set.map((set) => `--set ${shellWord(set)}`),
    ...(options.fromScratch ? ["--from-scratch"] : []),
    ...(options.plan ? [] : ["--no-plan"]),
    "--resume",
  ].join(" ");
