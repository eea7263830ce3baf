/** `retort eval --tasks F`: programs from anywhere against a task file. */
import { readTasks } from "../tasks/index.js";
import { loadLanguages, type VerifierConfig } from "../verifiers/index.js";
import { evaluatePrograms, judgingOf, type Programs } from "./evaluate-programs.js";
import type { Evaluated } from "./evaluate-solutions.js";
import { openPool } from "./open-pool.js";

export interface FileEvaluation {
  readonly tasks: string;
  readonly programs: Programs;
  readonly out: string;
  /** Folders with language files of the user's own. */
  readonly languageFolders: readonly string[];
  /** Where programs run. */
  readonly verifier: VerifierConfig;
  readonly ks?: readonly number[];
  /** Reports to write: .html, .json. */
  readonly reports: readonly string[];
  /** Where progress goes. */
  readonly stream: NodeJS.WriteStream;
  readonly signal?: AbortSignal;
}

/** Reads the task file and evaluates. @throws as `evaluatePrograms` */
export async function evaluateFiles(evaluation: FileEvaluation): Promise<Evaluated> {
  const { languageFolders, verifier, ...rest } = evaluation;
  const languages = loadLanguages(languageFolders);
  return evaluatePrograms({
    ...rest,
    tasks: readTasks(evaluation.tasks),
    tasksName: evaluation.tasks,
    languages,
    judging: judgingOf(verifier),
    openPool: (note) => openPool({ languages, verifier, note }),
  });
}
