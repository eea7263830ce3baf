import { Command, InvalidArgumentError } from "commander";
import { COMPARATORS, type ComparatorName } from "../core/index.js";
import { VISIBILITIES, type Visibility } from "../tasks/readers/checked-task.js";
import { FORMAT_NAMES } from "../tasks/readers/formats.js";
import { choiceOption, languagesOption, positiveInteger } from "./arguments.js";
import { stopSignals } from "./stop-signals.js";
import { checkCommand } from "./tasks-check.js";
import { rewriteCommand } from "./tasks-rewrite.js";

/** `retort tasks`: task files out of other formats, and whether they can be trusted. */
export const tasksCommand = (): Command =>
  new Command("tasks")
    .description("Make task files out of other formats; check them.")
    .addHelpText(
      "after",
      "\nExamples:\n  $ retort tasks convert test.jsonl.gz --out tasks.jsonl\n  $ retort tasks check tasks.jsonl --run",
    )
    .addCommand(convertCommand())
    .addCommand(checkCommand())
    .addCommand(rewriteCommand());

interface ConvertOptions {
  readonly from: string;
  readonly out: string;
  readonly report?: string;
  readonly language?: string;
  readonly languages: readonly string[];
  readonly visible?: Visibility;
  readonly comparator?: ComparatorName;
  readonly minTests?: number;
  readonly completion: "whole" | "body";
  readonly dateFrom?: string;
  readonly dateTo?: string;
  readonly json?: true;
}

function day(text: string): string {
  if (/^\d{4}-\d\d-\d\d$/.test(text) && !Number.isNaN(Date.parse(text))) return text;
  throw new InvalidArgumentError("Need a day as 2024-12-31.");
}

const convertCommand = (): Command =>
  new Command("convert")
    .description("Turn rows of another format into tasks; what is refused is told with its place and reason.")
    .argument("<files...>", "JSONL or a JSON array, plain or gzipped")
    .addOption(
      choiceOption(
        "--from <format>",
        "format of the rows; auto: by their keys",
        ["auto", ...FORMAT_NAMES],
        "auto",
      ),
    )
    .requiredOption("--out <file>", "task file (JSONL) to write")
    .option("--report <file>", "every refused row and every test left out, as JSON")
    .option("--language <name>", "language of the tasks whose rows name none")
    .addOption(languagesOption())
    .addOption(
      choiceOption(
        "--visible <which>",
        "tests that feedback may show; shown: those that the prompt shows; default: by format",
        VISIBILITIES,
      ),
    )
    .addOption(choiceOption("--comparator <name>", "instead of the format's own", COMPARATORS))
    .option("--min-tests <count>", "refuse tasks with fewer different tests", positiveInteger)
    .addOption(
      choiceOption(
        "--completion <kind>",
        "MultiPL-E: programs are whole, or go on where the prompt ends",
        ["whole", "body"],
        "whole",
      ),
    )
    .option("--date-from <day>", "LiveCodeBench: contests of this day (YYYY-MM-DD) and later", day)
    .option("--date-to <day>", "LiveCodeBench: contests of this day and earlier", day)
    .option("--json", "print the summary as JSON")
    .addHelpText(
      "after",
      `
Examples:
  $ retort tasks convert codeforces-lua.jsonl --out tasks.jsonl --report refused.json
  $ retort tasks convert test*.jsonl --from livecodebench --language lua --date-from 2025-02-01 --out lcb.jsonl
  $ retort tasks convert humaneval-rkt.jsonl.gz --from multipl-e --completion body --out rkt.jsonl

Parquet is not read; docs/tasks.md says how to convert it. Nothing is written when a file is cut short, or when no row can
be kept: that is exit code 2.`,
    )
    .action(async (files: readonly string[], options: ConvertOptions) => {
      const { convertTasks } = await import("../coordinator/convert-tasks.js");
      const { summaryLines } = await import("../coordinator/conversion-summary.js");
      const { formatNamed } = await import("../tasks/index.js");
      const { loadLanguages } = await import("../verifiers/index.js");
      const { from, language, dateFrom, dateTo, json, languages: folders, ...rest } = options;
      const languages = loadLanguages(folders);
      const format = formatNamed(from);
      const stop = stopSignals("Stopping; the output stays as it was.");
      const summary = await convertTasks({
        ...rest,
        signal: stop.signal,
        files,
        languages,
        stream: process.stderr,
        ...(format === undefined ? {} : { format }),
        ...(language === undefined ? {} : { language: languages.get(language).name }),
        ...(dateFrom === undefined ? {} : { fromDate: dateFrom }),
        ...(dateTo === undefined ? {} : { toDate: dateTo }),
      }).catch((error: unknown) => {
        if (!stop.signal.aborted) throw error;
        process.exitCode = stop.exitCode();
        return null;
      });
      if (summary === null) return;
      process.stdout.write(json ? `${JSON.stringify(summary)}\n` : `${summaryLines(summary).join("\n")}\n`);
    });
