/** MultiPL-E's rows: HumanEval or MBPP in one of many languages, a prompt to go on from and assertions in that language. */
import { z } from "zod";
import { type Format, hasKeys, parseRow, type ReadOptions } from "./format.js";
import { pythonHarness, wholeFunctionPrompt } from "./human-eval.js";
import { languageOf } from "./language-names.js";
import { excerpt, RowRefused } from "./refusals.js";

const Row = z.object({
  name: z.string().min(1),
  language: z.string().min(1),
  prompt: z.string().min(1),
  tests: z.string().min(1),
});

/** Languages whose assertions, as MultiPL-E writes them, end a program with a failing exit status. */
const FAILS_BY_EXIT_STATUS = new Set(
  "bash cpp javascript julia lua ocaml perl php python r racket ruby rust typescript".split(" "),
);

/** Why the others are refused: there a wrong program would pass. */
const PASSES_WRONGLY: Readonly<Record<string, string>> = {
  java: "assert does nothing there unless java is started with -ea",
  d: "its unittest blocks are run only where the compiler is told to",
  go: "its tests are run by `go test`, not by a program",
};

/** rackunit tells failures and exits 0; its log can make them count. */
const RACKET_EXIT = "\n(require rackunit/log)\n(void (test-log #:display? #f #:exit? #t))\n";

const afterOf = (language: string, tests: string): string =>
  language === "racket" ? `${tests.trimEnd()}${RACKET_EXIT}` : tests;

/** Whether the program has opened PHP or not, PHP is open behind this: else a program without it would be text, and pass. */
const PHP_REOPENED = "\n?>\n<?php\n";

/** Tests that begin by closing the function of the prompt, for a program that has closed it. */
const withoutClosing = (tests: string): string => tests.replace(/^\s*\}/, "");

/** C++ tests need what the prompt includes, even where the program does not. */
const includesOf = (prompt: string): string => (prompt.match(/^#include.*$/gm) ?? []).join("\n");

/**
 * MultiPL-E compiles C++ without optimising. Optimised, a function without its return runs on into the code behind it,
 * past the assertions: an empty body would pass.
 */
const CPP_UNOPTIMISED = '#pragma GCC optimize ("O0")\n';

function harnessOf(
  { prompt, tests }: { prompt: string; tests: string },
  language: string,
  completion: ReadOptions["completion"],
): { before: string; after: string } {
  if (language === "python") return pythonHarness(prompt, tests);
  const isBody = completion === "body";
  const given = isBody ? prompt : language === "cpp" ? includesOf(prompt) : "";
  return {
    before: language === "cpp" ? `${CPP_UNOPTIMISED}${given}` : given,
    after: isBody
      ? afterOf(language, tests)
      : `${language === "php" ? PHP_REOPENED : ""}${afterOf(language, withoutClosing(tests))}`,
  };
}

/**
 * whole: the program has everything, signature and closing brace included. body: it goes on where the prompt ends, as
 * MultiPL-E joins them. Python takes both either way.
 */
export const MULTIPL_E: Format = {
  name: "multipl-e",
  about: "MultiPL-E: name, language, prompt, tests",
  isLike: (row) => hasKeys(row, "name", "language", "prompt", "tests"),
  read(row, options) {
    const fields = parseRow(Row, row);
    const language = languageOf(fields.language);
    if (!FAILS_BY_EXIT_STATUS.has(language)) {
      const why = PASSES_WRONGLY[language] ?? "whether a failed assertion ends its programs is not known";
      throw new RowRefused("unsupported", `language ${excerpt(fields.language)}: ${why}`);
    }
    const { prompt } = fields;
    return {
      id: `${fields.name}/${language}`,
      prompt:
        options.completion === "body"
          ? prompt
          : wholeFunctionPrompt(`function in ${language}`, language, prompt),
      tests: [{ input: "", output: "" }],
      language,
      comparator: "exit",
      harness: { [language]: harnessOf(fields, language, options.completion) },
    };
  },
  visible: "all",
  refusesBlanks: false,
};
