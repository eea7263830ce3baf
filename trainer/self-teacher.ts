/**
 * Which attempts get a self-teacher, and what it is shown.
 * @see SDPO, arXiv 2601.20802, section 2; lasgroup/SDPO@0e6d510, ray_trainer.py
 */
import { uniformAt } from "../core/index.js";
import { isBlank, type RepromptTemplates, teacherPrompt, withoutThinking } from "./teacher-prompt.js";

/** One attempt of a batch, as the self-teacher sees it. */
export interface Attempt {
  /** Attempts of one group answer the same prompt and may learn from each other. */
  readonly group: string | number;
  readonly prompt: string;
  readonly completion: string;
  /** null: infrastructure failure; neither trained nor shown to others. */
  readonly reward: number | null;
  /** What execution said of this attempt. */
  readonly feedback: string | null;
}

export interface SelfTeacherOptions {
  /** Which success of the group is shown: a random one, seeded, or the first in batch order. */
  readonly demonstration: "random" | "first";
  /** When the attempt's own feedback is shown. */
  readonly feedback: "without_demonstration" | "always" | "never";
  /** Whether a success may be shown its own program. If not, the lone success of a group trains nothing. */
  readonly selfDemonstration: boolean;
  readonly removeThinking: boolean;
  /** A reward of at least this is a success. */
  readonly successThreshold: number;
  readonly templates?: Partial<RepromptTemplates>;
}

/** What the self-teacher of one attempt is shown; with neither section it does not exist and `isTrained` is false. */
export interface TeacherContext {
  readonly solution: string | null;
  /** Index into the batch of the attempt whose program is shown. */
  readonly solutionFrom: number | null;
  readonly feedback: string | null;
  readonly isTrained: boolean;
  /** The user message; the bare prompt where there is nothing to show. */
  readonly prompt: string;
}

/**
 * The teacher context of every attempt of a batch.
 * @param seed - the run's; with the group and the attempt's place in it, it fixes the random choice
 * @returns [B] in the same order
 */
export function teacherContexts(
  attempts: readonly Attempt[],
  options: SelfTeacherOptions,
  seed = 0,
): TeacherContext[] {
  const successes = new Map<string | number, number[]>();
  const placeInGroup = new Map<string | number, number>();
  attempts.forEach(({ group, reward }, i) => {
    if (!successes.has(group)) successes.set(group, []);
    if (reward !== null && reward >= options.successThreshold) successes.get(group)!.push(i);
  });
  return attempts.map((attempt, i) => {
    const place = placeInGroup.get(attempt.group) ?? 0;
    placeInGroup.set(attempt.group, place + 1);
    if (attempt.reward === null) return contextOf(attempt, null, null, null, options);
    const candidates = successes
      .get(attempt.group)!
      .filter((other) => options.selfDemonstration || other !== i);
    const draw =
      options.demonstration === "first"
        ? 0
        : Math.floor(uniformAt(seed, "demonstration", String(attempt.group), place) * candidates.length);
    const from = candidates[draw] ?? null;
    const shown = from === null ? null : attempts[from]!.completion;
    const solution = (shown !== null && options.removeThinking ? withoutThinking(shown) : shown) || null;
    const isAllowed =
      options.feedback === "always" || (options.feedback === "without_demonstration" && from === null);
    const feedback = isAllowed && !isBlank(attempt.feedback) ? attempt.feedback : null;
    return contextOf(attempt, solution, from, feedback, options);
  });
}

function contextOf(
  attempt: Attempt,
  solution: string | null,
  solutionFrom: number | null,
  feedback: string | null,
  options: SelfTeacherOptions,
): TeacherContext {
  const templates = options.templates ?? {};
  return {
    solution,
    solutionFrom,
    feedback,
    isTrained: solution !== null || feedback !== null,
    prompt: teacherPrompt({ prompt: attempt.prompt, solution, feedback, templates }),
  };
}

/** How much of a batch had something to learn from; fractions of attempts, the first of groups. */
export interface SelfTeacherMetrics {
  readonly success_group_fraction: number;
  readonly success_sample_fraction: number;
  readonly feedback_available_fraction: number;
  readonly feedback_used_fraction: number;
  readonly reprompt_sample_fraction: number;
}

/** Metrics under SDPO's names. `success_sample_fraction` counts attempts that were shown a solution. */
export function selfTeacherMetrics(
  attempts: readonly Attempt[],
  contexts: readonly TeacherContext[],
  successThreshold: number,
): SelfTeacherMetrics {
  const isSuccess = ({ reward }: Attempt): boolean => reward !== null && reward >= successThreshold;
  const groups = new Set(attempts.map(({ group }) => group));
  const solvedGroups = new Set(attempts.filter(isSuccess).map(({ group }) => group));
  const share = (isCounted: (index: number) => boolean): number =>
    attempts.filter((_, index) => isCounted(index)).length / Math.max(attempts.length, 1);
  return {
    success_group_fraction: solvedGroups.size / Math.max(groups.size, 1),
    success_sample_fraction: share((i) => contexts[i]!.solution !== null),
    feedback_available_fraction: share((i) => !isBlank(attempts[i]!.feedback)),
    feedback_used_fraction: share((i) => contexts[i]!.feedback !== null),
    reprompt_sample_fraction: share((i) => contexts[i]!.isTrained),
  };
}
