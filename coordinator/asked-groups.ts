import { ConfigError } from "../core/index.js";
import type { OpenedPolicy } from "../policy/index.js";
import type { GroupRequest, SampledSequence } from "../rollout/index.js";
import type { CompletionRequest } from "./completions-file.js";
import { plannedId } from "./solutions.js";

/** Completions that are wanted, as a sampler takes them. */
export interface AskedGroups {
  readonly groups: readonly GroupRequest[];
  /** Of the longest prompt, tokens. */
  readonly longest: number;
  /** Which one a sequence is. */
  requestOf(sequence: Pick<SampledSequence, "group" | "sample">): CompletionRequest;
}

/**
 * The samples of a task in a language share its prompt. Their random numbers are those of (seed, task, sample), whatever
 * else is sampled beside them.
 * @param checkLength - told the length of each prompt
 */
export function askedGroups(
  requests: readonly CompletionRequest[],
  tokenizer: OpenedPolicy["tokenizer"],
  checkLength: (request: CompletionRequest, length: number) => void,
): AskedGroups {
  const groups: (GroupRequest & { samples: number[] })[] = [];
  const members: Map<number, CompletionRequest>[] = [];
  const byPair = new Map<string, number>();
  for (const request of requests) {
    const pair = plannedId({ ...request, sample: 0 });
    let index = byPair.get(pair);
    if (index === undefined) {
      const promptIds = tokenizer.promptIds(request.messages);
      if (promptIds.length === 0)
        throw new ConfigError({ at: `task ${request.task.id}: prompt`, need: "at least one token" });
      checkLength(request, promptIds.length);
      index = groups.length;
      byPair.set(pair, index);
      groups.push({ group: index, randomKey: `evaluation/${request.task.id}`, promptIds, samples: [] });
      members.push(new Map());
    }
    groups[index]!.samples.push(request.sample);
    members[index]!.set(request.sample, request);
  }
  return {
    groups,
    longest: Math.max(...groups.map(({ promptIds }) => promptIds.length)),
    requestOf: ({ group, sample }) => members[group]!.get(sample)!,
  };
}
