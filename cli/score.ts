import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { Command } from "commander";
import { z } from "zod";
import { ConfigError } from "../core/index.js";
import { DEVICES } from "../policy/run-config.js";
import { choiceOption, policyOption } from "./arguments.js";

const IdsLine = z.strictObject({ ids: z.array(z.int().nonnegative()).min(2) });

interface ScoreOptions {
  readonly policy: string;
  readonly ids: string;
  readonly device: (typeof DEVICES)[number];
}

interface IdsFile {
  readonly sequences: number[][];
  /** File and line of each sequence; blank lines count. */
  readonly places: string[];
}

/** Lines of a file of `{"ids": [...]}`. @throws ConfigError with file and line */
async function readIds(file: string): Promise<IdsFile> {
  const [sequences, places]: [number[][], string[]] = [[], []];
  let number = 0;
  try {
    for await (const line of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
      number++;
      if (line.trim() === "") continue;
      sequences.push(IdsLine.parse(JSON.parse(line)).ids);
      places.push(`${file}:${number}`);
    }
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== undefined)
      throw new ConfigError({ at: file, need: `a file that can be read (${message})`, cause });
    throw new ConfigError({
      at: `${file}:${number}`,
      need: 'lines of {"ids": [two or more token ids]}',
      cause,
    });
  }
  if (sequences.length === 0)
    throw new ConfigError({ at: file, need: 'at least one line of {"ids": [...]}' });
  return { sequences, places };
}

/** `retort score`: log-probabilities of given token ids. */
export const scoreCommand = (): Command =>
  new Command("score")
    .description("Print the log-probability that a policy gives each token id, given those before it.")
    .addOption(policyOption().makeOptionMandatory())
    .requiredOption("--ids <file>", 'JSONL, {"ids": [...]} a line')
    .addOption(choiceOption("--device <name>", "what computes", DEVICES, "auto"))
    .addHelpText(
      "after",
      `
Prints {"log_probs": [...]} a line: the natural log of each id after the first.
Example:
  $ echo '{"ids":[1,5,7]}' > ids.jsonl && retort score --policy runs/quickstart/checkpoints/step-000120/policy --ids ids.jsonl`,
    )
    .action(async (options: ScoreOptions) => {
      const { sequences, places } = await readIds(options.ids);
      const { scoreIds } = await import("../coordinator/score-ids.js");
      const scored = await scoreIds({
        policy: options.policy,
        device: options.device,
        sequences,
        placeOf: (index) => places[index]!,
      });
      for (const logProbs of scored) {
        process.stdout.write(`${JSON.stringify({ log_probs: Array.from(logProbs) })}\n`);
      }
    });
