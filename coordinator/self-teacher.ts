import type { Task } from "../core/index.js";
import { type DecoderConfig, isLargePolicy } from "../policy/index.js";
import type { SamplingOptions } from "../rollout/index.js";
import { hasTeacher, teacherPrompt } from "../trainer/index.js";
import { type Attempt, type AttemptContext, attemptTasks } from "./attempts.js";
import type { RunConfig } from "./config.js";
import { passRateOf } from "./evaluate.js";

/** 96 put about 5 points of standard error on the rates. */
const USUAL_TASKS = 96;
/** A large policy is at each for minutes: enough to see whether it can teach at all. */
const LARGE_TASKS = 8;

/** How many training tasks the self-teacher is measured on before the first update. */
export function selfTeacherTasks(
  { objective, evaluation }: Pick<RunConfig, "objective" | "evaluation">,
  policy: DecoderConfig,
): number {
  if (!hasTeacher(objective)) return 0;
  return evaluation.self_teacher_tasks ?? (isLargePolicy(policy) ? LARGE_TASKS : USUAL_TASKS);
}

/** How often a failed attempt succeeds when it is tried again, by what the policy is shown. Rates are fractions. */
export interface SelfTeacherReport {
  /** Tasks tried once, and how many of those attempts failed: the ones retried below. */
  readonly tried: number;
  readonly failed: number;
  readonly noContext: number;
  readonly withFeedback: number;
  readonly withSolution: number;
}

/**
 * How good the policy is as its own teacher, before any update: each task is tried once; each failure is tried again with
 * the bare prompt, with its own feedback, and with a correct program in the context. SDPO distils exactly this, so it can
 * be no better than it.
 * @param tasks - training tasks, not held-out ones; a task without a reference program is left out of `withSolution`
 */
export async function measureSelfTeacher(
  context: AttemptContext,
  tasks: readonly Task[],
  options: SamplingOptions,
): Promise<SelfTeacherReport> {
  const attempt = async (variants: readonly Task[], key: string): Promise<Attempt[]> => {
    const drawn = variants.map((task, group) => ({
      task,
      group,
      randomKey: `self-teacher/${key}/${task.id}`,
    }));
    return (await attemptTasks(context, drawn, 1, options, 0)).attempts.flat();
  };
  const failures = (await attempt(tasks, "first")).filter(({ verdict }) => verdict.reward === 0);
  const shown = (show: (failure: Attempt) => { solution?: string; feedback?: string } | null): Task[] =>
    failures.flatMap((failure) => {
      const sections = show(failure);
      return sections === null
        ? []
        : [{ ...failure.task, prompt: teacherPrompt({ prompt: failure.task.prompt, ...sections }) }];
    });
  const retry = async (key: string, variants: readonly Task[]): Promise<number> =>
    passRateOf(await attempt(variants, key)).rate;
  return {
    tried: tasks.length,
    failed: failures.length,
    noContext: await retry(
      "bare",
      shown(() => ({})),
    ),
    withFeedback: await retry(
      "feedback",
      shown(({ verdict }) => (verdict.feedback === "" ? null : { feedback: verdict.feedback })),
    ),
    withSolution: await retry(
      "solution",
      shown(({ task }) => {
        const solution = task.reference?.[task.language ?? context.language];
        return solution === undefined ? null : { solution };
      }),
    ),
  };
}

const percent = (rate: number): string => `${Math.round(100 * rate)}%`;

/** A rule of thumb, not a measured border: SDPO distils what the teacher can do, so a weak teacher is a low ceiling. */
export const GOOD_TEACHER = 0.75;

/** The line that explains self-distillation: what the policy can do when it is shown more than its prompt. */
export function selfTeacherLine(report: SelfTeacherReport): string {
  const line =
    `self-teacher: of ${report.failed} failed attempts (of ${report.tried}), a retry passes ${percent(report.noContext)} with no ` +
    `context, ${percent(report.withFeedback)} with its feedback, ${percent(report.withSolution)} with a solution to read`;
  const isWeak = report.failed > 0 && report.withSolution < GOOD_TEACHER;
  return isWeak ? `${line}; under ${percent(GOOD_TEACHER)}, expect SDPO to stall early` : line;
}
