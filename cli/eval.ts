import { Command } from "commander";
import { ConfigError } from "../core/index.js";
import { collect, integerList, positiveInteger } from "./arguments.js";

interface EvalOptions {
  readonly tasks: string;
  readonly solutions?: string;
  readonly references?: true;
  readonly out: string;
  readonly workers?: number;
  readonly languages: readonly string[];
  readonly k?: readonly number[];
  readonly json?: true;
}

/** `retort eval`: programs in, verdicts and pass@k out; no policy takes part. */
export const evalCommand = (): Command =>
  new Command("eval")
    .description("Judge programs against tasks: verdicts into a file, pass@k and a table of statuses out.")
    .requiredOption("--tasks <file>", "task file (JSONL)")
    .option(
      "--solutions <file>",
      'programs (JSONL): {"task_id","language","program" or "completion","sample"?}',
    )
    .option("--references", "judge the tasks' own reference programs instead")
    .requiredOption("--out <file>", "result file (JSONL); rows that hold already are not judged again")
    .option(
      "--workers <count>",
      "programs judged at once; default: twice the machine's cores",
      positiveInteger,
    )
    .option("--languages <folder>", "language files of your own; may be given again", collect, [])
    .option("--k <list>", "which pass@k and pass^k to report, as 1,5,10", integerList)
    .option("--json", "print one JSON object instead of the table")
    .addHelpText(
      "after",
      `
Examples:
  $ retort eval --tasks tasks.jsonl --solutions solutions.jsonl --out results.jsonl
  $ retort eval --tasks tasks.jsonl --references --out references.jsonl --json

Run again with the same --out, it judges only what is missing or failed by our own fault. Programs that fail are
results, not errors: the exit code is 0.`,
    )
    .action(async (options: EvalOptions) => {
      if ((options.solutions === undefined) === (options.references === undefined)) {
        throw new ConfigError({ at: "retort eval", need: "either --solutions FILE or --references" });
      }
      const { evaluateFiles } = await import("../coordinator/evaluate-files.js");
      const { summaryTable } = await import("../coordinator/evaluation-table.js");
      const summary = await evaluateFiles({
        tasks: options.tasks,
        ...(options.solutions === undefined ? {} : { solutions: options.solutions }),
        out: options.out,
        languageFolders: options.languages,
        ...(options.workers === undefined ? {} : { workers: options.workers }),
        ...(options.k === undefined ? {} : { ks: options.k }),
        stream: process.stderr,
      });
      process.stdout.write(options.json ? `${JSON.stringify(summary)}\n` : `${summaryTable(summary)}\n`);
    });
