#!/usr/bin/env node
/** `retort`: picks a command, and turns errors into one clear paragraph and an exit code. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { packageRoot } from "../core/index.js";
import { cacheCommand } from "./cache.js";
import { configCommand } from "./config.js";
import { devicesCommand } from "./devices.js";
import { evalCommand } from "./eval.js";
import { exitCodeOf, explain } from "./exit.js";
import { exportCommand } from "./export.js";
import { generateCommand } from "./generate.js";
import { languagesCommand } from "./languages.js";
import { planCommand } from "./plan.js";
import { runCommand } from "./run.js";
import { scoreCommand } from "./score.js";
import { serveCommand } from "./serve.js";
import { tasksCommand } from "./tasks.js";
import { trainCommand } from "./train.js";
import { warmStartCommand } from "./warm-start.js";
import { workerCommand } from "./worker.js";

const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as {
  version: string;
};

const program = new Command("retort")
  .description("Trains code-writing language models on what happens when their programs run.")
  .version(version)
  .showHelpAfterError("(--help shows what this command takes)")
  .enablePositionalOptions()
  .configureHelp({ showGlobalOptions: true })
  .addHelpText(
    "after",
    `
Examples:
  $ retort train configs/runs/quickstart.yaml
  $ retort eval --tasks tasks.jsonl --solutions solutions.jsonl --out results.jsonl
  $ echo 3 4 | retort run --language lua add.lua

Exit codes: 0 done, 1 the run failed, 2 wrong usage or configuration.
Data goes to stdout; progress and messages go to stderr.`,
  );
for (const command of [
  trainCommand(),
  planCommand(),
  devicesCommand(),
  evalCommand(),
  generateCommand(),
  scoreCommand(),
  exportCommand(),
  cacheCommand(),
  runCommand(),
  languagesCommand(),
  tasksCommand(),
  serveCommand(),
  configCommand(),
  workerCommand(),
  warmStartCommand(),
]) {
  program.addCommand(command.copyInheritedSettings(program));
}

/** Ends the process once stdout and stderr have been taken up; a process.exit at once would cut a pipe's last lines. */
function leave(code: number): void {
  process.stdout.write("", () => process.stderr.write("", () => process.exit(code)));
}

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0); // `retort ... | head`: nobody reads on
  throw error;
});

function throwCommanderErrors(command: Command): void {
  command.exitOverride();
  for (const inner of command.commands) throwCommanderErrors(inner);
}
throwCommanderErrors(program);

try {
  await program.parseAsync();
  leave(Number(process.exitCode ?? 0));
} catch (error) {
  if (!(error instanceof CommanderError)) process.stderr.write(`${explain(error)}\n`);
  leave(exitCodeOf(error));
}
