import type { Sample, Task } from "../core/index.js";
import type { PolicyTokenizer } from "../policy/index.js";
import {
  encodeTeacherPrompt,
  groupAdvantages,
  hasPolicyGradient,
  hasTeacher,
  type ObjectiveConfig,
  type RepromptTemplates,
  type SelfDistillationConfig,
  type SelfTeacherMetrics,
  type SelfTeacherOptions,
  selfTeacherMetrics,
  type TeacherContext,
  teacherContexts,
} from "../trainer/index.js";
import type { Attempt } from "./attempts.js";
import { type PromptSurroundings, taskMessages } from "./prompts.js";

/** A judged attempt and the reward that training goes by: the verdict's own, or the user's reward function's. */
export interface RewardedAttempt {
  readonly attempt: Attempt;
  /** null: infrastructure, masked out of the update. */
  readonly reward: number | null;
  /** Why the user's reward function gave none, where it failed: an infrastructure failure of theirs. */
  readonly rewardFailure?: string;
}

export interface ScoringContext extends PromptSurroundings {
  readonly objective: ObjectiveConfig;
  readonly tokenizer: PolicyTokenizer;
  readonly seed: number;
  /** Of tasks that name none. */
  readonly language: string;
  readonly programIn: "fenced" | "whole";
}

/** What an update needs of each attempt, beside what the journal says of them. */
export interface ScoredSamples {
  readonly samples: readonly Sample[];
  /** What each attempt's self-teacher was shown; empty for an objective without one. */
  readonly teachers: readonly TeacherContext[];
  readonly teacherMetrics: SelfTeacherMetrics | null;
}

/** Advantages and self-teacher prompts of a batch of rewarded attempts, in the same order. */
export function scoreSamples(context: ScoringContext, batch: readonly RewardedAttempt[]): ScoredSamples {
  const { objective, tokenizer } = context;
  if (objective.type === "sft")
    return { samples: demonstrations(context, batch), teachers: [], teacherMetrics: null };
  const advantages = advantagesOf(objective, batch);
  const attempts = batch.map(({ attempt, reward }) => ({
    group: attempt.rollout.group,
    prompt: attempt.task.prompt,
    completion: attempt.program ?? attempt.rollout.completion,
    reward,
    feedback: attempt.verdict.feedback,
  }));
  const teachers = hasTeacher(objective)
    ? teacherContexts(attempts, teacherOptions(objective), context.seed)
    : [];
  const teacherIds = (task: Task, teacher: TeacherContext | undefined): readonly number[] | null => {
    if (!hasTeacher(objective) || !teacher?.isTrained) return null;
    const { solution, feedback } = teacher;
    const encode = (message: string): number[] => tokenizer.promptIds(taskMessages(context, task, message));
    const parts = { prompt: task.prompt, solution, feedback, templates: templatesOf(objective) };
    return encodeTeacherPrompt(parts, encode, objective.max_teacher_tokens);
  };
  const samples = batch.map(({ attempt: { rollout, task }, reward }, index): Sample => {
    const teacherPromptIds = teacherIds(task, teachers[index]);
    return {
      rolloutId: rollout.id,
      promptIds: rollout.promptIds,
      completionIds: rollout.completionIds,
      rolloutLogProbs: rollout.rolloutLogProbs,
      reward,
      advantage: advantages[index]!,
      teacherPromptIds,
    };
  });
  const teacherMetrics = hasTeacher(objective)
    ? selfTeacherMetrics(attempts, teachers, objective.success_threshold)
    : null;
  return { samples, teachers, teacherMetrics };
}

/** Advantages of the policy-gradient part. A rollout that infrastructure left alone in its group has no one to be compared with: 0. */
function advantagesOf(objective: ObjectiveConfig, batch: readonly RewardedAttempt[]): number[] {
  if (!hasPolicyGradient(objective)) return batch.map(() => 0);
  const groups = batch.map(({ attempt }) => attempt.rollout.group);
  const judged = new Map<number, number>();
  batch.forEach(({ reward }, i) => {
    if (reward !== null) judged.set(groups[i]!, (judged.get(groups[i]!) ?? 0) + 1);
  });
  const rewards = batch.map(({ reward }, i) => (judged.get(groups[i]!) === 1 ? null : reward));
  return groupAdvantages(rewards, groups, { estimator: objective.advantage });
}

const teacherOptions = (objective: SelfDistillationConfig): SelfTeacherOptions => ({
  demonstration: objective.demonstration,
  feedback: objective.feedback,
  selfDemonstration: objective.self_demonstration,
  removeThinking: objective.remove_thinking,
  successThreshold: objective.success_threshold,
  templates: templatesOf(objective),
});

/** The templates that the configuration sets; zod's optional keys may be present and undefined. */
const templatesOf = (objective: SelfDistillationConfig): Partial<RepromptTemplates> =>
  Object.fromEntries(Object.entries(objective.templates).filter(([, text]) => text !== undefined));

/**
 * What `sft` trains on: the reference program of each task drawn, in place of its group's first attempt. The attempts are
 * sampled and judged all the same: they show what was learned, and train nothing.
 */
function demonstrations(context: ScoringContext, batch: readonly RewardedAttempt[]): Sample[] {
  return batch.map(({ attempt: { rollout, task } }): Sample => {
    const reference = task.reference?.[task.language ?? context.language];
    const isShown = reference !== undefined && rollout.sample === 0;
    return {
      rolloutId: rollout.id,
      promptIds: rollout.promptIds,
      completionIds: isShown ? demonstrationIds(context, reference, task) : [],
      rolloutLogProbs: [],
      reward: isShown ? 1 : null,
      advantage: 0,
      teacherPromptIds: null,
    };
  });
}

/** A completion that would have been judged as this program, up to the end of the turn. */
function demonstrationIds(
  { tokenizer, programIn, language }: ScoringContext,
  program: string,
  task: Task,
): number[] {
  const fence = `\`\`\`${task.language ?? language}\n${program.replace(/\n$/, "")}\n\`\`\``;
  return [...tokenizer.encode(programIn === "whole" ? program : fence), ...tokenizer.stopIds.slice(0, 1)];
}
