/**
 * Examples of a language: one program for each way to fail, with the feedback that it must earn. They stand beside the
 * language's file, in `examples/NAME.yaml`, and are run by `retort languages check`.
 */
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { z } from "zod";
import { Limits, STATUSES } from "../core/index.js";
import type { Language } from "./languages.js";
import { parseYaml } from "./yaml-file.js";

export const EXAMPLE_KINDS = ["compile_error", "runtime_error", "wrong_answer", "time_limit"] as const;
export type ExampleKind = (typeof EXAMPLE_KINDS)[number];

/** Recorded for a language whose file has no probe: its examples were run, with who knows what. */
export const NO_VERSION = "no probe";

export const LanguageExample = z
  .strictObject({
    absent: z.string().min(1).optional().describe("Instead of a program: why this language has none."),
    program: z.string().optional(),
    input: z.string().default("").describe("What stands on stdin."),
    output: z.string().default("").describe("The expected output; compared token by token."),
    limits: Limits.default({}).describe("Limits of this one run."),
    status: z
      .enum(STATUSES)
      .optional()
      .describe("Default: the example's key. An interpreter may call a syntax error a runtime_error."),
    feedback: z
      .string()
      .optional()
      .describe("The exact feedback; `retort languages check --record` fills it in."),
  })
  .refine(({ absent, program }) => (absent === undefined) !== (program === undefined), {
    message: "either program or absent",
  });
export type LanguageExample = z.infer<typeof LanguageExample>;

export const LanguageExamples = z.strictObject({
  version: z
    .string()
    .optional()
    .describe("What the probe printed when the feedback was recorded; without it nobody has run these yet."),
  compile_error: LanguageExample,
  runtime_error: LanguageExample,
  wrong_answer: LanguageExample,
  time_limit: LanguageExample,
});
export type LanguageExamples = z.infer<typeof LanguageExamples>;

/** Where a language's examples are, whether or not there are any. */
export const examplesFile = ({ source, name }: Language): string =>
  join(dirname(source), "examples", `${name}.yaml`);

/** null where there is no such file. @throws ConfigError with file, line and path of a mistake */
export function readExamples(language: Language): LanguageExamples | null {
  const file = examplesFile(language);
  return existsSync(file) ? parseYaml(readFileSync(file, "utf8"), file, LanguageExamples) : null;
}
