/**
 * Completions that were drawn for an evaluation, in the solution format: `retort eval --solutions` judges them again without
 * drawing. Beside the file, `FILE.state.json` says how they were drawn, so that none is taken for what it is not.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync } from "node:fs";
import { z } from "zod";
import { lockFile, replaceFile } from "../checkpoints/index.js";
import { ConfigError } from "../core/index.js";
import type { ChatMessage } from "../policy/index.js";
import { leaves } from "./config-difference.js";
import { Journal } from "./journal.js";
import { linesOf, type Range, rangesOf } from "./json-lines.js";
import { type Planned, SolutionLine, solutionId } from "./solutions.js";

/** An attempt with the conversation that asks for it. */
export interface CompletionRequest extends Planned {
  readonly messages: readonly ChatMessage[];
}

export interface Completion {
  readonly completion: string;
  /** Cut at its longest length. */
  readonly isTruncated: boolean;
}

/** Whatever decides a completion besides its prompt: model, seed, temperature and so on. */
export type SamplingSettings = Readonly<Record<string, string | number | boolean | null>>;

const State = z.strictObject({
  settings: z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()])),
  prompts: z.record(z.string(), z.string()),
});
type State = z.infer<typeof State>;

export interface CompletionsFile {
  /** By the id of the attempt. */
  readonly known: ReadonlyMap<string, Completion>;
  append(planned: Planned, completion: Completion): void;
  close(): void;
}

const stateOf = (file: string): string => `${file}.state.json`;

/** Names the prompt of a pair; samples share it. */
const pairOf = ({ task, language }: Planned): string => JSON.stringify([task.id, language]);

function readState(file: string): State | null {
  try {
    return State.parse(JSON.parse(readFileSync(stateOf(file), "utf8")));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "ENOENT")
      throw new ConfigError({ at: stateOf(file), need: "the file that was written beside it", cause });
    return null;
  }
}

/** Every setting that is another one, in words. */
function changes(before: SamplingSettings, now: SamplingSettings): string[] {
  const [old, fresh] = [leaves(before), leaves(now)];
  return [...new Set([...old.keys(), ...fresh.keys()])]
    .filter((key) => old.get(key) !== fresh.get(key))
    .map((key) => `${key} (was ${old.get(key) ?? "absent"}, is ${fresh.get(key) ?? "absent"})`);
}

/** Moves completions that hold no more out of the way: they may have cost money, so they are never deleted. */
function setAside(file: string): string {
  let number = 1;
  while (existsSync(`${file}.${number}`)) number++;
  const aside = `${file}.${number}`;
  renameSync(file, aside);
  renameSync(stateOf(file), stateOf(aside));
  return aside;
}

interface Known {
  readonly completions: Map<string, Completion>;
  /** Lines that hold, for the file that replaces this one. */
  readonly lines: readonly Range[];
  readonly bytes: number;
}

/** Completions of a file whose prompt is still the same. */
function readKnown(file: string, isChanged: (pair: string) => boolean): Known {
  const completions = new Map<string, Completion>();
  const lines: Range[] = [];
  let bytes = 0;
  for (const { text, start, end, isWhole } of linesOf(file)) {
    bytes = end;
    if (!isWhole) break; // cut by a kill
    const line = SolutionLine.safeParse(JSON.parse(text));
    const { task_id: taskId, language, sample, completion } = line.data ?? {};
    if (taskId === undefined || language === undefined || sample === undefined || completion === undefined)
      throw new ConfigError({ at: file, need: "completions that `retort eval` wrote" });
    const id = solutionId({ taskId, language, sample });
    if (isChanged(JSON.stringify([taskId, language])) || completions.has(id)) continue;
    completions.set(id, { completion, isTruncated: line.data!.truncated ?? false });
    lines.push({ start, end });
  }
  return { completions, lines, bytes };
}

/**
 * Opens, or begins, the completions of an evaluation. Those drawn with other settings, or for another prompt, are set aside.
 * @throws ConfigError when another process writes the file, or it holds something else
 */
export async function openCompletions(
  file: string,
  settings: SamplingSettings,
  requests: readonly CompletionRequest[],
  note: (line: string) => void,
): Promise<CompletionsFile> {
  const release = lockFile(`${file}.lock`, {
    at: file,
    need: "a completions file that no other process writes",
    fix: "Wait for it, or choose another --completions.",
  });
  try {
    const prompts: Record<string, string> = {};
    for (const request of requests) prompts[pairOf(request)] ??= promptDigest(request.messages);
    const known = await openKnown(file, { settings: { ...settings }, prompts }, note);
    const journal = new Journal(file);
    return {
      known,
      append: ({ task, language, sample }, { completion, isTruncated }) =>
        journal.append({
          task_id: task.id,
          language,
          sample,
          completion,
          ...(isTruncated ? { truncated: true } : {}),
        }),
      close: () => {
        journal.mark();
        release();
      },
    };
  } catch (error) {
    release();
    throw error;
  }
}

const promptDigest = (messages: readonly ChatMessage[]): string =>
  createHash("sha256").update(JSON.stringify(messages)).digest("hex").slice(0, 16);

async function openKnown(
  file: string,
  now: State,
  note: (line: string) => void,
): Promise<ReadonlyMap<string, Completion>> {
  const before = readState(file);
  if (!existsSync(file)) {
    await replaceFile(stateOf(file), stateText(now));
    return new Map();
  }
  if (before === null) {
    throw new ConfigError({
      at: file,
      need: `its ${stateOf(file)}, which says how its completions were drawn`,
      fix: "Choose another --completions; --solutions judges the completions of a file as they are.",
    });
  }
  const settings = changes(before.settings, now.settings);
  if (settings.length > 0) {
    const aside = setAside(file);
    note(`${settings.join(", ")}: every completion is drawn anew; the earlier ones are in ${aside}.`);
    await replaceFile(stateOf(file), stateText(now));
    return new Map();
  }
  const others = new Set(
    Object.entries(now.prompts).flatMap(([pair, digest]) =>
      (before.prompts[pair] ?? digest) === digest ? [] : [pair],
    ),
  );
  const { completions, lines, bytes } = readKnown(file, (pair) => others.has(pair));
  const kept = lines.reduce((sum, { start, end }) => sum + end - start, 0);
  let from = file;
  if (others.size > 0) {
    from = setAside(file);
    note(
      `${others.size} prompts changed: their completions are drawn anew; the earlier ones are in ${from}.`,
    );
  }
  // The state first: a file without one is refused.
  const prompts = { ...before.prompts, ...now.prompts };
  await replaceFile(stateOf(file), stateText({ settings: now.settings, prompts }));
  if (from !== file || kept !== bytes) await replaceFile(file, rangesOf(from, lines));
  return completions;
}

const stateText = (state: State): string => `${JSON.stringify(state)}\n`;
