/**
 * The result file of an evaluation: one JSON line a program. Rows are appended as they come, so that a killed evaluation
 * goes on where it was; at the end they stand in the order asked for. Beside it, `FILE.state.jsonl` says by a digest what
 * each row was made from: a row is reused only where task, program and judging are what they were.
 */
import { createHash } from "node:crypto";
import { existsSync, rmSync, statSync } from "node:fs";
import { z } from "zod";
import { replaceFile } from "../checkpoints/index.js";
import { ConfigError, STATUSES, type Task, type Verdict } from "../core/index.js";
import { type Line, linesOf, type Range, rangesOf } from "./json-lines.js";
import { type Solution, solutionId } from "./solutions.js";

/** What resuming and counting need of a row; the rest stays in the file. */
const KnownRow = z.object({
  task_id: z.string(),
  sample: z.int(),
  language: z.string(),
  status: z.enum(STATUSES),
  comparator: z.string(),
});
export type KnownRow = z.infer<typeof KnownRow>;

const StateLine = z.strictObject({ id: z.string(), digest: z.string() });

const digestOf = (value: unknown): string =>
  createHash("sha256").update(JSON.stringify(value)).digest("hex").slice(0, 16);

/** A task's tests may be large and its programs many. */
const taskDigests = new WeakMap<Task, string>();

function taskDigest(task: Task): string {
  const known = taskDigests.get(task);
  if (known !== undefined) return known;
  const digest = digestOf(task);
  taskDigests.set(task, digest);
  return digest;
}

/** Names what is judged and how. */
export const resultDigest = (solution: Solution, judging: string): string =>
  digestOf([
    taskDigest(solution.task),
    solution.language,
    solution.program,
    solution.isTruncated ?? false,
    judging,
  ]);

/** A result line. `isolation` says what the host that judged enforced: this one, or the worker that is named. */
export function resultRow(
  { task, sample, language }: Pick<Solution, "task" | "sample" | "language">,
  verdict: Verdict,
  isolation: unknown,
): KnownRow & Record<string, unknown> {
  return {
    task_id: task.id,
    sample,
    language,
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
  };
}

/** What is left of a row that was cut anywhere. */
const HALF_ROW = /^$|^\{$|^\{"/;

export const stateFile = (file: string): string => `${file}.state.jsonl`;

const idOf = (row: KnownRow): string =>
  solutionId({ taskId: row.task_id, language: row.language, sample: row.sample });

function parseLine<T>(schema: z.ZodType<T>, text: string): T | null {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Rows of a result file with their places. @throws ConfigError when it holds something else */
export function* rowsOf(file: string): Generator<{ row: KnownRow; line: Line }> {
  for (const line of linesOf(file)) {
    if (!line.isWhole && HALF_ROW.test(line.text)) return; // a process was killed while it wrote
    const row = line.isWhole ? parseLine(KnownRow, line.text) : null;
    if (row === null) {
      throw new ConfigError({ at: file, need: "a result file or a new name: this one holds something else" });
    }
    yield { row, line };
  }
}

/** Results that nobody can tell the origin of are not overwritten. */
function refuseUnknownRows(file: string): void {
  for (const { row } of rowsOf(file)) {
    if (row.status === "infrastructure") continue;
    throw new ConfigError({
      at: file,
      need: `its ${stateFile(file)}, which says what its rows were made from`,
      fix: "Put it back beside the result file, or choose another --out.",
    });
  }
}

/** Digests by solution id, null without a file; of a line cut by a kill nothing is taken, its row was not written yet. */
function readState(file: string): Map<string, string> | null {
  if (!existsSync(stateFile(file))) return null;
  const digests = new Map<string, string>();
  for (const { text, isWhole } of linesOf(stateFile(file))) {
    const line = isWhole ? parseLine(StateLine, text) : null;
    if (line !== null) digests.set(line.id, line.digest);
  }
  return digests;
}

export interface KeptRows {
  readonly rows: Map<string, KnownRow>;
  /** Rows that were there and hold no more, infrastructure failures left out. */
  readonly dropped: number;
}

/**
 * Rows of an earlier evaluation that still hold: same task, program and judging, and not an infrastructure failure.
 * Every other row is dropped from the file.
 * @param digests - `resultDigest` by solution id, of everything that is to be evaluated
 * @throws ConfigError when the file is not a result file
 */
export async function keptRows(file: string, digests: ReadonlyMap<string, string>): Promise<KeptRows> {
  const rows = new Map<string, KnownRow>();
  let dropped = 0;
  if (existsSync(file)) {
    const state = readState(file);
    if (state === null) refuseUnknownRows(file);
    const kept: Range[] = [];
    for (const { row, line } of rowsOf(file)) {
      if (row.status === "infrastructure") continue;
      const id = idOf(row);
      const digest = state?.get(id);
      if (digest === undefined || digests.get(id) !== digest || rows.has(id)) {
        dropped++;
        continue;
      }
      rows.set(id, row);
      kept.push({ start: line.start, end: line.end });
    }
    const keptBytes = kept.reduce((sum, { start, end }) => sum + end - start, 0);
    if (keptBytes !== statSync(file).size) await replaceFile(file, rangesOf(file, kept));
  }
  await writeState(
    file,
    [...rows.keys()].map((id) => ({ id, digest: digests.get(id)! })),
  );
  return { rows, dropped };
}

async function writeState(file: string, lines: readonly z.infer<typeof StateLine>[]): Promise<void> {
  if (lines.length === 0) rmSync(stateFile(file), { force: true });
  else await replaceFile(stateFile(file), lines.map((line) => `${JSON.stringify(line)}\n`).join(""));
}

/** Puts the rows of a finished evaluation in the order of `ids`. */
export async function sortRows(file: string, ids: readonly string[]): Promise<void> {
  const position = new Map(ids.map((id, index) => [id, index]));
  const placed = [...rowsOf(file)].map(({ row, line: { start, end } }) => ({
    start,
    end,
    at: position.get(idOf(row)) ?? 0,
  }));
  const isSorted = placed.every(({ at }, index) => index === 0 || placed[index - 1]!.at <= at);
  if (isSorted) return;
  placed.sort((a, b) => a.at - b.at);
  await replaceFile(file, rangesOf(file, placed));
}
