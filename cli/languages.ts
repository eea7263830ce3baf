import { Command } from "commander";
import type { LanguageCheck, LanguageSet } from "../verifiers/index.js";
import { collect } from "./arguments.js";

interface LanguagesOptions {
  readonly languages: readonly string[];
  readonly json?: true;
}

type LanguageRow = Omit<LanguageCheck, "status"> & { readonly status: LanguageCheck["status"] | "unchecked" };

const withOptions = (command: Command): Command =>
  command
    .option("--languages <folder>", "language files of your own; may be given again", collect, [])
    .option("--json", "print JSON instead of a table");

/** `retort languages`: which there are, and whether they work here. */
export const languagesCommand = (): Command =>
  withOptions(new Command("languages"))
    .description("List the languages that programs may be written in.")
    .addHelpText("after", "\nExamples:\n  $ retort languages\n  $ retort languages check --json")
    .action(async (options: LanguagesOptions) => {
      const { loadLanguages } = await import("../verifiers/index.js");
      print(options, unchecked(loadLanguages(options.languages)));
    })
    .addCommand(checkCommand());

const checkCommand = (): Command =>
  withOptions(new Command("check"))
    .description("Run each language's self-test in the sandbox: ok, failed, or missing.")
    .addHelpText("after", "\nExample:\n  $ retort languages check")
    .action(async (options: LanguagesOptions) => {
      const { checkLanguages, createLocalPool, loadLanguages } = await import("../verifiers/index.js");
      const pool = await createLocalPool({ languages: loadLanguages(options.languages) });
      try {
        print(options, await checkLanguages(pool));
      } finally {
        await pool.close();
      }
    });

const unchecked = (languages: LanguageSet): LanguageRow[] =>
  languages.all.map(({ name, install }) => ({
    name,
    status: "unchecked",
    version: null,
    install: typeof install === "string" ? install : (install?.["container-instructions"] ?? null),
  }));

/** JSON has exactly the keys of the contract; a person also sees why one failed, or how to get it. */
function print(options: LanguagesOptions, rows: readonly LanguageRow[]): void {
  if (options.json) {
    const listed = rows.map(({ name, status, version, install }) => ({ name, status, version, install }));
    process.stdout.write(`${JSON.stringify(listed, null, 2)}\n`);
    return;
  }
  for (const { name, status, version, install, reason } of rows) {
    const remark =
      status === "missing" ? `install: ${install ?? "?"}` : status === "failed" ? reason : version;
    process.stdout.write(`${name.padEnd(14)}${status.padEnd(11)}${remark ?? ""}\n`);
  }
}
