import { Command } from "commander";
import { DEVICES } from "../policy/run-config.js";
import { choiceOption, positiveNumber, setOption } from "./arguments.js";

interface PlanOptions {
  readonly set: readonly string[];
  readonly device?: (typeof DEVICES)[number];
  readonly memory?: number;
  readonly tflops?: number;
  readonly bandwidth?: number;
  readonly json?: true;
}

/** `retort plan`: memory and time of a run, before anything is loaded. */
export const planCommand = (): Command =>
  new Command("plan")
    .description("Say what a run will take, before anything of it is loaded: memory by stage, disk, time.")
    .argument("<run.yaml>", "run file; policy.path may be a folder with nothing but config.json")
    .addOption(setOption())
    .addOption(choiceOption("--device <name>", "plan for this device, which need not be here", [...DEVICES]))
    .option("--memory <GB>", "its memory (2^30 bytes each); default: this machine's", positiveNumber)
    .option(
      "--tflops <number>",
      "its speed in 10^12 operations a second; default: measured, where it is here",
      positiveNumber,
    )
    .option("--bandwidth <GB/s>", "its memory's speed, 10^9 bytes a second", positiveNumber)
    .option("--json", "print the plan as JSON, in bytes and seconds")
    .addHelpText(
      "after",
      `
Examples:
  $ retort plan configs/runs/quickstart.yaml
  $ retort plan run.yaml --device webgpu --memory 141 --tflops 40 --bandwidth 4000

docs/plan.md says how to read it.`,
    )
    .action(async (file: string, options: PlanOptions) => {
      const { loadRunConfig } = await import("../coordinator/config.js");
      const config = loadRunConfig(file, options.set);
      const { planRun } = await import("../coordinator/plan/plan.js");
      const { plannedProvider, plannedSpeeds } = await import("../coordinator/plan/provider.js");
      const provider = await plannedProvider(config, options.device);
      const plan = await planRun(config, {
        provider,
        ...(await plannedSpeeds(provider, config, options)),
        ...(options.memory === undefined ? {} : { memoryBytes: options.memory * 2 ** 30 }),
      });
      if (options.json) {
        process.stdout.write(`${JSON.stringify(plan)}\n`);
        return;
      }
      const { planTable } = await import("../coordinator/plan/table.js");
      process.stdout.write(planTable(plan));
    });
