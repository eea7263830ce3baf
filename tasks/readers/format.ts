/** What a format is: how its rows are known, and how one becomes a task. */
import type { z } from "zod";
import type { Comparator } from "../../core/index.js";
import { issuesText } from "../task-file.js";
import type { TaskDraft, Visibility } from "./checked-task.js";
import { RowRefused } from "./refusals.js";

/** What a person may ask of a conversion; each format takes what it knows. */
export interface ReadOptions {
  /** For tasks whose rows name no language. */
  readonly language?: string;
  /** Instead of the format's own. */
  readonly comparator?: Comparator;
  /** MultiPL-E: completions are whole programs, or go on where the prompt ends. */
  readonly completion: "whole" | "body";
  /** LiveCodeBench: contest dates, YYYY-MM-DD, both included. */
  readonly fromDate?: string;
  readonly toDate?: string;
}

export interface Format {
  readonly name: string;
  /** One line for a list of formats. */
  readonly about: string;
  /** By the keys of a row. */
  readonly isLike: (row: Readonly<Record<string, unknown>>) => boolean;
  /** @throws RowRefused */
  readonly read: (row: unknown, options: ReadOptions) => TaskDraft;
  readonly visible: Visibility;
  readonly refusesBlanks: boolean;
  /** Control characters in tests are meant. */
  readonly allowsControls?: true;
}

/** @throws RowRefused naming every key that is wrong */
export function parseRow<T extends z.ZodType>(schema: T, row: unknown): z.output<T> {
  const parsed = schema.safeParse(row);
  if (!parsed.success) throw new RowRefused("wrong_shape", issuesText(parsed.error));
  return parsed.data;
}

/** JSON within a row's string. @throws RowRefused */
export function parseText(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new RowRefused("wrong_shape", `${what}: not JSON (${(cause as Error).message.slice(0, 120)})`);
  }
}

export const hasKeys = (row: Readonly<Record<string, unknown>>, ...keys: readonly string[]): boolean =>
  keys.every((key) => key in row);

/** A prompt's parts with a blank line between; empty ones are left out. */
export const paragraphs = (...parts: readonly (string | undefined)[]): string =>
  parts
    .map((part) => part?.trim() ?? "")
    .filter((part) => part !== "")
    .join("\n\n");
