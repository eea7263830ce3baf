import { Command } from "commander";
import { COMPARATORS, type ComparatorName, ConfigError } from "../core/index.js";
import {
  choiceOption,
  languagesOption,
  maxNewTokensOption,
  maxTokensOption,
  nonNegativeInteger,
  nonNegativeNumber,
  positiveInteger,
  positiveNumber,
  workersOption,
} from "./arguments.js";

interface RewriteOptions {
  readonly endpoint: string;
  readonly model: string;
  readonly out: string;
  readonly report?: string;
  readonly attempts: number;
  readonly minTests: number;
  readonly wrongOutputs: "refuse" | "replace";
  readonly comparator: ComparatorName;
  readonly concurrency: number;
  readonly requestsPerMinute?: number;
  readonly timeoutS: number;
  readonly retries: number;
  readonly temperature?: number;
  readonly maxNewTokens?: number;
  readonly pricePrompt?: number;
  readonly priceCompletion?: number;
  readonly workers?: number;
  readonly languages: readonly string[];
  readonly json?: true;
}

export const rewriteCommand = (): Command =>
  new Command("rewrite")
    .description(
      "Let a language model turn Python exercises with assertions (MBPP's rows) into tasks with stdin and stdout; kept is what has run.",
    )
    .argument(
      "<files...>",
      "exercises: task_id, text or prompt, code, test_list; JSONL or a JSON array, plain or gzipped",
    )
    .requiredOption("--endpoint <url>", "a server that speaks OpenAI's protocol, as http://localhost:8000/v1")
    .requiredOption("--model <name>", "the model, as the endpoint spells it")
    .requiredOption("--out <file>", "task file (JSONL); tasks that it has already are not asked for again")
    .option("--report <file>", "every exercise that did not become a task, and why, as JSON")
    .option(
      "--attempts <count>",
      "replies asked for each exercise; each is told what was wrong of the last",
      positiveInteger,
      3,
    )
    .option("--min-tests <count>", "different tests that a task needs", positiveInteger, 3)
    .addOption(
      choiceOption(
        "--wrong-outputs <what>",
        "where the model's output is not what its program prints",
        ["refuse", "replace"],
        "refuse",
      ),
    )
    .addOption(
      choiceOption(
        "--comparator <name>",
        "of the tasks",
        COMPARATORS.filter((name) => name !== "exit"),
        "tokens",
      ),
    )
    .option("--concurrency <count>", "exercises at once", positiveInteger, 8)
    .option(
      "--requests-per-minute <count>",
      "no more than this, tries of failed ones included",
      positiveNumber,
    )
    .option("--timeout-s <seconds>", "longest wait for one answer", positiveNumber, 300)
    .option("--retries <count>", "tries after a failed one, with growing pauses", nonNegativeInteger, 5)
    .option("--temperature <number>", "default: the endpoint's own", nonNegativeNumber)
    .addOption(maxNewTokensOption("the endpoint's own"))
    .addOption(maxTokensOption())
    .option("--price-prompt <number>", "price of a million tokens in, for the summary", nonNegativeNumber)
    .option("--price-completion <number>", "price of a million tokens out", nonNegativeNumber)
    .addOption(workersOption())
    .addOption(languagesOption())
    .option("--json", "print the summary as JSON")
    .addHelpText(
      "after",
      `
The key, if the endpoint wants one, comes from RETORT_API_KEY or OPENAI_API_KEY. Run again with the same --out, it asks only
for what is missing; the exit code is 1 while the endpoint still owes answers.
Example:
  $ retort tasks rewrite mbpp.jsonl --endpoint http://localhost:8000/v1 --model qwen3-32b --out tasks.jsonl --report refused.json`,
    )
    .action(async (files: readonly string[], options: RewriteOptions) => {
      const { rewriteTasks } = await import("../coordinator/rewrite/rewrite-tasks.js");
      const { summaryLines } = await import("../coordinator/rewrite/summary.js");
      const { loadLanguages } = await import("../verifiers/index.js");
      const { endpoint, model, requestsPerMinute, timeoutS, retries, temperature, maxNewTokens, ...rest } =
        options;
      const { pricePrompt, priceCompletion, languages, json, ...plain } = rest;
      if (plain.out === plain.report)
        throw new ConfigError({ at: "--report", got: plain.report, need: "another file than --out" });
      const key = process.env.RETORT_API_KEY || process.env.OPENAI_API_KEY;
      const result = await rewriteTasks({
        ...plain,
        files,
        languages: loadLanguages(languages),
        stream: process.stderr,
        endpoint: {
          url: endpoint,
          model,
          timeoutS,
          retries,
          ...(key ? { key } : {}),
          ...(requestsPerMinute === undefined ? {} : { requestsPerMinute }),
          ...(temperature === undefined ? {} : { temperature }),
          ...(maxNewTokens === undefined ? {} : { maxTokens: maxNewTokens }),
        },
        prices: {
          ...(pricePrompt === undefined ? {} : { prompt: pricePrompt }),
          ...(priceCompletion === undefined ? {} : { completion: priceCompletion }),
        },
      });
      if (result.summary.unanswered > 0) process.exitCode = 1;
      process.stdout.write(
        json ? `${JSON.stringify(result.summary)}\n` : `${summaryLines(result).join("\n")}\n`,
      );
    });
