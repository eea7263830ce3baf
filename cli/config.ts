import { Command } from "commander";
import { choiceOption, setOption } from "./arguments.js";

/** `retort config`: what may stand in a run file, and whether one is right. */
export const configCommand = (): Command =>
  new Command("config")
    .description("Check run files; print the JSON Schema that editors complete from.")
    .addCommand(schemaCommand())
    .addCommand(checkCommand());

const schemaCommand = (): Command =>
  new Command("schema")
    .description("Print a JSON Schema.")
    .addOption(choiceOption("--of <file kind>", "which kind of file", ["run", "language", "task"], "run"))
    .addHelpText("after", "\nExample:\n  $ retort config schema > run.schema.json")
    .action(async ({ of }: { of: "run" | "language" | "task" }) => {
      const { schemaText } = await import("../coordinator/schemas.js");
      process.stdout.write(schemaText(of));
    });

const checkCommand = (): Command =>
  new Command("check")
    .description(
      "Check a run file without starting it; every mistake is told with its place and the nearest key.",
    )
    .argument("<run.yaml>")
    .addOption(setOption())
    .option("--resolved", "print the configuration with every default filled in")
    .addHelpText("after", "\nExample:\n  $ retort config check configs/runs/quickstart.yaml")
    .action(async (file: string, options: { set: readonly string[]; resolved?: true }) => {
      const { loadRunConfig } = await import("../coordinator/config.js");
      const config = loadRunConfig(file, options.set);
      if (!options.resolved) {
        process.stderr.write(`${file} is right.\n`);
        return;
      }
      const { stringify } = await import("yaml");
      process.stdout.write(stringify(config));
    });
