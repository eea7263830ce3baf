import { Command } from "commander";
import { languagesOption, workersOption } from "./arguments.js";

interface CheckOptions {
  readonly run?: true;
  readonly out?: string;
  readonly workers?: number;
  readonly languages: readonly string[];
  readonly json?: true;
}

export const checkCommand = (): Command =>
  new Command("check")
    .description(
      "Check a task file: its rows, and with --run that each reference passes and an empty program does not.",
    )
    .argument("<file>", "task file (JSONL)")
    .option("--run", "run every reference in the sandbox")
    .option("--out <file>", "write the tasks without a fault")
    .addOption(workersOption())
    .addOption(languagesOption())
    .option("--json", "print the report as JSON")
    .addHelpText(
      "after",
      `
Exit code: 0 without a fault, 1 with any, 2 for a file that cannot be read.
Examples:
  $ retort tasks check tasks.jsonl
  $ retort tasks check tasks.jsonl --run --out trusted.jsonl`,
    )
    .action(async (file: string, options: CheckOptions) => {
      const { checkTaskFile, reportLines } = await import("../coordinator/check-task-file.js");
      const { loadLanguages } = await import("../verifiers/index.js");
      const { run, languages: folders, json, ...rest } = options;
      const report = await checkTaskFile({
        ...rest,
        file,
        isRun: run === true,
        languages: loadLanguages(folders),
        stream: process.stderr,
      });
      process.stdout.write(json ? `${JSON.stringify(report)}\n` : `${reportLines(report).join("\n")}\n`);
      if (!report.is_right) process.exitCode = 1;
    });
