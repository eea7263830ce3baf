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
import { askedGroups } from "./asked-groups.js";
import type { CompletionRequest } from "./completions-file.js";
import { chooseSampler } from "./devices.js";
import type { CompletionSource } from "./draw-completions.js";
import { openSamplingHost } from "./policy-host.js";
import { createSampler, roundUp } from "./sampler.js";
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

async function sampleAll(
  { tokenizer, config }: OpenedPolicy,
  host: Parameters<typeof createSampler>[0],
  options: PolicyOptions,
  requests: readonly CompletionRequest[],
  onDrawn: Parameters<CompletionSource["draw"]>[1],
): Promise<void> {
  const { groups, longest, requestOf } = askedGroups(requests, tokenizer, (request, length) =>
    checkRoom(request, length, config.maxPositions),
  );
  // The cache has room for every sequence's own end: its longest length, or the last of the policy's positions.
  const room = Math.min(options.maxTokens, config.maxPositions - roundUp(longest));
  const sampler = createSampler(host, { slots: options.slots, promptLength: longest, maxNewTokens: room });
  const { seed, temperature, topP, maxTokens: maxNewTokens } = options;
  const stopIds = [...new Set([...config.stopIds, ...tokenizer.stopIds])];
  await sampler.sample(groups, { seed, temperature, topP, topK: 0, maxNewTokens, stopIds }, (sequence) => {
    const completion = tokenizer.decode(sequence.completionIds);
    onDrawn(requestOf(sequence), { completion, isTruncated: sequence.finishReason === "length" });
  });
}

function checkRoom({ task }: CompletionRequest, length: number, maxPositions: number): void {
  if (roundUp(length) < maxPositions) return;
  throw new ConfigError({
    at: `task ${task.id}: prompt`,
    got: length,
    need: `room for an answer within the policy's ${maxPositions} positions`,
  });
}
