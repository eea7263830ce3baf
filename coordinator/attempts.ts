import type { Rollout, Task, Verdict } from "../core/index.js";
import type { PolicyTokenizer } from "../policy/index.js";
import type { GroupRequest, SampledSequence, SamplingOptions, SamplingStats } from "../rollout/index.js";
import { extractProgram, type VerifierPool } from "../verifiers/index.js";
import { type PromptSurroundings, taskMessages } from "./prompts.js";

/** A rollout, the program in it (null where there is none) and what running it showed. */
export interface Attempt {
  readonly task: Task;
  readonly rollout: Rollout;
  readonly program: string | null;
  readonly verdict: Verdict;
}

/** A task drawn for a group of attempts. */
export interface DrawnTask {
  readonly task: Task;
  readonly group: number;
  /** Names the random stream of the group, see `GroupRequest`. */
  readonly randomKey: string;
}

/** What attempts need: something that samples, something that judges, and the way from ids to programs. */
export interface AttemptContext extends PromptSurroundings {
  readonly sampler: {
    sample(
      groups: readonly GroupRequest[],
      options: SamplingOptions,
      onFinished: (sequence: SampledSequence) => void,
    ): Promise<SamplingStats>;
  };
  readonly verifier: Pick<VerifierPool, "verify">;
  readonly tokenizer: PolicyTokenizer;
  readonly language: string;
  /** Tests left when this many have failed are not run; the pool's own rule when absent. */
  readonly stopAfterFailures?: number;
  /** Where the program stands in a completion: its last fenced block, or the whole of it. */
  readonly programIn: "fenced" | "whole";
}

export interface AttemptTiming {
  readonly sampling: SamplingStats;
  /** From the last completion to the last verdict, seconds: how long the judge held the loop. */
  readonly judgeWaitSeconds: number;
}

/**
 * Samples G attempts of every task and judges each program the moment it is written, while others are still sampled.
 * @returns attempts[task][sample], in draw order whatever finished first
 */
export async function attemptTasks(
  context: AttemptContext,
  drawn: readonly DrawnTask[],
  groupSize: number,
  options: SamplingOptions,
  policyVersion: number,
  onVerdict: (verdict: Verdict) => void = () => {},
): Promise<{ attempts: Attempt[][]; timing: AttemptTiming }> {
  const samples = Array.from({ length: groupSize }, (_, sample) => sample);
  const requests = drawn.map(({ task, randomKey }, group) => ({
    group,
    randomKey,
    samples,
    promptIds: context.tokenizer.promptIds(taskMessages(context, task)),
  }));
  const judged: Promise<Attempt>[][] = drawn.map(() => []);
  const sampling = await context.sampler.sample(requests, options, (sequence) => {
    const { task, group } = drawn[sequence.group]!;
    const rollout = rolloutOf(
      context,
      sequence,
      task,
      group,
      requests[sequence.group]!.promptIds,
      policyVersion,
    );
    const attempt = judge(context, task, rollout);
    attempt.then(({ verdict }) => onVerdict(verdict)).catch(() => {}); // awaited, with its error, below
    judged[sequence.group]![sequence.sample] = attempt;
  });
  const sampled = performance.now();
  const attempts = await Promise.all(judged.map((group) => Promise.all(group)));
  return { attempts, timing: { sampling, judgeWaitSeconds: (performance.now() - sampled) / 1000 } };
}

function rolloutOf(
  { tokenizer }: AttemptContext,
  sequence: SampledSequence,
  task: Task,
  group: number,
  promptIds: readonly number[],
  policyVersion: number,
): Rollout {
  return {
    id: `${group}.${sequence.sample}`,
    taskId: task.id,
    group,
    sample: sequence.sample,
    promptIds,
    completionIds: sequence.completionIds,
    completion: tokenizer.decode(sequence.completionIds),
    rolloutLogProbs: sequence.rolloutLogProbs,
    ...(sequence.cutLogProbs ? { cutLogProbs: sequence.cutLogProbs } : {}),
    finishReason: sequence.finishReason,
    policyVersion,
  };
}

async function judge(context: AttemptContext, task: Task, rollout: Rollout): Promise<Attempt> {
  const program = extractProgram(rollout.completion, context.programIn);
  const language = task.language ?? context.language;
  const isTruncated = rollout.finishReason === "length";
  const verdict = await context.verifier.verify({
    id: rollout.id,
    task,
    language,
    program,
    isTruncated,
    ...(context.stopAfterFailures === undefined ? {} : { stopAfterFailures: context.stopAfterFailures }),
  });
  return { task, rollout, program, verdict };
}
