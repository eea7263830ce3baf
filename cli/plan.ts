import { Command } from "commander";
import { DEVICES } from "../policy/run-config.js";
import { choiceOption, collect, positiveNumber } from "./arguments.js";

interface PlanOptions {
  readonly set: readonly string[];
  readonly device?: (typeof DEVICES)[number];
  readonly memory?: number;
  readonly json?: true;
}

/** `retort plan`: memory and time of a run, before anything is loaded. */
export const planCommand = (): Command =>
  new Command("plan")
    .description("Say what a run will take, before anything of it is loaded: memory by stage, disk, time.")
    .argument("<run.yaml>", "run file; policy.path may be a folder with nothing but config.json")
    .option("--set <key=value>", "override a key, as in `retort train`", collect, [])
    .addOption(choiceOption("--device <name>", "plan for this device, which need not be here", [...DEVICES]))
    .option("--memory <GB>", "its memory (2^30 bytes each); default: this machine's", positiveNumber)
    .option("--json", "print the plan as JSON, in bytes and seconds")
    .addHelpText(
      "after",
      `
Examples:
  $ retort plan configs/runs/quickstart.yaml
  $ retort plan run.yaml --device webgpu --memory 141 --set policy.lora.rank=16

docs/plan.md says how to read it.`,
    )
    .action(async (file: string, options: PlanOptions) => {
      const { loadRunConfig } = await import("../coordinator/config.js");
      const config = loadRunConfig(file, options.set);
      const { planRun } = await import("../coordinator/plan/plan.js");
      const { plannedProvider } = await import("../coordinator/plan/provider.js");
      const plan = await planRun(config, {
        provider: await plannedProvider(config, options.device),
        ...(options.memory === undefined ? {} : { memoryBytes: options.memory * 2 ** 30 }),
      });
      if (options.json) {
        process.stdout.write(`${JSON.stringify(plan)}\n`);
        return;
      }
      const { planTable } = await import("../coordinator/plan/table.js");
      process.stdout.write(planTable(plan));
    });
