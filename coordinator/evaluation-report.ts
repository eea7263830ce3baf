/** What the report of an evaluation holds, as JSON or as a page: bounded, however large the evaluation. */
import type { IoTest, Status, TestOutcome } from "../core/index.js";
import { escaped } from "./escaped-text.js";
import type { Evaluated } from "./evaluate-solutions.js";
import { countsOf, type EvaluationSummary } from "./evaluation-summary.js";
import { rowsOf } from "./result-file.js";
import { plannedId, type Solution, solutionId } from "./solutions.js";

/** Failed programs shown at most, and the bytes that they may take together on a page: one of 10,000 rows must open. */
const MOST_FAILURES = 300;
const MOST_FAILURE_BYTES = 5_000_000;
/** Lines of the table of tasks. */
const MOST_TASKS = 5000;
/** Of one text: prompt, program, feedback, output. */
const MOST_CHARS = { prompt: 6000, program: 12_000, feedback: 4000, test: 2000 };

/** A task in one language; snake_case because it crosses a file. */
export interface TaskLine {
  readonly task_id: string;
  readonly language: string;
  readonly judged: number;
  readonly passed: number;
  readonly statuses: Readonly<Partial<Record<Status, number>>>;
}

/** The first test that was not accepted. */
export interface FailedTest {
  /** From 1. */
  readonly number: number;
  /** Feedback never shows it; a report is for people. */
  readonly is_hidden: boolean;
  readonly status: Status;
  readonly input: string;
  readonly expected: string;
  readonly stdout: string;
  readonly stderr: string;
  readonly exit_code: number | null;
  readonly signal: string | null;
}

export interface Failure {
  readonly task_id: string;
  readonly language: string;
  readonly sample: number;
  readonly status: Status;
  readonly prompt: string;
  /** null: the completion held none, or there is no completion. */
  readonly program: string | null;
  readonly feedback: string;
  /** Of infrastructure: what went wrong on our side. */
  readonly reason: string | null;
  readonly test: FailedTest | null;
}

export interface EvaluationReport {
  readonly title: string;
  readonly summary: EvaluationSummary;
  readonly tasks: readonly TaskLine[];
  readonly tasks_total: number;
  /** The first failed sample of each task, then the second ones, as far as there is room; in the order of the rows. */
  readonly failures: readonly Failure[];
  readonly failures_total: number;
}

/** What the report reads of a full result row. */
interface FullRow {
  readonly task_id: string;
  readonly language: string;
  readonly sample: number;
  readonly status: Status;
  readonly feedback: string;
  readonly tests: readonly TestOutcome[];
  readonly reason?: string;
}

/** Keeps both ends of a long text. */
export function shortened(text: string, most: number): string {
  if (text.length <= most) return text;
  const half = Math.floor(most / 2);
  return `${text.slice(0, half)}\n[... ${text.length - 2 * half} characters left out ...]\n${text.slice(-half)}`;
}

function taskLines(rows: Evaluated["rows"]): TaskLine[] {
  const statuses = new Map<string, Partial<Record<Status, number>>>();
  for (const { task_id, language, status } of rows) {
    const pair = JSON.stringify([task_id, language]);
    const counts = statuses.get(pair) ?? {};
    counts[status] = (counts[status] ?? 0) + 1;
    statuses.set(pair, counts);
  }
  return countsOf(rows).map(({ task, language, judged, passed }) => ({
    task_id: task,
    language,
    judged,
    passed,
    statuses: statuses.get(JSON.stringify([task, language]))!,
  }));
}

const idOf = (row: { task_id: string; language: string; sample: number }): string =>
  solutionId({ taskId: row.task_id, language: row.language, sample: row.sample });

/** Failed rows by id, every task's first before any task's second. */
function chosenFailures(rows: Evaluated["rows"]): { ids: Set<string>; total: number } {
  const seen = new Map<string, number>();
  const failed = rows.flatMap((row) => {
    if (row.status === "accepted") return [];
    const pair = JSON.stringify([row.task_id, row.language]);
    const rank = seen.get(pair) ?? 0;
    seen.set(pair, rank + 1);
    return [{ id: idOf(row), rank }];
  });
  const first = [...failed].sort((a, b) => a.rank - b.rank).slice(0, MOST_FAILURES);
  return { ids: new Set(first.map(({ id }) => id)), total: failed.length };
}

function failedTest(tests: readonly TestOutcome[], asked: readonly IoTest[]): FailedTest | null {
  const index = tests.findIndex(({ status }) => status !== "accepted");
  const [outcome, test] = [tests[index], asked[index]];
  if (outcome === undefined || test === undefined) return null;
  const cut = (text: string): string => shortened(text, MOST_CHARS.test);
  return {
    number: index + 1,
    is_hidden: !test.visible,
    status: outcome.status,
    input: cut(test.input),
    expected: cut(test.output),
    stdout: cut(outcome.stdout),
    stderr: cut(outcome.stderr),
    exit_code: outcome.exit_code,
    signal: outcome.signal,
  };
}

function failureOf(row: FullRow, { task, program }: Pick<Solution, "task" | "program">): Failure {
  return {
    task_id: row.task_id,
    language: row.language,
    sample: row.sample,
    status: row.status,
    prompt: shortened(task.prompt, MOST_CHARS.prompt),
    program: program === null ? null : shortened(program, MOST_CHARS.program),
    feedback: shortened(row.feedback, MOST_CHARS.feedback),
    reason: row.reason ?? null,
    test: failedTest(row.tests, task.tests),
  };
}

/** On a page, about: its texts as they are escaped there. */
const bytesOf = (failure: Failure): number => Buffer.byteLength(escaped(JSON.stringify(failure)));

/** @param out - the result file of the evaluation, sorted */
export function evaluationReport(evaluated: Evaluated, out: string, title: string): EvaluationReport {
  const { ids, total } = chosenFailures(evaluated.rows);
  const tasks = new Map([...evaluated.planned].map((planned) => [plannedId(planned), planned.task]));
  const failures: Failure[] = [];
  let room = MOST_FAILURE_BYTES;
  for (const { row, line } of rowsOf(out)) {
    const id = idOf(row);
    const task = tasks.get(id);
    if (!ids.has(id) || task === undefined) continue;
    const program = evaluated.solutions.get(id)?.program ?? null;
    const failure = failureOf(JSON.parse(line.text) as FullRow, { task, program });
    room -= bytesOf(failure);
    if (room < 0) break;
    failures.push(failure);
  }
  const lines = taskLines(evaluated.rows);
  return {
    title,
    summary: evaluated.summary,
    tasks: lines.slice(0, MOST_TASKS),
    tasks_total: lines.length,
    failures,
    failures_total: total,
  };
}
