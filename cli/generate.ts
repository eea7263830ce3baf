import { Command } from "commander";
import { DEVICES } from "../policy/run-config.js";
import {
  type BasePrecision,
  basePrecisionOption,
  choiceOption,
  fraction,
  MAX_NEW_TOKENS,
  maxNewTokensOption,
  maxTokensOption,
  nonNegativeNumber,
  policyOption,
  seedNumber,
} from "./arguments.js";

interface GenerateOptions {
  readonly policy: string;
  readonly prompt: string;
  readonly temperature: number;
  readonly topP: number;
  readonly maxNewTokens?: number;
  readonly seed: number;
  readonly device: (typeof DEVICES)[number];
  readonly basePrecision: BasePrecision;
}

/** `retort generate`: a completion of a trained policy. */
export const generateCommand = (): Command =>
  new Command("generate")
    .description("Print a completion of a policy.")
    .addOption(policyOption().makeOptionMandatory())
    .requiredOption("--prompt <text>", "the user's message")
    .option("--temperature <number>", "0 is greedy", nonNegativeNumber, 0)
    .option("--top-p <fraction>", "cut the distribution to this probability", fraction, 1)
    .addOption(maxNewTokensOption())
    .addOption(maxTokensOption())
    .option("--seed <number>", "random seed", seedNumber, 0)
    .addOption(choiceOption("--device <name>", "what computes", DEVICES, "auto"))
    .addOption(basePrecisionOption())
    .addHelpText(
      "after",
      `
Example:
  $ retort generate --policy runs/quickstart/checkpoints/step-000120/policy --prompt "Read a word. Report it reversed."`,
    )
    .action(async (options: GenerateOptions) => {
      const { generateText } = await import("../coordinator/generate.js");
      process.stdout.write(`${await generateText({ maxNewTokens: MAX_NEW_TOKENS, ...options })}\n`);
    });
