import { Command, Option } from "commander";
import { DEVICES } from "../policy/run-config.js";
import {
  BASE_PRECISIONS,
  fraction,
  integerList,
  jsonObject,
  languagesOption,
  maxNewTokensOption,
  maxTokensOption,
  nonNegativeInteger,
  nonNegativeNumber,
  policyOption,
  positiveInteger,
  positiveNumber,
  repeatedOption,
  seedNumber,
  setOption,
} from "./arguments.js";
import { filesOf, runOf, type SourceOptions } from "./eval-sources.js";
import { withPool } from "./pool-options.js";
import { stopSignals } from "./stop-signals.js";

interface EvalOptions extends SourceOptions {
  readonly k?: readonly number[];
  readonly json?: true;
  readonly report: readonly string[];
}

/** `retort eval`: programs in, verdicts and pass@k out. */
export const evalCommand = (): Command => {
  const command = new Command("eval")
    .description("Judge programs against tasks: verdicts into a file, pass@k and tables out.")
    .argument("[run.yaml]", "a run file: its evaluation tasks, against its policy or a checkpoint")
    .option("--tasks <file>", "task file (JSONL); needed without a run file")
    .option("--out <file>", "result file (JSONL); rows that hold already are not judged again")
    .addOption(languagesOption())
    .option("--k <list>", "which pass@k and pass^k to report, as 1,5,10", integerList)
    .addOption(repeatedOption("--report <file>", "also a page (.html), or the same as .json"))
    .option("--json", "print one JSON object instead of the table");
  return withPool(withEndpoint(withSampling(withSources(withRun(command)))))
    .addHelpText("after", EXAMPLES)
    .action(evaluate);
};

const withRun = (command: Command): Command =>
  command
    .optionsGroup("With a run file:")
    .option("--checkpoint <which>", "latest, best, a step or a folder; default: the policy it starts from")
    .addOption(
      new Option("--on <set>", "which tasks of the run; default: heldout").choices(["heldout", "probe"]),
    )
    .addOption(setOption());

const withSources = (command: Command): Command =>
  command
    .optionsGroup("Where programs come from, one of:")
    .option(
      "--solutions <file>",
      'programs (JSONL): {"task_id","language","program" or "completion","sample"?}',
    )
    .option("--references", "the tasks' own reference programs")
    .addOption(policyOption("policy folder, or a checkpoint of a run, sampled here"))
    .option("--endpoint <url>", "a server that speaks OpenAI's protocol, as http://localhost:8000/v1");

const withSampling = (command: Command): Command =>
  command
    .optionsGroup("Sampling (--policy, --endpoint):")
    .addOption(repeatedOption("--language <name>", "for tasks that name no language, each in each"))
    .option("--override-language", "--language also for tasks that name their own")
    .option("--samples <count>", "completions of each task in each language; default: 1", positiveInteger)
    .option("--temperature <number>", "0 is greedy; default: 1, or the endpoint's own", nonNegativeNumber)
    .option("--top-p <fraction>", "cut the distribution to this probability", fraction)
    .addOption(maxNewTokensOption())
    .addOption(maxTokensOption())
    .option("--seed <number>", "random seed; default: 0, or none for an endpoint", seedNumber)
    .option("--system <text>", "system prompt")
    .option("--no-instruct", "leave out the language's own instruction after each prompt")
    .addOption(
      new Option(
        "--program-in <place>",
        "the program is the last fenced block, or the whole; default: fenced",
      ).choices(["fenced", "whole"]),
    )
    .option("--completions <file>", "where completions are kept; default: beside --out")
    .addOption(
      new Option(
        "--base-precision <type>",
        "of a large policy's matrices in decoding, on cpu; default: float32",
      ).choices([...BASE_PRECISIONS]),
    )
    .addOption(new Option("--device <name>", "what computes a policy; default: auto").choices([...DEVICES]));

const withEndpoint = (command: Command): Command =>
  command
    .optionsGroup("Endpoint (key: environment variable RETORT_API_KEY or OPENAI_API_KEY):")
    .option("--model <name>", "the model, as the endpoint spells it")
    .option("--completions-api", "/completions with the bare prompt instead of /chat/completions")
    .option("--concurrency <count>", "requests at once; default: 8", positiveInteger)
    .option(
      "--requests-per-minute <count>",
      "no more than this, tries of failed ones included",
      positiveNumber,
    )
    .option("--timeout-s <seconds>", "longest wait for one answer; default: 300", positiveNumber)
    .option(
      "--retries <count>",
      "tries after a failed one, with growing pauses; default: 5",
      nonNegativeInteger,
    )
    .option("--body <json>", 'more fields of each request, as {"top_k":20}', jsonObject);

const EXAMPLES = `
Examples:
  $ retort eval --tasks tasks.jsonl --solutions solutions.jsonl --out results.jsonl
  $ retort eval --tasks tasks.jsonl --references --out references.jsonl --json
  $ retort eval --tasks tasks.jsonl --references --out results.jsonl --pool redis --redis redis://10.0.0.5:6379
  $ retort eval --tasks tasks.jsonl --policy checkpoints/quickstart --language lua --samples 8 --out results.jsonl
  $ retort eval configs/runs/quickstart.yaml --checkpoint best --report report.html
  $ retort eval --tasks tasks.jsonl --endpoint http://localhost:8000/v1 --model qwen --language python \\
      --language ocaml --samples 10 --temperature 0.8 --out results.jsonl

Run again with the same --out, it draws and judges only what is missing or failed by our own fault. Ctrl-C keeps what
is done. Programs that fail are results, not errors: the exit code is 0.`;

async function evaluate(run: string | undefined, options: EvalOptions): Promise<void> {
  const { summaryTable } = await import("../coordinator/evaluation-table.js");
  const { StoppedError } = await import("../coordinator/evaluate-solutions.js");
  const started = run === undefined ? await filesOf(options) : await runOf(run, options);
  const stop = stopSignals("Stopping; what is judged is kept. Once more stops at once.");
  try {
    const { summary } = await started({
      reports: options.report,
      ...(options.k === undefined ? {} : { ks: options.k }),
      stream: process.stderr,
      signal: stop.signal,
    });
    process.stdout.write(options.json ? `${JSON.stringify(summary)}\n` : `${summaryTable(summary)}\n`);
  } catch (error) {
    if (!(error instanceof StoppedError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = stop.exitCode();
  }
}
