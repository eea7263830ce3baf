import { existsSync, readdirSync, statSync } from "node:fs";
import { Command, Option } from "commander";
import { ConfigError } from "../core/index.js";
import { STORED_TYPES, type StoredType } from "../policy/stored-type.js";
import { policyOption } from "./arguments.js";

interface ExportOptions {
  readonly policy: string;
  readonly out: string;
  readonly dtype: StoredType;
}

/** `retort export`: a policy as one folder of whole weights, its adapter added in. */
export const exportCommand = (): Command =>
  new Command("export")
    .description("Write a policy as one folder of whole weights; an adapter is added into its base.")
    .addOption(policyOption().makeOptionMandatory())
    .requiredOption("--out <folder>", "new folder, in Hugging Face layout")
    .addOption(
      new Option("--dtype <type>", "type of the weights; source: as the base was published")
        .choices(STORED_TYPES)
        .default("source"),
    )
    .addHelpText(
      "after",
      `
Examples:
  $ retort export --policy runs/mine/checkpoints/step-000120 --out merged
  $ retort export --policy runs/mine/checkpoints/step-000120 --out merged --dtype bfloat16`,
    )
    .action(async ({ policy, out, dtype }: ExportOptions) => {
      if (existsSync(out) && (!statSync(out).isDirectory() || readdirSync(out).length > 0))
        throw new ConfigError({ at: "--out", got: out, need: "a new or empty folder" });
      const { exportPolicy } = await import("../policy/index.js");
      await exportPolicy(policy, out, {
        type: dtype,
        onFile: (name) => process.stderr.write(`${name}\n`),
      });
      process.stderr.write(`wrote ${out}\n`);
    });
