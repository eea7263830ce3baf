import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll } from "vitest";
import type { Task } from "../../core/index.js";
import { type Conversion, type ConvertedRow, convertFiles, formatNamed } from "../../tasks/index.js";

const folder = mkdtempSync(join(tmpdir(), "retort-rows-"));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;

/** A file of these bytes; its name in reports is `in.jsonl`. */
export function fileOf(content: string | Uint8Array): string {
  const path = join(folder, `${files++}`);
  writeFileSync(path, content);
  return path;
}

export const jsonl = (...rows: readonly unknown[]): string =>
  rows.map((row) => `${JSON.stringify(row)}\n`).join("");

type Options = Partial<Omit<Conversion, "format" | "files">> & { readonly from?: string };

/** What becomes of the rows of a file, its name cut to "in". */
export async function convert(content: string | Uint8Array, options: Options = {}): Promise<ConvertedRow[]> {
  const { from, ...rest } = options;
  const format = from === undefined ? undefined : formatNamed(from);
  const file = fileOf(content);
  const rows: ConvertedRow[] = [];
  const shown = (text: string): string => text.replaceAll(file, "in");
  try {
    const conversion = { completion: "whole" as const, ...rest, files: [file] };
    for await (const row of convertFiles(format === undefined ? conversion : { ...conversion, format })) {
      rows.push(
        "task" in row
          ? { ...row, at: shown(row.at) }
          : { ...row, at: shown(row.at), message: shown(row.message) },
      );
    }
  } catch (error) {
    (error as Error).message = shown((error as Error).message);
    throw error;
  }
  return rows;
}

/** The only task of one row. */
export async function taskOf(row: unknown, options: Options = {}): Promise<Task> {
  const [only] = await convert(jsonl(row), options);
  if (only === undefined || !("task" in only)) throw new Error(`refused: ${JSON.stringify(only)}`);
  return only.task;
}

/** "place reason" of what was refused. */
export const refusals = (rows: readonly ConvertedRow[]): string[] =>
  rows.flatMap((row) => ("task" in row ? [] : [`${row.at} ${row.reason}`]));
