import { ConfigError, type Task } from "../core/index.js";
import type { PolicyTokenizer } from "../policy/index.js";
import type { RunnerShape } from "../rollout/index.js";
import type { AttemptContext } from "./attempts.js";
import type { PolicyHost } from "./policy-host.js";
import { type PromptSurroundings, taskMessages } from "./prompts.js";

/** Prompt lengths are rounded up to a multiple of this: few compiled shapes, little padding. */
const PROMPT_STEP = 16;

/** A prompt length as the compiled shapes have it. */
export const roundUp = (length: number): number => Math.ceil(length / PROMPT_STEP) * PROMPT_STEP;

/**
 * Samples on the host in shapes that the prompts of a call need, and at least those of `promptLength`: calls over one
 * task set share one compiled shape, so their numbers do not depend on which tasks a step drew.
 */
export function createSampler(
  host: Pick<PolicyHost, "sample">,
  shape: { readonly slots: number; readonly promptLength: number; readonly maxNewTokens: number },
): AttemptContext["sampler"] {
  return {
    sample: (groups, options, onFinished) => {
      const longest = Math.max(0, ...groups.map((group) => group.promptIds.length));
      const promptLength = roundUp(Math.max(shape.promptLength, longest));
      const runner: RunnerShape = {
        slots: shape.slots,
        promptLength,
        cacheLength: promptLength + shape.maxNewTokens,
      };
      return host.sample(runner, groups, options, onFinished);
    },
  };
}

/**
 * Longest prompt of a task set in tokens.
 * @throws ConfigError naming the first task whose prompt is longer than the run allows
 */
export function longestPrompt(
  tasks: readonly Task[],
  context: PromptSurroundings & { readonly tokenizer: PolicyTokenizer },
  maxPromptTokens: number,
): number {
  let longest = 1;
  for (const task of tasks) {
    const { length } = context.tokenizer.promptIds(taskMessages(context, task));
    if (length > maxPromptTokens) {
      throw new ConfigError({
        at: `task ${task.id}`,
        got: length,
        need: `a prompt of at most ${maxPromptTokens} tokens`,
        fix: "Raise rollout.max_prompt_tokens, or leave the task out.",
      });
    }
    longest = Math.max(longest, length);
  }
  return longest;
}

/** @throws ConfigError when a completion of full length would run past the positions that the policy was made for */
export function checkPositions(promptLength: number, maxNewTokens: number, maxPositions: number): void {
  if (promptLength + maxNewTokens <= maxPositions) return;
  throw new ConfigError({
    at: "rollout.max_new_tokens",
    got: maxNewTokens,
    need: `at most ${Math.max(0, maxPositions - promptLength)}: the policy has ${maxPositions} positions (max_position_embeddings), and the longest prompt takes ${promptLength}`,
  });
}
