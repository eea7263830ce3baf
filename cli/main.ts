#!/usr/bin/env node
/** `retort`: picks a command, and turns errors into one clear paragraph and an exit code. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Command, CommanderError } from "commander";
import { packageRoot } from "../core/index.js";
import { exitCodeOf, explain } from "./exit.js";

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
/** Only the command that is asked for is loaded; all are where none is, for the help and for the nearest name. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  train: async () => (await import("./train.js")).trainCommand(),
  plan: async () => (await import("./plan.js")).planCommand(),
  devices: async () => (await import("./devices.js")).devicesCommand(),
  eval: async () => (await import("./eval.js")).evalCommand(),
  generate: async () => (await import("./generate.js")).generateCommand(),
  score: async () => (await import("./score.js")).scoreCommand(),
  export: async () => (await import("./export.js")).exportCommand(),
  cache: async () => (await import("./cache.js")).cacheCommand(),
  run: async () => (await import("./run.js")).runCommand(),
  languages: async () => (await import("./languages.js")).languagesCommand(),
  tasks: async () => (await import("./tasks.js")).tasksCommand(),
  serve: async () => (await import("./serve.js")).serveCommand(),
  config: async () => (await import("./config.js")).configCommand(),
  worker: async () => (await import("./worker.js")).workerCommand(),
  "warm-start": async () => (await import("./warm-start.js")).warmStartCommand(),
};
const words = process.argv.slice(2).filter((word) => !word.startsWith("-"));
const asked = words[0] === "help" ? words[1] : words[0];
const one = asked !== undefined && Object.hasOwn(COMMANDS, asked) ? COMMANDS[asked] : undefined;
for (const load of one === undefined ? Object.values(COMMANDS) : [one])
  program.addCommand((await load()).copyInheritedSettings(program));

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
