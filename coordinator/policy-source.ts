/** Completions of a policy folder, sampled here. */
import { availableParallelism } from "node:os";
import { ConfigError } from "../core/index.js";
import {
  NonFinitePolicyError,
  nonFinitePolicy,
  type OpenedPolicy,
  openPolicy,
  policyDigest,
} from "../policy/index.js";
import type { DeviceChoice } from "../policy/run-config.js";
import type { GroupRequest } from "../rollout/index.js";
import type { CompletionRequest } from "./completions-file.js";
import { chooseSampler } from "./devices.js";
import type { CompletionSource } from "./draw-completions.js";
import { openSamplingHost } from "./policy-host.js";
import { createSampler, roundUp } from "./sampler.js";
import { plannedId } from "./solutions.js";
import { type BasePrecision, storedWeights } from "./stored-weights.js";

export interface PolicyOptions {
  /** Policy folder, or a checkpoint of a run. */
  readonly folder: string;
  readonly device: DeviceChoice;
  readonly threads?: number;
  readonly seed: number;
  readonly temperature: number;
  readonly topP: number;
  readonly maxTokens: number;
  /** Sequences decoded at once. */
  readonly slots: number;
  /** Default: float32. */
  readonly basePrecision?: Omit<BasePrecision, "provider">;
}

/** @throws ConfigError for a folder that is no policy, or a device that does not work here */
export async function createPolicySource(options: PolicyOptions): Promise<CompletionSource> {
  const policy = openPolicy(options.folder);
  const provider = await chooseSampler(options.device);
  const { type = "float32", at = "--base-precision" } = options.basePrecision ?? {};
  const host = await openSamplingHost({
    config: policy.config,
    weights: await storedWeights(policy.source, true, undefined, { type, provider, at }),
    provider,
    threads: options.threads ?? availableParallelism(),
  });
  const { seed, temperature, topP, maxTokens } = options;
  const settings = {
    source: "policy",
    policy: await policyDigest(policy),
    seed,
    temperature,
    top_p: topP,
    max_tokens: maxTokens,
    ...(type === "float32" ? {} : { base_precision: type }),
  };
  return {
    settings,
    draw: async (requests, onDrawn, signal) => {
      const stop = (): void => void host.stop();
      signal.addEventListener("abort", stop, { once: true });
      try {
        await sampleAll(policy, host, options, requests, onDrawn);
      } catch (error) {
        if (signal.aborted) return;
        throw error instanceof NonFinitePolicyError ? nonFinitePolicy(options.folder) : error;
      } finally {
        signal.removeEventListener("abort", stop);
      }
    },
    close: async () => host.stop(),
  };
}

/** The random numbers of an attempt are those of (seed, task, sample), whatever else is sampled beside it. */
async function sampleAll(
  { tokenizer, config }: OpenedPolicy,
  host: Parameters<typeof createSampler>[0],
  options: PolicyOptions,
  requests: readonly CompletionRequest[],
  onDrawn: Parameters<CompletionSource["draw"]>[1],
): Promise<void> {
  const groups: (GroupRequest & { samples: number[]; requests: Map<number, CompletionRequest> })[] = [];
  const byPair = new Map<string, (typeof groups)[number]>();
  for (const request of requests) {
    const pair = plannedId({ ...request, sample: 0 });
    let group = byPair.get(pair);
    if (group === undefined) {
      const promptIds = tokenizer.promptIds(request.messages);
      group = {
        group: groups.length,
        randomKey: `evaluation/${request.task.id}`,
        promptIds,
        samples: [],
        requests: new Map(),
      };
      checkLength(request, promptIds.length, config.maxPositions);
      byPair.set(pair, group);
      groups.push(group);
    }
    group.samples.push(request.sample);
    group.requests.set(request.sample, request);
  }
  const longest = Math.max(...groups.map(({ promptIds }) => promptIds.length));
  // The cache has room for every sequence's own end: its longest length, or the last of the policy's positions.
  const room = Math.min(options.maxTokens, config.maxPositions - roundUp(longest));
  const sampler = createSampler(host, { slots: options.slots, promptLength: longest, maxNewTokens: room });
  const { seed, temperature, topP, maxTokens: maxNewTokens } = options;
  const stopIds = [...new Set([...config.stopIds, ...tokenizer.stopIds])];
  const asked = groups.map(({ requests: _own, ...group }) => group);
  await sampler.sample(asked, { seed, temperature, topP, topK: 0, maxNewTokens, stopIds }, (sequence) => {
    const request = groups[sequence.group]!.requests.get(sequence.sample)!;
    const completion = tokenizer.decode(sequence.completionIds);
    onDrawn(request, { completion, isTruncated: sequence.finishReason === "length" });
  });
}

function checkLength({ task }: CompletionRequest, length: number, maxPositions: number): void {
  if (length > 0 && roundUp(length) < maxPositions) return;
  throw new ConfigError({
    at: `task ${task.id}: prompt`,
    got: length,
    need: `at least one token, and room for an answer within the policy's ${maxPositions} positions`,
  });
}
