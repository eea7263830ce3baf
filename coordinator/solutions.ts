/** Programs to be scored against a task file: solution files, and the tasks' own references. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { ConfigError, type Task } from "../core/index.js";
import { extractProgram } from "../verifiers/index.js";

/** `truncated`: the completion was cut at its longest length, which feedback on a missing program says. */
export const SolutionLine = z
  .strictObject({
    task_id: z.string(),
    language: z.string().optional(),
    program: z.string().optional(),
    completion: z.string().optional(),
    sample: z.int().nonnegative().optional(),
    truncated: z.boolean().optional(),
  })
  .refine((line) => (line.program === undefined) !== (line.completion === undefined), {
    message: "need either program or completion",
  });

/** One attempt at one task: the identity of a result row. */
export interface Planned {
  readonly task: Task;
  readonly language: string;
  readonly sample: number;
}

/** The program of an attempt. `program` is null where a completion holds none. */
export interface Solution extends Planned {
  readonly program: string | null;
  readonly isTruncated?: boolean;
}

function parseLine(text: string, at: string): z.infer<typeof SolutionLine> {
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (cause) {
    throw new ConfigError({ at, need: `a line of JSON (${(cause as Error).message})`, cause });
  }
  const parsed = SolutionLine.safeParse(raw);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  const path = issue.path.length > 0 ? `${issue.path.join(".")}: ` : "";
  throw new ConfigError({
    at,
    need: `{"task_id", "language", "program" or "completion", "sample"?}; ${path}${issue.message}`,
  });
}

/** The identity of a result row: one program of one task in one language. */
export const plannedId = ({ task, language, sample }: Planned): string =>
  solutionId({ taskId: task.id, language, sample });

export const solutionId = (of: { taskId: string; language: string; sample: number }): string =>
  JSON.stringify([of.taskId, of.language, of.sample]);

/**
 * Reads a solution file (JSONL). Lines of one task and language without `sample` are numbered in file order.
 * @param programIn - where the program of a completion stands
 * @throws ConfigError with file and line when a line is malformed, names an unknown task, or repeats a sample
 */
export function readSolutions(
  file: string,
  tasks: readonly Task[],
  programIn: "fenced" | "whole" = "fenced",
): Solution[] {
  const byId = new Map(tasks.map((task) => [task.id, task]));
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (cause) {
    throw new ConfigError({ at: file, need: "a solution file that can be read", cause });
  }
  const counts = new Map<string, number>();
  const seen = new Set<string>();
  return text.split("\n").flatMap((line, index): Solution[] => {
    if (line.trim() === "") return [];
    const at = `${file}:${index + 1}`;
    const { task_id, program, completion, truncated, ...rest } = parseLine(line, at);
    const task = byId.get(task_id);
    if (task === undefined) throw new ConfigError({ at, got: task_id, need: "a task_id of the task file" });
    const language = rest.language ?? task.language;
    if (language === undefined) throw new ConfigError({ at, need: '"language": the task names none' });
    const of = `${language}\n${task_id}`;
    const sample = rest.sample ?? counts.get(of) ?? 0;
    counts.set(of, (counts.get(of) ?? 0) + 1);
    const id = solutionId({ taskId: task_id, language, sample });
    if (seen.has(id))
      throw new ConfigError({ at, got: sample, need: "another sample number: this one is taken" });
    seen.add(id);
    return [
      {
        task,
        language,
        sample,
        program: program ?? extractProgram(completion!, programIn),
        ...(truncated ? { isTruncated: true } : {}),
      },
    ];
  });
}

/**
 * The tasks' reference programs, in every language that a task has one for.
 * @throws ConfigError when no task has any
 */
export function referenceSolutions(file: string, tasks: readonly Task[]): Solution[] {
  const solutions = tasks.flatMap((task) =>
    Object.entries(task.reference ?? {}).map(([language, program]) => ({
      task,
      language,
      sample: 0,
      program,
    })),
  );
  if (solutions.length > 0) return solutions;
  throw new ConfigError({
    at: file,
    need: 'tasks with a "reference"',
    fix: "Give the programs with --solutions FILE instead.",
  });
}
