/** SDPO's rows (arXiv 2601.20802), as its data scripts write them: JSON, or the parquet of its trainer turned into JSON. */
import { z } from "zod";
import type { TaskDraft } from "./checked-task.js";
import { type Format, hasKeys, paragraphs, parseRow, parseText, type ReadOptions } from "./format.js";
import { excerpt, RowRefused } from "./refusals.js";

const Id = z.union([z.string().min(1), z.int()]);

const JsonRow = z.object({
  idx: Id,
  kind: z.string(),
  dataset: z.string().default("sdpo"),
  prompt: z.string(),
  tests: z.unknown(),
  system: z.string().nullish(),
});

const TrainerRow = z.object({
  data_source: z.string(),
  ability: z.string(),
  prompt: z.array(z.object({ role: z.string(), content: z.string() })).min(1),
  reward_model: z.object({ ground_truth: z.unknown() }),
  extra_info: z.object({ index: Id }),
});

const Tests = z.object({
  inputs: z.array(z.string()),
  outputs: z.array(z.string()),
  testtype: z.string().default("stdin"),
  time_limit: z.number().positive().nullish(),
});

interface Problem {
  readonly id: string;
  readonly kind: string;
  readonly prompt: string;
  readonly tests: unknown;
}

function problemOf(row: unknown): Problem {
  if (typeof row === "object" && row !== null && "reward_model" in row) {
    const { data_source, ability, prompt, reward_model, extra_info } = parseRow(TrainerRow, row);
    const text = paragraphs(...prompt.map(({ content }) => content));
    const id = `${data_source}/${extra_info.index}`;
    return { id, kind: ability, prompt: text, tests: reward_model.ground_truth };
  }
  const { idx, kind, dataset, prompt, tests, system } = parseRow(JsonRow, row);
  return {
    id: `${dataset}/${idx}`,
    kind,
    prompt: paragraphs(system === "-" ? "" : (system ?? ""), prompt),
    tests,
  };
}

function draftOf({ id, kind, prompt, tests }: Problem, options: ReadOptions): TaskDraft {
  if (kind !== "code")
    throw new RowRefused("unsupported", `a row of kind ${excerpt(kind)}: only code is run`);
  const given = typeof tests === "string" ? parseText(tests, "tests") : tests;
  const type = (given as { testtype?: unknown } | null)?.testtype;
  if (type !== undefined && type !== "stdin") {
    throw new RowRefused("not_stdin", `its tests are of type ${excerpt(String(type))}`);
  }
  const { inputs, outputs, time_limit } = parseRow(Tests, given);
  if (inputs.length !== outputs.length) {
    throw new RowRefused("wrong_shape", `tests: ${inputs.length} inputs, ${outputs.length} outputs`);
  }
  return {
    id,
    prompt,
    tests: inputs.map((input, index) => ({ input, output: outputs[index]! })),
    language: options.language ?? "python", // its prompts ask for Python
    comparator: options.comparator ?? "tokens",
    ...(time_limit == null ? {} : { limits: { time_s: time_limit } }),
  };
}

/** Every test is visible: SDPO's feedback is made of whatever its training rows hold. */
export const SDPO: Format = {
  name: "sdpo",
  about: "SDPO's rows of kind code: idx, kind, prompt, tests; or those of its trainer",
  isLike: (row) =>
    hasKeys(row, "kind", "prompt", "tests") || hasKeys(row, "data_source", "reward_model", "prompt"),
  read: (row, options) => draftOf(problemOf(row), options),
  visible: "all",
  refusesBlanks: false,
};
