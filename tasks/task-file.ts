/** Task files: JSONL, one task a line, read in pieces so that a big file does not stand in memory as text. */
import { closeSync, openSync, readSync } from "node:fs";
import { StringDecoder } from "node:string_decoder";
import type { z } from "zod";
import { ConfigError, Task } from "../core/index.js";

const PIECE_BYTES = 1 << 20;

/** Lines of a file without their ends; a byte order mark is dropped. */
function* linesOf(file: string): Generator<string> {
  const open = (): number => {
    try {
      return openSync(file, "r");
    } catch (cause) {
      throw new ConfigError({ at: file, need: "a task file that can be read", cause });
    }
  };
  const descriptor = open();
  const decoder = new StringDecoder("utf8");
  const piece = Buffer.alloc(PIECE_BYTES);
  let rest = "";
  let isFirst = true;
  try {
    for (;;) {
      const size = readPiece(file, descriptor, piece);
      if (size === 0) break;
      let text = decoder.write(piece.subarray(0, size));
      if (isFirst && text.startsWith("\ufeff")) text = text.slice(1);
      isFirst = false;
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      yield* lines;
    }
  } finally {
    closeSync(descriptor);
  }
  yield rest + decoder.end();
}

function readPiece(file: string, descriptor: number, piece: Buffer): number {
  try {
    return readSync(descriptor, piece);
  } catch (cause) {
    throw new ConfigError({ at: file, need: "a task file, not a folder or a device", cause });
  }
}

function parseTask(line: string, at: string): Task {
  let raw: unknown;
  try {
    raw = JSON.parse(line);
  } catch (cause) {
    throw new ConfigError({ at, need: `one line of JSON a task (${(cause as Error).message})`, cause });
  }
  const parsed = Task.safeParse(raw);
  if (parsed.success) return parsed.data;
  throw new ConfigError({
    at,
    need: `a task; ${issuesText(parsed.error)}`,
    fix: "The format: docs/tasks.md.",
  });
}

const SHOWN_ISSUES = 5;

/** What is wrong of a row, key by key; of many mistakes the first. */
export function issuesText({ issues }: z.ZodError): string {
  const shown = issues
    .slice(0, SHOWN_ISSUES)
    .map(({ path, message }) => (path.length === 0 ? message : `${path.map(String).join(".")}: ${message}`));
  const more = issues.length - shown.length;
  return [...shown, ...(more > 0 ? [`${more} more`] : [])].join("; ");
}

/**
 * The tasks of a file, one at a time. Blank lines are skipped.
 * @throws ConfigError naming file and line: not JSON, not a task, no tests, an id that an earlier line has
 */
export function* tasksOf(file: string): Generator<Task> {
  const lineOfId = new Map<string, number>();
  let number = 0;
  for (const line of linesOf(file)) {
    number++;
    if (line.trim() === "") continue;
    const at = `${file}:${number}`;
    const task = parseTask(line, at);
    const earlier = lineOfId.get(task.id);
    if (earlier !== undefined) {
      throw new ConfigError({ at, got: task.id, need: `an id of its own: line ${earlier} has this one` });
    }
    lineOfId.set(task.id, number);
    yield task;
  }
  if (lineOfId.size === 0) throw new ConfigError({ at: file, need: "at least one task" });
}

/** All tasks of a file, in its order. @throws ConfigError as `tasksOf` */
export function readTasks(file: string): Task[] {
  return [...tasksOf(file)];
}
