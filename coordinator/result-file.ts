/**
 * The result file of an evaluation: one JSON line a program. Rows are appended as they come, so that a killed evaluation
 * goes on where it was; at the end they stand in the order of the solutions.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { z } from "zod";
import { replaceFile } from "../checkpoints/index.js";
import { ConfigError, STATUSES, type Verdict } from "../core/index.js";
import { type Solution, solutionId } from "./solutions.js";

/** What resuming must know of a row; the rest is carried along. */
const KnownRow = z.looseObject({
  task_id: z.string(),
  sample: z.int(),
  language: z.string(),
  status: z.enum(STATUSES),
  comparator: z.string(),
  key: z.string(),
});
export type KnownRow = z.infer<typeof KnownRow>;

/** Names what was judged and how: a row is reused only where task, program and judging are what they were. */
export const resultKey = (solution: Solution, judging: string): string =>
  createHash("sha256")
    .update(JSON.stringify([solution.task, solution.language, solution.program, judging]))
    .digest("hex")
    .slice(0, 16);

/** A result line. `isolation` says what the host that judged enforced: this one, or the worker that is named. */
export function resultRow(
  solution: Solution,
  verdict: Verdict,
  isolation: unknown,
  key: string,
): KnownRow & Record<string, unknown> {
  return {
    task_id: solution.task.id,
    sample: solution.sample,
    language: solution.language,
    status: verdict.status,
    reward: verdict.reward,
    passed: verdict.passed,
    total: verdict.total,
    feedback: verdict.feedback,
    tests: verdict.tests,
    comparator: verdict.comparator,
    isolation: verdict.judgedBy?.isolation ?? isolation,
    ...(verdict.judgedBy === undefined
      ? {}
      : { worker: verdict.judgedBy.worker, tool_version: verdict.judgedBy.tool_version }),
    cached: verdict.cached,
    ...(verdict.reason === undefined ? {} : { reason: verdict.reason }),
    key,
  };
}

/** What is left of a row that was cut anywhere. */
const HALF_ROW = /^$|^\{$|^\{"/;

const idOf = (row: KnownRow): string =>
  solutionId({ taskId: row.task_id, language: row.language, sample: row.sample });

function parseRow(line: string): KnownRow | null {
  try {
    return KnownRow.parse(JSON.parse(line));
  } catch {
    return null;
  }
}

/**
 * Rows of an earlier evaluation that still hold: same task, program and judging, and not an infrastructure failure.
 * Every other row is dropped from the file.
 * @param keys - `resultKey` by solution id, of everything that is to be evaluated
 * @throws ConfigError when the file is not a result file
 */
export async function keptRows(
  file: string,
  keys: ReadonlyMap<string, string>,
): Promise<Map<string, KnownRow>> {
  const kept = new Map<string, KnownRow>();
  if (!existsSync(file)) return kept;
  const text = readFileSync(file, "utf8");
  const lines = text.split("\n");
  const half = lines.pop() ?? ""; // no newline after it: a process was killed while it wrote
  if (lines.some((line) => parseRow(line) === null) || !HALF_ROW.test(half)) {
    throw new ConfigError({ at: file, need: "a result file or a new name: this one holds something else" });
  }
  const keptLines: string[] = [];
  for (const line of lines) {
    const row = parseRow(line);
    if (row === null || row.status === "infrastructure") continue;
    const id = idOf(row);
    if (keys.get(id) !== row.key || kept.has(id)) continue;
    kept.set(id, row);
    keptLines.push(line);
  }
  const rest = keptLines.map((line) => `${line}\n`).join("");
  if (rest !== text) await replaceFile(file, rest);
  return kept;
}

/** Puts the rows of a finished evaluation in the order of the solutions. */
export async function sortRows(file: string, ids: readonly string[]): Promise<void> {
  const position = new Map(ids.map((id, index) => [id, index]));
  const text = readFileSync(file, "utf8");
  const lines = text.split("\n").filter((line) => line !== "");
  const placed = lines.map((line) => ({
    line,
    at: position.get(idOf(KnownRow.parse(JSON.parse(line)))) ?? 0,
  }));
  const sorted = placed
    .sort((a, b) => a.at - b.at)
    .map(({ line }) => `${line}\n`)
    .join("");
  if (sorted !== text) await replaceFile(file, sorted);
}
