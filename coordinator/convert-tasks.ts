/** `retort tasks convert`: rows of other formats into a task file, and a report of what was refused. */
import { statSync } from "node:fs";
import { dirname } from "node:path";
import { openReplacement, type Replacement } from "../checkpoints/index.js";
import { ConfigError, makeFolder } from "../core/index.js";
import { type Conversion, type ConvertedRow, convertFiles } from "../tasks/index.js";
import type { LanguageSet } from "../verifiers/index.js";
import { type ConversionSummary, ConversionTally, summaryLines } from "./conversion-summary.js";
import { createProgress, type Progress } from "./progress.js";

export interface TaskConversion extends Omit<Conversion, "onBytes"> {
  readonly out: string;
  /** Every refused row and every test left out, as JSON. */
  readonly report?: string;
  /** For telling which languages no file defines. */
  readonly languages: LanguageSet;
  /** Where progress goes. */
  readonly stream: NodeJS.WriteStream;
  /** Stops it: the old output stays, and nothing half written. */
  readonly signal?: AbortSignal;
}

/** @throws ConfigError naming the option for a file that cannot be written */
export async function openOutput(path: string, option: string): Promise<Replacement> {
  try {
    makeFolder(dirname(path));
    return await openReplacement(path);
  } catch (cause) {
    const why = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
    throw new ConfigError({ at: option, got: path, need: `a file that can be written (${why})`, cause });
  }
}

/**
 * Progress by bytes, in parts of a hundred; a file that is not there is told when it is read.
 * @returns to be called with the bytes that were read
 */
export function byteStage(
  progress: Progress,
  name: string,
  files: readonly string[],
): (bytes: number) => void {
  const total = files.reduce((sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0), 0);
  let bytes = 0;
  progress.stage(name, 100);
  return (read) => {
    bytes += read;
    progress.update({ done: total === 0 ? 100 : Math.floor((100 * bytes) / total) });
  };
}

/** Rows that a report tells of; written as they come, since they may be as many as the input. */
function reportRows(row: ConvertedRow): unknown[] {
  if (!("task" in row)) return [row];
  return row.dropped.map((test) => ({ at: row.at, id: row.task.id, ...test }));
}

async function convertAll(
  conversion: TaskConversion,
  out: Replacement,
  report: Replacement | null,
  progress: Progress,
): Promise<ConversionTally> {
  const tally = new ConversionTally();
  const onBytes = byteStage(progress, "converting", conversion.files);
  let reported = 0;
  await report?.write('{"rows": [');
  for await (const row of convertFiles({ ...conversion, onBytes })) {
    conversion.signal?.throwIfAborted();
    tally.add(row);
    if ("task" in row) await out.write(`${JSON.stringify(row.task)}\n`);
    for (const line of reportRows(row)) {
      await report?.write(`${reported++ === 0 ? "" : ","}\n${JSON.stringify(line)}`);
    }
  }
  await report?.write(`\n],\n"summary": ${JSON.stringify(tally.summary(conversion.files), null, 2)}}\n`);
  return tally;
}

/**
 * Converts files; the output is replaced only when every file was read to its end and a task was found.
 * @throws ConfigError for a file that cannot be read, and where no row can be kept (the report is written even so)
 */
export async function convertTasks(conversion: TaskConversion): Promise<ConversionSummary> {
  const progress = createProgress({ stream: conversion.stream });
  const out = await openOutput(conversion.out, "--out");
  let report: Replacement | null = null;
  try {
    report = conversion.report === undefined ? null : await openOutput(conversion.report, "--report");
    const tally = await convertAll(conversion, out, report, progress);
    progress.end();
    await report?.commit();
    const summary = tally.summary(conversion.files);
    if (tally.kept === 0) {
      const [first, ...rest] = summaryLines(summary);
      throw new ConfigError({
        at: conversion.files.join(", "),
        need: `a row that can be kept.\n${[first, ...rest].join("\n")}`,
      });
    }
    await out.commit();
    const unknown = tally.languages.filter((name) => conversion.languages.find(name) === undefined);
    if (unknown.length > 0) {
      progress.note(
        `No language file defines ${unknown.join(", ")}: a folder of your own, with --languages, can.`,
      );
    }
    return summary;
  } finally {
    progress.end();
    await out.abandon();
    await report?.abandon();
  }
}
