import { readFileSync } from "node:fs";
import { constants } from "node:os";
import { Command } from "commander";
import { ConfigError, InfrastructureError, type Limits, type TestOutcome } from "../core/index.js";
import type { Backend } from "../verifiers/index.js";
import {
  backendOption,
  languagesOption,
  positiveInteger,
  positiveNumber,
  requireOption,
} from "./arguments.js";

interface RunOptions {
  readonly language: string;
  readonly languages: readonly string[];
  readonly timeS?: number;
  readonly memoryMb?: number;
  readonly backend: Backend;
  readonly require?: string;
}

/** What a shell says of a program that was ended for its time, as `timeout` does. */
const TIME_LIMIT_CODE = 124;

/** `retort run`: one program in the sandbox, its stdin and output passed through. */
export const runCommand = (): Command =>
  new Command("run")
    .description("Run one program in the sandbox; stdin is passed on, and it exits as the program did.")
    .requiredOption("--language <name>", "language of the program")
    .argument("<file>", "the program")
    .addOption(languagesOption())
    .addOption(backendOption())
    .addOption(requireOption())
    .option("--time-s <seconds>", "wall time it may take", positiveNumber)
    .option("--memory-mb <mebibytes>", "memory it may take", positiveInteger)
    .addHelpText(
      "after",
      `
Exit code: the program's own; 128 + number after a signal; 124 out of time; 2 wrong usage; 1 also when it does not compile.
Examples:
  $ echo 3 4 | retort run --language lua add.lua
  $ retort run --language c --time-s 1 loop.c`,
    )
    .action(async (file: string, options: RunOptions) => {
      const { createLocalPool, loadLanguages, readRequirements, runInteractive } = await import(
        "../verifiers/index.js"
      );
      const languages = loadLanguages(options.languages);
      const language = languages.get(options.language).name;
      const program = readProgram(file);
      const require = options.require === undefined ? {} : readRequirements(options.require);
      const pool = await createLocalPool({ languages, workers: 1, backend: options.backend, require });
      try {
        const run = { language, program, limits: limitsOf(options) };
        const outcome = await runInteractive(pool, run, process.stdin, (stream, bytes) =>
          process[stream].write(bytes),
        );
        process.exitCode = exitCodeOfProgram(outcome);
        const said = explanation(outcome);
        if (said !== "") process.stderr.write(said);
      } finally {
        process.stdin.destroy();
        await pool.close();
      }
    });

function readProgram(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new ConfigError({ at: file, need: "a program file that can be read", cause });
  }
}

const limitsOf = ({ timeS, memoryMb }: RunOptions): Limits => ({
  ...(timeS === undefined ? {} : { time_s: timeS }),
  ...(memoryMb === undefined ? {} : { memory_mb: memoryMb }),
});

/** @throws InfrastructureError when the program could not be run at all */
function exitCodeOfProgram(outcome: TestOutcome): number {
  if (outcome.status === "infrastructure")
    throw new InfrastructureError(outcome.stderr || "the sandbox failed");
  if (outcome.status === "time_limit") return TIME_LIMIT_CODE;
  const signal = constants.signals[outcome.signal as NodeJS.Signals] as number | undefined;
  if (signal !== undefined) return 128 + signal;
  return outcome.exit_code ?? 1;
}

/** A compiler's own words; which limit ended a program; nothing where the program spoke for itself. */
function explanation(outcome: TestOutcome): string {
  if (outcome.status === "compile_error") return `${outcome.stderr || outcome.stdout}\n`;
  if (outcome.status === "accepted" || outcome.status === "runtime_error") return "";
  return `retort: ended by ${outcome.status}\n`;
}
