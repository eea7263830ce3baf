/** `retort eval`: reads the files, opens a pool, scores, closes the pool. */
import { createHash } from "node:crypto";
import { accessSync, constants, mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { ConfigError, type Task } from "../core/index.js";
import { readTasks } from "../tasks/index.js";
import { createLocalPool, type LanguageSet, loadLanguages } from "../verifiers/index.js";
import { evaluateSolutions } from "./evaluate-solutions.js";
import type { EvaluationSummary } from "./evaluation-summary.js";
import { createProgress } from "./progress.js";
import { readSolutions, referenceSolutions, type Solution } from "./solutions.js";

export interface FileEvaluation {
  readonly tasks: string;
  /** Absent: the tasks' own reference programs. */
  readonly solutions?: string;
  readonly out: string;
  /** Folders with language files of the user's own. */
  readonly languageFolders: readonly string[];
  readonly workers?: number;
  readonly ks?: readonly number[];
  /** Where progress goes. */
  readonly stream: NodeJS.WriteStream;
}

/** Everything of a language that decides verdicts, for every language of the solutions. */
function judgingKey(languages: LanguageSet, solutions: readonly Solution[]): string {
  const names = [...new Set(solutions.map(({ language }) => language))].sort();
  const definitions = names.map((name) => {
    const { source: _where, ...definition } = languages.get(name);
    return definition;
  });
  return createHash("sha256").update(JSON.stringify(definitions)).digest("hex");
}

function solutionsOf(evaluation: FileEvaluation, tasks: readonly Task[]): Solution[] {
  if (evaluation.solutions === undefined) return referenceSolutions(evaluation.tasks, tasks);
  const solutions = readSolutions(evaluation.solutions, tasks);
  if (solutions.length > 0) return solutions;
  throw new ConfigError({ at: evaluation.solutions, need: "at least one solution" });
}

/** @throws ConfigError where the results could not be written, before any program has run */
function checkWritable(out: string): void {
  try {
    mkdirSync(dirname(out), { recursive: true });
    accessSync(dirname(out), constants.W_OK);
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    throw new ConfigError({
      at: "--out",
      got: out,
      need: `a file in a folder that can be written (${reason})`,
      cause,
    });
  }
}

/**
 * Scores a solution file, or the references, against a task file.
 * @throws ConfigError before anything runs for a malformed line, an unknown task or language
 */
export async function evaluateFiles(evaluation: FileEvaluation): Promise<EvaluationSummary> {
  const tasks = readTasks(evaluation.tasks);
  checkWritable(evaluation.out);
  const languages = loadLanguages(evaluation.languageFolders);
  const solutions = solutionsOf(evaluation, tasks);
  const judging = judgingKey(languages, solutions);
  const progress = createProgress({ stream: evaluation.stream });
  const attempted = new Set(solutions.map(({ task }) => task.id)).size;
  if (attempted < tasks.length) {
    progress.note(
      `${tasks.length - attempted} of ${tasks.length} tasks have no program here; pass@k is over the other ${attempted}.`,
    );
  }
  const { workers } = evaluation;
  const pool = await createLocalPool({ languages, ...(workers === undefined ? {} : { workers }) });
  let isBegun = false;
  try {
    return await evaluateSolutions({
      solutions,
      out: evaluation.out,
      pool,
      judging,
      ...(evaluation.ks === undefined ? {} : { ks: evaluation.ks }),
      onProgress: ({ total, ...state }) => {
        if (!isBegun) progress.stage("judging", total);
        isBegun = true;
        progress.update(state);
      },
    });
  } finally {
    progress.end();
    await pool.close();
  }
}
