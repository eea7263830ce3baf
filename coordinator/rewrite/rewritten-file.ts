/** The file that rewritten tasks are appended to: what is there already, and its order at the end. */
import { createReadStream, existsSync } from "node:fs";
import { appendFile, truncate } from "node:fs/promises";
import { createInterface } from "node:readline";
import { lockFile, openReplacement } from "../../checkpoints/index.js";
import { ConfigError, type Task } from "../../core/index.js";
import { convertFiles, formatNamed } from "../../tasks/index.js";
import { Journal } from "../journal.js";

export interface RewrittenFile {
  /** Ids of the tasks that it holds. */
  readonly ids: ReadonlySet<string>;
  append(task: Task): void;
  /** Puts the tasks in the order of these ids; others stay behind them. */
  sort(ids: readonly string[]): Promise<void>;
  close(): void;
}

/** Ends the last line of a file: a process that was killed may have left half of one, a person one without its end. */
async function endLastLine(file: string): Promise<void> {
  let [bytes, whole] = [0, 0];
  let tail: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    const end = chunk.lastIndexOf(10);
    if (end >= 0) whole = bytes + end + 1;
    tail = end >= 0 ? Buffer.from(chunk.subarray(end + 1)) : Buffer.concat([tail, chunk]);
    bytes += chunk.length;
  }
  const last = tail.toString("utf8");
  if (last === "") return;
  if (isJson(last)) await appendFile(file, "\n");
  else if (last.startsWith('{"id":')) await truncate(file, whole); // what is not ours is refused below
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

async function knownIds(file: string): Promise<Set<string>> {
  const ids = new Set<string>();
  const conversion = { files: [file], format: formatNamed("retort")!, completion: "whole" as const };
  for await (const row of convertFiles(conversion)) {
    if (!("task" in row)) {
      throw new ConfigError({
        at: row.at,
        need: `a task that this command wrote (${row.message})`,
        fix: "Choose a new name for --out.",
      });
    }
    ids.add(row.task.id);
  }
  return ids;
}

/**
 * Opens, or begins, a file of rewritten tasks.
 * @throws ConfigError when another process writes it, or it holds something else
 */
export async function openRewritten(file: string): Promise<RewrittenFile> {
  const release = lockFile(`${file}.lock`, {
    at: file,
    need: "a task file that no other process writes",
    fix: "Wait for it, or choose another --out.",
  });
  try {
    if (existsSync(file)) await endLastLine(file);
    const ids = existsSync(file) ? await knownIds(file) : new Set<string>();
    const journal = new Journal(file);
    return {
      ids,
      append(task) {
        journal.append(task);
        ids.add(task.id);
      },
      async sort(order) {
        journal.mark();
        if (existsSync(file)) await sortLines(file, order);
      },
      close() {
        journal.mark();
        release();
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

async function sortLines(file: string, order: readonly string[]): Promise<void> {
  const position = new Map(order.map((id, index) => [id, index]));
  const lines: { line: string; at: number }[] = [];
  for await (const line of createInterface({
    input: createReadStream(file, "utf8"),
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    const { id } = JSON.parse(line) as { id: string };
    lines.push({ line, at: position.get(id) ?? order.length });
  }
  if (lines.every(({ at }, index) => index === 0 || lines[index - 1]!.at <= at)) return;
  const sorted = await openReplacement(file);
  try {
    for (const { line } of lines.sort((a, b) => a.at - b.at)) await sorted.write(`${line}\n`);
    await sorted.commit();
  } finally {
    await sorted.abandon();
  }
}
