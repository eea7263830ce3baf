/** LiveCodeBench's rows, and those of Ag-LiveCodeBench-X, which have fewer keys. Problems for stdin only. */
import { z } from "zod";
import type { DraftTest } from "./checked-task.js";
import { type Format, hasKeys, parseRow, parseText, type ReadOptions } from "./format.js";
import { excerpt, RowRefused } from "./refusals.js";
import { unpackedText } from "./text-pickle.js";

/** What its own runner gives a test. */
const TIME_S = 6;

const Row = z.object({
  question_id: z.union([z.string().min(1), z.int()]),
  question_content: z.string(),
  contest_date: z.string().optional(),
  starter_code: z.string().nullish(),
  public_test_cases: z.union([z.string(), z.array(z.unknown())]).default([]),
  private_test_cases: z.union([z.string(), z.array(z.unknown())]).default([]),
});

const Tests = z.array(
  z.object({ input: z.string(), output: z.string(), testtype: z.string().default("stdin") }),
);

function testsOf(cases: string | readonly unknown[], what: string, visible: boolean): DraftTest[] {
  const unpacked = typeof cases === "string" ? parseText(jsonOf(cases, what), what) : cases;
  const tests = parseRow(Tests, unpacked);
  const other = tests.find(({ testtype }) => testtype !== "stdin");
  if (other !== undefined)
    throw new RowRefused("not_stdin", `${what} are of type ${excerpt(other.testtype)}`);
  return tests.map(({ input, output }) => ({ input, output, visible }));
}

function jsonOf(text: string, what: string): string {
  const start = text.trimStart();
  if (start === "") return "[]";
  return start.startsWith("[") || what.startsWith("public") ? start : unpackedText(text);
}

/** Dates are compared as their first ten characters, YYYY-MM-DD. */
function checkDate(date: string | undefined, { fromDate, toDate }: ReadOptions): void {
  if (fromDate === undefined && toDate === undefined) return;
  const day = date?.slice(0, 10) ?? "";
  if (!/^\d{4}-\d\d-\d\d$/.test(day)) {
    throw new RowRefused("outside_dates", `no contest_date to compare with, but ${excerpt(date ?? "")}`);
  }
  if ((fromDate !== undefined && day < fromDate) || (toDate !== undefined && day > toDate)) {
    throw new RowRefused("outside_dates", `its contest was on ${day}`);
  }
}

/** Public tests are visible, private ones hidden. */
export const LIVECODEBENCH: Format = {
  name: "livecodebench",
  about: "LiveCodeBench, Ag-LiveCodeBench-X: question_id, question_content, ...test_cases",
  isLike: (row) => hasKeys(row, "question_id", "question_content"),
  read(row, options) {
    const fields = parseRow(Row, row);
    checkDate(fields.contest_date, options);
    if ((fields.starter_code ?? "").trim() !== "") {
      throw new RowRefused("not_stdin", `it has starter code: ${excerpt(fields.starter_code!)}`);
    }
    return {
      id: `livecodebench/${fields.question_id}`,
      prompt: fields.question_content,
      tests: [
        ...testsOf(fields.public_test_cases, "public_test_cases", true),
        ...testsOf(fields.private_test_cases, "private_test_cases", false),
      ],
      language: options.language,
      comparator: options.comparator ?? "tokens",
      limits: { time_s: TIME_S },
    };
  },
  visible: "public",
  refusesBlanks: false,
};
