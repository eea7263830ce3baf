import type { Task } from "../core/index.js";
import type { SamplingOptions } from "../rollout/index.js";
import type { RewardFunction, UpdateMetrics } from "../trainer/index.js";
import {
  type Attempt,
  type AttemptContext,
  type AttemptTiming,
  attemptTasks,
  type DrawnTask,
} from "./attempts.js";
import type { Draw } from "./draw.js";
import type { PolicyHost } from "./policy-host.js";
import {
  type RewardedAttempt,
  type ScoredSamples,
  type ScoringContext,
  scoreSamples,
} from "./score-samples.js";

/** Everything a step needs that does not change from step to step. */
export interface StepContext {
  readonly policy: PolicyHost;
  readonly attempts: AttemptContext;
  readonly scoring: ScoringContext;
  readonly tasks: readonly Task[];
  readonly draw: (position: number) => Draw;
  readonly promptsPerStep: number;
  readonly groupSize: number;
  readonly sampling: SamplingOptions;
  readonly reward: RewardFunction | null;
}

/** What a step did; `metrics.jsonl` and `rollouts/` are written from it. */
export interface StepResult {
  readonly step: number;
  readonly batch: readonly RewardedAttempt[];
  readonly scored: ScoredSamples;
  readonly update: UpdateMetrics;
  readonly timing: StepTiming;
}

/** Seconds of the stages of a step; `judgeWait` is what the judge added after the last completion. */
export interface StepTiming {
  readonly step: number;
  readonly sample: number;
  readonly judgeWait: number;
  readonly score: number;
  readonly update: number;
  readonly sampledTokens: number;
}

/** One update of the policy, strictly on-policy: every rollout of it comes from the weights that it changes. */
export async function trainStep(context: StepContext, step: number): Promise<StepResult> {
  const started = performance.now();
  const drawn = drawTasks(context, step);
  const { attempts, timing } = await attemptTasks(
    context.attempts,
    drawn,
    context.groupSize,
    context.sampling,
    step,
  );
  const judged = performance.now();
  const batch = await rewardAttempts(context.reward, attempts.flat());
  const scored = scoreSamples(context.scoring, batch);
  const ready = performance.now();
  const update = await context.policy.update({ samples: scored.samples });
  return { step, batch, scored, update, timing: stepTiming(started, timing, judged, ready) };
}

/** The tasks of a step, in draw order. Steps count from 1. */
export function drawTasks({ draw, tasks, promptsPerStep }: StepContext, step: number): DrawnTask[] {
  return Array.from({ length: promptsPerStep }, (_, index) => {
    const group = (step - 1) * promptsPerStep + index;
    const { taskIndex, epoch } = draw(group);
    const task = tasks[taskIndex]!;
    return { task, group, randomKey: `${task.id}/${epoch}` };
  });
}

/** The verdict's reward, or the user's. Infrastructure failures never reach the user's function: there is nothing to judge. */
async function rewardAttempts(
  reward: RewardFunction | null,
  attempts: readonly Attempt[],
): Promise<RewardedAttempt[]> {
  return Promise.all(
    attempts.map(async (attempt) => {
      const { task, rollout, verdict } = attempt;
      if (verdict.reward === null || reward === null) return { attempt, reward: verdict.reward };
      const outcome = await reward.score({ task, rollout, verdict });
      const failure = outcome.reason === undefined ? {} : { rewardFailure: outcome.reason };
      return { attempt, reward: outcome.reward, ...failure };
    }),
  );
}

function stepTiming(started: number, timing: AttemptTiming, judged: number, ready: number): StepTiming {
  const now = performance.now();
  const seconds = (from: number, to: number): number => (to - from) / 1000;
  return {
    step: seconds(started, now),
    sample: timing.sampling.seconds,
    judgeWait: timing.judgeWaitSeconds,
    score: seconds(judged, ready),
    update: seconds(ready, now),
    sampledTokens: timing.sampling.tokens,
  };
}
