/** A language is data: a YAML file whose keys are those of Agnostics (arXiv 2508.04865), plus ours. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { LineCounter, parseDocument, type YAMLError } from "yaml";
import { z } from "zod";
import { ConfigError, nearest, packageRoot } from "../core/index.js";

/** Limits that a language needs different from the rest; each is overridden by the run's and the task's. */
export const LanguageLimits = z.strictObject({
  time_s: z.number().positive().optional().describe("Wall time, seconds."),
  cpu_s: z.number().positive().optional().describe("CPU time of the process tree, seconds; default: time_s."),
  memory_mb: z.int().positive().optional().describe("Memory of the process tree, MiB."),
  output_kb: z.int().positive().optional().describe("Most that may be printed on stdout, KiB."),
  processes: z.int().positive().optional().describe("Processes and threads at a time."),
  file_mb: z.int().positive().optional().describe("Largest file written, MiB."),
  disk_mb: z.int().positive().optional().describe("Size of the fresh /tmp, MiB."),
  reserves_address_space: z
    .boolean()
    .optional()
    .describe("The runtime reserves far more address space than it uses (V8, JVM, Go)."),
});
export type LanguageLimits = z.infer<typeof LanguageLimits>;

const FileName = z.string().regex(/^[\w.+-]{1,100}$/, "a plain file name without a folder");
const Pattern = z.string().refine((text) => {
  try {
    return new RegExp(text, "m") !== null;
  } catch {
    return false;
  }
}, "a regular expression");

export const LanguageFile = z.strictObject({
  prompt: z.string().describe("Told to the policy about this language."),
  filename: FileName.describe("The program is written to a file of this name."),
  compile: z.string().optional().describe("Command run once, before the tests."),
  execute: z.string().describe("Command run for each test; the input comes on stdin."),
  install: z
    .union([z.string(), z.strictObject({ "container-instructions": z.string() })])
    .optional()
    .describe("How a person installs the tools; shown, never run."),
  container: z
    .strictObject({ "base-image": z.string().optional(), type: z.string().optional() })
    .optional()
    .describe("The image Agnostics would use; for backends that run images."),
  aliases: z.array(z.string()).default([]).describe("Other names of the language."),
  fences: z
    .array(z.string())
    .default([])
    .describe("Tags of its fenced blocks; the first is used in prompts."),
  limits: LanguageLimits.default({}).describe("Limits of one test."),
  compile_limits: LanguageLimits.default({}).describe("Limits of the compiler."),
  env: z.record(z.string(), z.string()).default({}).describe("Environment of compiler and program."),
  mounts: z
    .array(z.string().startsWith("/"))
    .default([])
    .describe("Host paths, read-only, that the tools need beyond /usr."),
  probe: z.string().optional().describe("Command that prints the tool's version."),
  selftest: z
    .strictObject({ program: z.string(), input: z.string().default(""), output: z.string() })
    .optional()
    .describe("A program and what it must print."),
  messages: z
    .strictObject({
      until: Pattern.optional().describe("Nothing from the first line that matches on."),
      remove: z.array(Pattern).default([]).describe("Patterns cut out of messages."),
    })
    .optional()
    .describe("What of the tool's error messages is noise to a learner."),
});

/** A language that was read: its file's content and its name, the file's stem. */
export type Language = z.infer<typeof LanguageFile> & { readonly name: string; readonly source: string };

export interface LanguageSet {
  readonly names: readonly string[];
  readonly all: readonly Language[];
  /** @throws ConfigError for a name that no file and no alias has */
  get(nameOrAlias: string): Language;
  find(nameOrAlias: string): Language | undefined;
}

/** @param extra - folders or single YAML files; a name found later replaces one found earlier */
export function loadLanguages(extra: readonly string[] = []): LanguageSet {
  const byName = new Map<string, Language>();
  for (const place of [join(packageRoot, "configs", "languages"), ...extra]) {
    for (const file of yamlFiles(place)) {
      const language = readLanguage(file);
      byName.set(language.name, language);
    }
  }
  return languageSet([...byName.values()]);
}

