/** Files in any of the formats become tasks, row by row; every row that does not is told with its place and reason. */
import { createHash } from "node:crypto";
import { ConfigError, type Task } from "../../core/index.js";
import { checkedTask, type DroppedTest, type Visibility } from "./checked-task.js";
import type { Format, ReadOptions } from "./format.js";
import { FORMATS, formatOf } from "./formats.js";
import { type Reason, RowRefused } from "./refusals.js";
import { sourceRows } from "./source-rows.js";

export interface Conversion extends ReadOptions {
  readonly files: readonly string[];
  /** Absent: that of the first row that is of any. */
  readonly format?: Format;
  readonly visible?: Visibility;
  readonly minTests?: number;
  readonly maxRowBytes?: number;
  readonly onBytes?: (bytes: number) => void;
}

export interface RefusedRow {
  /** "file:line" */
  readonly at: string;
  readonly id?: string;
  readonly reason: Reason;
  readonly message: string;
}

/** What became of one row. */
export type ConvertedRow =
  | {
      readonly at: string;
      readonly task: Task;
      readonly dropped: readonly DroppedTest[];
      readonly format: string;
    }
  | RefusedRow;

const digestOf = (task: Task): string =>
  createHash("sha256")
    .update(
      JSON.stringify([
        task.prompt.trim(),
        task.language,
        task.tests.map(({ input, output }) => [input, output]),
        task.harness,
      ]),
    )
    .digest("base64");

/** Remembers what came before; a digest a task, so that a large file does not stay in memory. */
class Earlier {
  readonly #ids = new Map<string, string>();
  readonly #contents = new Map<string, string>();

  /** @throws RowRefused for a task that came before */
  add(task: Task, at: string): void {
    const sameId = this.#ids.get(task.id);
    if (sameId !== undefined) throw new RowRefused("duplicate_id", `the task of ${sameId} has this id`);
    const digest = digestOf(task);
    const same = this.#contents.get(digest);
    if (same !== undefined)
      throw new RowRefused("duplicate_task", `the task of ${same} has this prompt and these tests`);
    this.#ids.set(task.id, at);
    this.#contents.set(digest, at);
  }
}

function parsedRow({ text }: { text: string }): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RowRefused("not_json", (cause as Error).message.slice(0, 200));
  }
}

/** A row's own name, to find it by in a report. */
function nameOf(row: unknown): { id?: string } {
  if (typeof row !== "object" || row === null) return {};
  const fields = row as Record<string, unknown>;
  const found = ["id", "task_id", "question_id", "original_task_id", "name", "idx"]
    .map((key) => fields[key])
    .find((value) => typeof value === "string" || typeof value === "number");
  return found === undefined ? {} : { id: String(found).slice(0, 200) };
}

function unknownFormat(at: string, row: unknown): never {
  const keys =
    typeof row === "object" && row !== null && !Array.isArray(row) ? Object.keys(row).slice(0, 12) : null;
  throw new ConfigError({
    at,
    need: `a row of one of these formats:\n${FORMATS.map(({ name, about }) => `  ${name.padEnd(16)} ${about}`).join("\n")}\n`,
    fix: keys === null ? "It is no JSON object." : `Its keys: ${keys.join(", ")}.`,
  });
}

/** One row through a format, the checks and the comparison with what came before. */
function convertRow(
  row: unknown,
  at: string,
  format: Format,
  conversion: Conversion,
  earlier: Earlier,
): ConvertedRow {
  const dropped: DroppedTest[] = [];
  const draft = format.read(row, conversion);
  const task = checkedTask(
    draft,
    {
      visible: conversion.visible ?? format.visible,
      minTests: conversion.minTests ?? 1,
      refusesBlanks: format.refusesBlanks,
      allowsControls: format.allowsControls === true,
    },
    dropped,
  );
  earlier.add(task, at);
  return { at, task, dropped, format: format.name };
}

/**
 * What becomes of each row, in the order of the files.
 * @throws ConfigError for a file that cannot be read or is cut short, and where the first row is of no format
 */
export async function* convertFiles(conversion: Conversion): AsyncGenerator<ConvertedRow> {
  const earlier = new Earlier();
  for (const file of conversion.files) {
    let format = conversion.format;
    const { onBytes, maxRowBytes } = conversion;
    const rows = sourceRows(file, {
      ...(onBytes === undefined ? {} : { onBytes }),
      ...(maxRowBytes === undefined ? {} : { maxRowBytes }),
    });
    for await (const source of rows) {
      const refused = (error: unknown, row: unknown): RefusedRow => {
        if (!(error instanceof RowRefused)) throw error;
        return { at: source.at, ...nameOf(row), reason: error.reason, message: error.message };
      };
      if ("reason" in source) {
        yield source;
        continue;
      }
      let row: unknown;
      try {
        row = parsedRow(source);
        format ??= formatOf(row) ?? unknownFormat(source.at, row);
        yield convertRow(row, source.at, format, conversion, earlier);
      } catch (error) {
        yield refused(error, row);
      }
    }
  }
}
