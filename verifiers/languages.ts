/** A language is data: a YAML file whose keys are those of Agnostics (arXiv 2508.04865), plus ours. */
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { basename } from "node:path";
import { z } from "zod";
import { parseYaml } from "./yaml-file.js";

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
    .strictObject({
      image: z.string().optional().describe("An image that holds the tools; default: base-image."),
      "base-image": z.string().optional().describe("What Agnostics builds its image from."),
      type: z.string().optional(),
    })
    .optional()
    .describe("For the backends podman and docker; no image is ever pulled or built by itself."),
  aliases: z.array(z.string()).default([]).describe("Other names of the language."),
  fences: z
    .array(z.string())
    .default([])
    .describe("Tags of its fenced blocks; the first is used in prompts."),
  limits: LanguageLimits.default({}).describe("Limits of one test."),
  compile_limits: LanguageLimits.default({}).describe("Limits of the compiler."),
  env: z.record(z.string(), z.string()).default({}).describe("Environment of compiler and program."),
  mounts: z
    .array(z.string().regex(/^(\/|~(\/|$))/, "a path that begins with / or ~"))
    .default([])
    .describe(
      "Host paths, read-only, that the tools need beyond /usr; ~ is the home folder, absent ones are skipped.",
    ),
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

/** @throws ConfigError with file, line, path and, for an unknown key, the nearest right one */
export function readLanguage(file: string): Language {
  return parseLanguage(readFileSync(file, "utf8"), file);
}

/**
 * @param source - the file's name, for messages; its stem is the language's name
 * @param content - of the YAML, where it was parsed before
 */
export function parseLanguage(text: string, source: string, content?: unknown): Language {
  const file = LanguageFile.safeParse(content).data ?? parseYaml(text, source, LanguageFile);
  return { ...file, mounts: file.mounts.map(expandHome), name: stem(source), source };
}

const stem = (file: string): string => basename(file).replace(/\.ya?ml$/, "");

const expandHome = (path: string): string => path.replace(/^~(?=\/|$)/, homedir());

/** What a person types to get the language's tools; null where its file does not say. */
export const installHint = ({ install }: Language): string | null =>
  typeof install === "string" ? install : (install?.["container-instructions"].trim() ?? null);

/** The container image that the language runs in; null where its file names none. */
export const imageOf = ({ container }: Language): string | null =>
  container?.image ?? container?.["base-image"] ?? null;