function yamlFiles(place: string): string[] {
  if (!existsSync(place))
    throw new ConfigError({
      at: place,
      need: "a folder of language files, or one file",
      fix: "There is none of that name.",
    });
  if (!statSync(place).isDirectory()) return [place];
  const names = readdirSync(place).filter((name) => /\.ya?ml$/.test(name));
  return names.sort().map((name) => join(place, name));
}

export function languageSet(all: readonly Language[]): LanguageSet {
  const byAnyName = new Map<string, Language>();
  for (const language of all)
    for (const alias of language.aliases) byAnyName.set(alias.toLowerCase(), language);
  for (const language of all) byAnyName.set(language.name.toLowerCase(), language);
  const find = (name: string) => byAnyName.get(name.trim().toLowerCase());
  return {
    all,
    names: all.map((language) => language.name),
    find,
    get: (name) => {
      const found = find(name);
      if (found) return found;
      const guess = nearest(name, [...byAnyName.keys()]);
      throw new ConfigError({
        at: "language",
        got: name,
        need: `one of ${all.map((language) => language.name).join(", ")}`,
        fix: guess ? `Did you mean ${guess}?` : "A YAML file in a folder given with --languages adds one.",
      });
    },
  };
}

/** @throws ConfigError with file, line, path and, for an unknown key, the nearest right one */
export function readLanguage(file: string): Language {
  return parseLanguage(readFileSync(file, "utf8"), file);
}

/** @param source - the file's name, for messages; its stem is the language's name */
export function parseLanguage(text: string, source: string): Language {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken: YAMLError | undefined = document.errors[0];
  if (broken) {
    const { line, col } = lines.linePos(broken.pos[0]);
    throw new ConfigError({ at: `${source}:${line}:${col}`, need: "valid YAML", fix: broken.message });
  }
  const parsed = LanguageFile.safeParse(document.toJS());
  if (parsed.success) return { ...parsed.data, name: basename(source).replace(/\.ya?ml$/, ""), source };
  // A mistyped key is also a missing one; the typing error is what the reader can see.
  const { issues } = parsed.error;
  const issue = issues.find(({ code }) => code === "unrecognized_keys") ?? issues[0]!;
  const unknown = issue.code === "unrecognized_keys" ? issue.keys[0] : undefined;
  const path = unknown === undefined ? issue.path : [...issue.path, unknown];
  throw new ConfigError({
    at: `${source}:${lineOf(document, lines, path)}: ${path.join(".") || "the file"}`,
    need: unknown === undefined ? need(issue) : "a known key",
    ...(unknown === undefined ? {} : { fix: suggestion(unknown, issue.path) }),
  });
}

const TYPE_NAMES: Readonly<Record<string, string>> = { string: "text", number: "a number", array: "a list" };

const need = (issue: z.core.$ZodIssue): string =>
  issue.code === "invalid_type" ? (TYPE_NAMES[issue.expected] ?? issue.expected) : issue.message;

function suggestion(unknown: string, parents: readonly PropertyKey[]): string {
  const [parent] = parents;
  const shape =
    parent === undefined
      ? LanguageFile.shape
      : parent === "limits" || parent === "compile_limits"
        ? LanguageLimits.shape
        : { program: 0, input: 0, output: 0, until: 0, remove: 0, "base-image": 0, type: 0 };
  const guess = nearest(unknown, Object.keys(shape));
  return guess ? `Did you mean ${guess}?` : `Known keys: ${Object.keys(shape).join(", ")}.`;
}

/** Line of the deepest part of `path` that stands in the document. */
function lineOf(
  document: ReturnType<typeof parseDocument>,
  lines: LineCounter,
  path: readonly PropertyKey[],
): number {
  for (let depth = path.length; depth > 0; depth--) {
    const parent = document.getIn(path.slice(0, depth - 1), true) ?? document.contents;
    const key = String(path[depth - 1]);
    const items = (
      parent as { items?: readonly { key?: { value?: unknown; range?: readonly number[] } }[] } | null
    )?.items;
    const pair = items?.find((item) => String(item.key?.value) === key);
    if (pair?.key?.range) return lines.linePos(pair.key.range[0]!).line;
  }
  return 1;
}
