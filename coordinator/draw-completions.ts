/** Attempts that a policy or a served model is to make: which, with what prompts, and which are there already. */
import { ConfigError, type Task } from "../core/index.js";
import { extractProgram, type LanguageSet } from "../verifiers/index.js";
import {
  type Completion,
  type CompletionRequest,
  type CompletionsFile,
  openCompletions,
  type SamplingSettings,
} from "./completions-file.js";
import type { Drawing } from "./evaluate-solutions.js";
import { taskMessages } from "./prompts.js";
import { type Planned, plannedId, type Solution } from "./solutions.js";

/** A completion, or why there is none: a fault of the endpoint or of ours, never of the model. */
export type DrawnCompletion = Completion | { readonly failure: string };

/** Where completions come from. */
export interface CompletionSource {
  /** A change of any of them makes earlier completions worthless. */
  readonly settings: SamplingSettings;
  /** Hands each on as it ends, in any order; resolves after the last. */
  draw(
    requests: readonly CompletionRequest[],
    onDrawn: (request: CompletionRequest, drawn: DrawnCompletion) => void,
    signal: AbortSignal,
  ): Promise<void>;
  close(): Promise<void>;
}

/** What is asked of a source. */
export interface Assignment {
  /** Languages for tasks that name none. */
  readonly languages: readonly string[];
  /** Ask for `languages` of tasks that name their own, too. */
  readonly overridesLanguage: boolean;
  /** Samples of each task in each language. */
  readonly samples: number;
  readonly systemPrompt: string | null;
  /** Put the language's own instruction after each prompt. */
  readonly instruct: boolean;
  readonly programIn: "fenced" | "whole";
}

/**
 * Tasks x languages x samples.
 * @throws ConfigError for an unknown language, or a task that has none
 */
export function completionRequests(
  tasks: readonly Task[],
  assignment: Assignment,
  set: LanguageSet,
): CompletionRequest[] {
  const chosen = [...new Set(assignment.languages.map((name) => set.get(name).name))];
  return tasks.flatMap((task) => {
    const own =
      task.language === undefined || assignment.overridesLanguage ? [] : [set.get(task.language).name];
    const languages = own.length > 0 ? own : chosen;
    if (languages.length === 0) {
      throw new ConfigError({
        at: `task ${task.id}`,
        need: "a language: the task names none",
        fix: "Add --language NAME.",
      });
    }
    return languages.flatMap((language) => {
      const instruction = assignment.instruct ? set.get(language).prompt : "";
      const surroundings = { systemPrompt: assignment.systemPrompt, languagePrompt: () => instruction };
      const messages = taskMessages(surroundings, task);
      return Array.from({ length: assignment.samples }, (_, sample) => ({
        task,
        language,
        sample,
        messages,
      }));
    });
  });
}

/** What an evaluation takes: programs that are there, and the drawing of the others. */
export interface DrawnPrograms {
  readonly planned: readonly Planned[];
  readonly solutions: readonly Solution[];
  readonly drawing: Drawing;
  close(): void;
}

/** Opens the completions file; what it lacks is drawn from the source and written to it before it is judged. */
export async function drawnPrograms(
  requests: readonly CompletionRequest[],
  source: CompletionSource,
  programIn: Assignment["programIn"],
  file: string,
  note: (line: string) => void,
): Promise<DrawnPrograms> {
  const completions = await openCompletions(file, source.settings, requests, note);
  const missing = requests.filter((request) => !completions.known.has(plannedId(request)));
  if (missing.length < requests.length)
    note(`${requests.length - missing.length} of ${requests.length} completions are in ${file} already.`);
  return {
    planned: requests,
    solutions: requests.flatMap((request) => {
      const known = completions.known.get(plannedId(request));
      return known === undefined ? [] : [solutionOf(request, known, programIn)];
    }),
    drawing: drawingOf(missing, source, completions, programIn),
    close: completions.close,
  };
}

function drawingOf(
  planned: readonly CompletionRequest[],
  source: CompletionSource,
  completions: CompletionsFile,
  programIn: Assignment["programIn"],
): Drawing {
  return {
    planned,
    draw: async (onDrawn, signal) => {
      if (planned.length === 0) return;
      await source.draw(
        planned,
        (request, drawn) => {
          if ("failure" in drawn) return onDrawn({ ...request, failure: drawn.failure });
          completions.append(request, drawn);
          onDrawn(solutionOf(request, drawn, programIn));
        },
        signal,
      );
    },
  };
}

const solutionOf = (
  { task, language, sample }: Planned,
  { completion, isTruncated }: Completion,
  programIn: Assignment["programIn"],
): Solution => ({
  task,
  language,
  sample,
  program: extractProgram(completion, programIn),
  ...(isTruncated ? { isTruncated } : {}),
});
