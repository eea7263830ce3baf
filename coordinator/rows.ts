/** The rows of `metrics.jsonl` and `rollouts/`: what depends on the clock or the machine's load stands in `timing` and `memory`. */
import type { Status } from "../core/index.js";
import { rewardsAgree } from "../trainer/index.js";
import { type PassRate, passRateOf } from "./evaluate.js";
import type { PolicyMemory } from "./policy-host.js";
import type { SelfTeacherReport } from "./self-teacher.js";
import type { StepResult } from "./step.js";

const round = (value: number, digits: number): number => Number(value.toFixed(digits));
const megabytes = (bytes: number): number => round(bytes / 2 ** 20, 1);
const mean = (values: readonly number[]): number =>
  values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;

/** A step's row. Keys are those of the dashboard and the report; rates are fractions, times seconds, memory MiB. */
export interface StepRow extends Record<string, unknown> {
  readonly kind: "step";
  readonly step: number;
  readonly rollouts: number;
  readonly statuses: Readonly<Partial<Record<Status, number>>>;
  readonly timing: Readonly<Record<string, number>>;
  readonly memory: Readonly<Record<string, number>>;
}

export function stepRow(result: StepResult, memory: PolicyMemory): StepRow {
  const { batch, update, timing, scored } = result;
  const rates = passRateOf(batch.map(({ attempt }) => attempt));
  const rewards = batch.flatMap(({ reward }) => (reward === null ? [] : [reward]));
  const lengths = batch.map(({ attempt }) => attempt.rollout.completionIds.length);
  const truncated = batch.filter(({ attempt }) => attempt.rollout.finishReason === "length").length;
  return {
    kind: "step",
    step: result.step,
    rollouts: batch.length,
    // Of what was judged; null where our machinery failed throughout, which is no reward of 0.
    reward: rewards.length === 0 ? null : mean(rewards),
    pass_rate: rates.judged === 0 ? null : rates.rate,
    statuses: rates.statuses,
    infrastructure: rates.infrastructure,
    reward_failures: batch.filter(({ rewardFailure }) => rewardFailure !== undefined).length,
    agreeing_groups: agreeingGroups(result),
    completion_tokens: mean(lengths),
    truncated: truncated / batch.length,
    ...(scored.teacherMetrics ?? {}),
    ...update,
    timing: {
      step_s: round(timing.step, 4),
      sample_s: round(timing.sample, 4),
      judge_wait_s: round(timing.judgeWait, 4),
      score_s: round(timing.score, 4),
      update_s: round(timing.update, 4),
      sampled_tokens_per_s: round(timing.sampledTokens / timing.sample, 1),
      programs_per_s: round(batch.length / timing.step, 2),
    },
    memory: {
      rss_mb: megabytes(memory.rss),
      heap_mb: megabytes(memory.heap),
      // Of the process, in this step; saving: of the checkpoint before it.
      ...Object.fromEntries(
        Object.entries(memory.peaks).map(([stage, bytes]) => [`${stage}_peak_mb`, megabytes(bytes)]),
      ),
    },
  };
}

/** Groups whose rewards all agree, or of which fewer than two were judged: under GRPO they train nothing. */
function agreeingGroups({ batch }: StepResult): number {
  const groups = new Map<number, number[]>();
  for (const { attempt, reward } of batch) {
    const { group } = attempt.rollout;
    const rewards = groups.get(group) ?? [];
    groups.set(group, reward === null ? rewards : [...rewards, reward]);
  }
  return [...groups.values()].filter((rewards) => rewards.length < 2 || rewardsAgree(rewards)).length;
}

/** One row per rollout, in draw order: what was asked, what was written, what it did, what the update made of it. */
export function rolloutRows({ batch, scored, step }: StepResult): Record<string, unknown>[] {
  return batch.map(({ attempt: { task, rollout, program, verdict }, reward, rewardFailure }, i) => {
    const teacher = scored.teachers[i];
    return {
      step,
      rollout_id: rollout.id,
      task_id: rollout.taskId,
      group: rollout.group,
      sample: rollout.sample,
      policy_version: rollout.policyVersion,
      prompt: task.prompt,
      completion: rollout.completion,
      program,
      finish_reason: rollout.finishReason,
      tokens: rollout.completionIds.length,
      status: verdict.status,
      passed: verdict.passed,
      total: verdict.total,
      reward,
      advantage: scored.samples[i]!.advantage,
      feedback: verdict.feedback,
      teacher_prompt: teacher?.isTrained ? teacher.prompt : null,
      tests: verdict.tests.map(({ status, exit_code, signal, stdout, stderr }) => ({
        status,
        exit_code,
        signal,
        stdout,
        stderr,
      })),
      ...(verdict.reason === undefined ? {} : { reason: verdict.reason }),
      ...(rewardFailure === undefined ? {} : { reward_failure: rewardFailure }),
      timing: { tests_ms: verdict.tests.map((test) => round(test.time_ms, 2)), cached: verdict.cached },
      memory: { tests_kb: verdict.tests.map((test) => test.memory_kb) },
    };
  });
}

/** The row that says, before training, how good the policy is as its own teacher. */
export const selfTeacherRow = (report: SelfTeacherReport): Record<string, unknown> => ({
  kind: "self_teacher",
  step: 0,
  tried: report.tried,
  failed: report.failed,
  no_context: report.noContext,
  with_feedback: report.withFeedback,
  with_solution: report.withSolution,
});

/** null where nothing was judged. */
const judgedRate = (passRate: PassRate | null): number | null =>
  passRate === null || passRate.judged === 0 ? null : passRate.rate;

/** A row of one evaluation: held-out set and probe, sampled and greedy. */
export interface EvaluationRow extends Record<string, unknown> {
  readonly kind: "evaluation";
  readonly step: number;
  readonly rollouts: number;
  readonly sets: Readonly<
    Record<string, { readonly sampled: number | null; readonly greedy: number | null }>
  >;
}

export function evaluationRow(
  step: number,
  rollouts: number,
  sets: Readonly<Record<string, { sampled: PassRate | null; greedy: PassRate | null }>>,
  seconds: number,
): EvaluationRow {
  const entries = Object.entries(sets);
  const infrastructure = entries.map(
    ([, { sampled, greedy }]) => (sampled?.infrastructure ?? 0) + (greedy?.infrastructure ?? 0),
  );
  return {
    kind: "evaluation",
    step,
    rollouts,
    sets: Object.fromEntries(
      entries.map(([name, { sampled, greedy }]) => [
        name,
        { sampled: judgedRate(sampled), greedy: judgedRate(greedy) },
      ]),
    ),
    infrastructure: infrastructure.reduce((a, b) => a + b, 0),
    timing: { seconds: round(seconds, 3) },
  };
}
