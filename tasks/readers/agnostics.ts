/** The two row layouts of Agnostics (arXiv 2508.04865): training rows, and MBPP rewritten for stdin. */
import { z } from "zod";
import { type Format, hasKeys, paragraphs, parseRow } from "./format.js";
import { languageOf } from "./language-names.js";

const IoPair = z.object({ input: z.string(), output: z.string() });
const Id = z.union([z.string().min(1), z.int()]);

const TrainRow = z.object({
  idx: Id,
  test_cases: z.array(IoPair),
  lang: z.string().min(1),
  prompt: z.string(),
});

/**
 * A training row. Its prompt already asks for the language and shows all tests but the last; whatever it shows is visible.
 * The id holds the language: in a mixture the same problem stands once for each.
 */
export const AGNOSTICS_TRAIN: Format = {
  name: "agnostics-train",
  about: "Agnostics' training rows: idx, test_cases, lang, prompt",
  isLike: (row) => hasKeys(row, "test_cases", "lang", "prompt"),
  read(row, options) {
    const { idx, test_cases, lang, prompt } = parseRow(TrainRow, row);
    const language = languageOf(lang);
    return {
      id: `agnostics/${language}/${idx}`,
      prompt,
      tests: test_cases,
      language,
      comparator: options.comparator ?? "trailing",
    };
  },
  visible: "shown",
  refusesBlanks: false,
};

const MbppRow = z.object({
  original_task_id: Id,
  description: z.string(),
  input_format: z.string(),
  output_format: z.string(),
  tests: z.array(IoPair),
});

/** The first test is the example in the prompt; the others stay hidden, for their outputs came from a language model. */
export const AGNOSTICS_MBPP: Format = {
  name: "agnostics-mbpp",
  about: "Ag-MBPP-X: original_task_id, description, input_format, output_format, tests",
  isLike: (row) => hasKeys(row, "description", "input_format", "output_format", "tests"),
  read(row, options) {
    const { original_task_id, description, input_format, output_format, tests } = parseRow(MbppRow, row);
    return {
      id: `mbpp-x/${original_task_id}`,
      prompt: ioPrompt(description, input_format, output_format, tests[0]),
      tests,
      language: options.language,
      comparator: options.comparator ?? "trailing",
    };
  },
  visible: "shown",
  // No one ran these tests: an empty one is a slip of the model that wrote it.
  refusesBlanks: true,
};

/** A problem with its formats, and one test as its example. */
export function ioPrompt(
  description: string,
  inputFormat: string,
  outputFormat: string,
  example?: { readonly input: string; readonly output: string },
): string {
  return paragraphs(
    description,
    `Input: ${inputFormat.trim()}`,
    `Output: ${outputFormat.trim()}`,
    example && `Example\nInput:\n${example.input.trimEnd()}\nOutput:\n${example.output.trimEnd()}`,
  );
}
