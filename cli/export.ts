import { existsSync, readdirSync } from "node:fs";
import { Command } from "commander";
import { ConfigError } from "../core/index.js";

interface ExportOptions {
  readonly policy: string;
  readonly out: string;
}

/** `retort export`: a policy as one folder of whole weights, its adapter added in. */
export const exportCommand = (): Command =>
  new Command("export")
    .description("Write a policy as one folder of whole weights; an adapter is added into its base.")
    .requiredOption("--policy <folder>", "policy, adapter or checkpoint folder")
    .requiredOption("--out <folder>", "new folder, in Hugging Face layout")
    .addHelpText(
      "after",
      `
Example:
  $ retort export --policy runs/mine/checkpoints/step-000120 --out merged`,
    )
    .action(async ({ policy, out }: ExportOptions) => {
      if (existsSync(out) && readdirSync(out).length > 0)
        throw new ConfigError({ at: "--out", got: out, need: "a new or empty folder" });
      const { readPolicy, writePolicy } = await import("../policy/index.js");
      const { config, weights, folder } = readPolicy(policy);
      await writePolicy(out, config, weights, folder);
      process.stderr.write(`wrote ${out}\n`);
    });
