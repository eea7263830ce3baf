import { existsSync } from "node:fs";
import { delimiter, isAbsolute, join } from "node:path";
import { Command } from "commander";
import type { Backend, Language, LanguageCheck, LanguageTrial } from "../verifiers/index.js";
import { backendOption, languagesOption } from "./arguments.js";

interface LanguagesOptions {
  readonly languages: readonly string[];
  readonly json?: true;
}

interface CheckOptions extends LanguagesOptions {
  readonly record?: true;
  readonly workers?: number;
  readonly backend: Backend;
}

const withOptions = (command: Command): Command =>
  command.addOption(languagesOption()).option("--json", "print JSON instead of a table");

/** `retort languages`: which there are, and whether they work here. */
export const languagesCommand = (): Command =>
  withOptions(new Command("languages"))
    .description("List the languages that programs may be written in; nothing is run.")
    .addHelpText(
      "after",
      `
A language is "missing" where its tool is not found on this machine, "untested" where nobody has run it yet.
Examples:
  $ retort languages
  $ retort languages --languages ./mine --json
  $ retort languages check`,
    )
    .action(async (options: LanguagesOptions) => {
      const { loadLanguages } = await import("../verifiers/index.js");
      print(options, await Promise.all(loadLanguages(options.languages).all.map(listed)));
    })
    .addCommand(checkCommand());

const checkCommand = (): Command =>
  withOptions(new Command("check"))
    .description(
      "Run each language's self-test and examples in the sandbox: ok, failed, missing or untested.",
    )
    .argument("[names...]", "languages to check; default: all")
    .addOption(backendOption())
    .option(
      "--record",
      "write the feedback that the examples earn into their files, beside the language files",
    )
    .addHelpText(
      "after",
      `
Exit code: 0 when no language failed, 1 otherwise; a missing one is not a failure.
Examples:
  $ retort languages check
  $ retort languages check lua ocaml --json
  $ retort languages check --languages ./mine gawk --record`,
    )
    .action(async (names: readonly string[], own: CheckOptions, command: Command) => {
      // Options that the parent command has as well are taken by it when they stand before `check`.
      const options = { ...command.optsWithGlobals<CheckOptions>(), ...own } as CheckOptions;
      const { checkLanguages, createLocalPool, imageOf, loadLanguages } = await import(
        "../verifiers/index.js"
      );
      const languages = loadLanguages(options.languages);
      const inImages = languages.all.filter((language) => imageOf(language) !== null).map(({ name }) => name);
      const pool = await createLocalPool({
        languages,
        backend: options.backend,
      });
      const trials: [Language, LanguageTrial][] = [];
      try {
        const rows = await checkLanguages(pool, {
          names: names.length > 0 || options.backend === "bubblewrap" ? names : inImages,
          onTried: (language, trial, { status }) => {
            trials.push([language, trial]);
            if (process.stderr.isTTY) process.stderr.write(`${language.name}: ${status}\n`);
          },
        });
        if (options.record) await record(trials, names.length > 0);
        else print(options, rows);
        if (!options.record && rows.some(({ status }) => status === "failed")) process.exitCode = 1;
      } finally {
        await pool.close();
      }
    });

/** @param isNamed - asked for one by one: then one that cannot be recorded is an error, not passed over */
async function record(trials: readonly [Language, LanguageTrial][], isNamed: boolean): Promise<void> {
  const { recordExamples } = await import("../verifiers/index.js");
  for (const [language, trial] of trials) {
    if (!isNamed && (trial.isMissing || trial.recorded === null)) continue;
    process.stderr.write(`wrote ${await recordExamples(language, trial)}\n`);
  }
}

interface LanguageRow extends Omit<LanguageCheck, "status"> {
  readonly status: LanguageCheck["status"] | "unchecked";
  readonly aliases?: readonly string[];
  /** The version with which the examples were recorded. */
  readonly tested?: string | null;
}

/** What the files say, and whether the tool is there to see. */
async function listed(language: Language): Promise<LanguageRow> {
  const { installHint, readExamples, searchPath } = await import("../verifiers/index.js");
  const examples = readExamples(language);
  const [tool = ""] = (language.probe ?? language.compile ?? language.execute).trim().split(/\s+/);
  const folders = searchPath(language).split(delimiter);
  const isHere = isAbsolute(tool) ? existsSync(tool) : folders.some((each) => existsSync(join(each, tool)));
  const isUntested = examples !== null && examples.version === undefined;
  return {
    name: language.name,
    status: isHere ? "unchecked" : isUntested ? "untested" : "missing",
    version: null,
    install: installHint(language),
    aliases: language.aliases,
    tested: examples?.version ?? null,
  };
}

function print(options: LanguagesOptions, rows: readonly LanguageRow[]): void {
  if (options.json) {
    process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
    return;
  }
  for (const row of rows) {
    process.stdout.write(`${`${row.name.padEnd(14)} ${row.status.padEnd(10)} ${remark(row)}`.trimEnd()}\n`);
    for (const line of row.notes ?? []) process.stdout.write(`${" ".repeat(26)}${line}\n`);
  }
}

function remark({ status, reason, install, version, aliases, tested }: LanguageRow): string {
  if (status === "failed") return reason ?? "";
  const also = aliases?.length ? `also ${aliases.join(", ")}` : "";
  const howTo =
    status === "missing" || status === "untested" ? `install: ${install ?? "its file does not say"}` : "";
  return [version ?? "", also, howTo, tested ? `tested with ${tested}` : ""].filter(Boolean).join("; ");
}
