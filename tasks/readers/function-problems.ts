/** Exercises that ask for a Python function and test it by assertions: MBPP's rows, in both of its versions. */
import { z } from "zod";
import { parseRow } from "./format.js";
import { RowRefused } from "./refusals.js";

/** An exercise to be rewritten as a program that reads stdin. */
export interface FunctionProblem {
  readonly id: string;
  readonly text: string;
  /** A solution; null where the row has none. */
  readonly code: string | null;
  /** Python that stands before the assertions. */
  readonly setup: string;
  readonly assertions: readonly string[];
}

const Row = z.object({
  task_id: z.union([z.string().min(1), z.int()]),
  text: z.string().optional(),
  prompt: z.string().optional(),
  code: z.string().nullish(),
  test_setup_code: z.string().nullish(),
  test_imports: z.array(z.string()).nullish(),
  test_list: z.array(z.string()),
});

/** @throws RowRefused for a row without text or tests, or of another layout */
export function functionProblem(row: unknown): FunctionProblem {
  const fields = parseRow(Row, row);
  const text = fields.text ?? fields.prompt ?? "";
  if (text.trim() === "")
    throw new RowRefused("empty_prompt", "neither text nor prompt says what is asked for");
  const assertions = fields.test_list.filter((test) => test.trim() !== "");
  if (assertions.length === 0) throw new RowRefused("no_tests", "test_list is empty");
  const code = fields.code ?? "";
  return {
    id: `mbpp/${fields.task_id}`,
    text: text.trim(),
    code: code.trim() === "" ? null : code.replaceAll("\r\n", "\n"),
    setup: [...(fields.test_imports ?? []), fields.test_setup_code ?? ""]
      .filter((part) => part.trim() !== "")
      .join("\n"),
    assertions,
  };
}
