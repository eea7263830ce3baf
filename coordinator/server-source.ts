/** Completions of a run's policy, or of a checkpoint, from the server that samples for the run. */
import { realpathSync } from "node:fs";
import { ConfigError } from "../core/index.js";
import { type OpenedPolicy, openPolicy, policyDigest } from "../policy/index.js";
import { createRemoteSampler, type OpenaiEngine, type RemoteSampler } from "../rollout/index.js";
import { askedGroups } from "./asked-groups.js";
import type { CompletionRequest } from "./completions-file.js";
import type { CompletionSource } from "./draw-completions.js";
import { checkPositions } from "./sampler.js";
import { ServedWeights } from "./served-weights.js";

export interface ServerOptions {
  readonly engine: OpenaiEngine;
  /** Of the run; names the weights on the server. */
  readonly name: string;
  /** What is evaluated: a policy folder, or a checkpoint. */
  readonly folder: string;
  /** The policy that the run starts from, and its server too. */
  readonly start: string;
  /** For weights on their way, where `engine.weights.dir` names no folder. */
  readonly served: string;
  readonly seed: number;
  readonly temperature: number;
  readonly topP: number;
  readonly maxTokens: number;
}

/** What the server is given before it is asked: nothing where it has what is evaluated. */
type Handed = "nothing" | "adapter" | "whole";

/** @throws ConfigError where the server could only answer from other weights than those that are evaluated */
function handedOver({ engine, folder, start }: ServerOptions, policy: OpenedPolicy): Handed {
  const { push } = engine.weights;
  if (push === "sglang_disk") return "whole";
  const isStart = realpathSync(folder) === realpathSync(start);
  const { adapter } = policy.source;
  if (push === "none") {
    if (isStart) return "nothing";
    throw new ConfigError({
      at: "--checkpoint",
      got: folder,
      need: "a server that takes weights: with rollout.engine.weights.push: none it answers from its own",
      fix: "Set it to vllm_lora or sglang_disk, or sample here with --set 'rollout.engine={type: onnx}'; or serve what retort export writes of it, and leave --checkpoint out.",
    });
  }
  if (adapter === null) {
    if (isStart) return "nothing";
    throw new ConfigError({
      at: "--checkpoint",
      got: folder,
      need: "an adapter: rollout.engine.weights.push: vllm_lora hands over nothing else",
      fix: "Sample here with --set 'rollout.engine={type: onnx}'.",
    });
  }
  const base = openPolicy(start).folder;
  if (realpathSync(policy.folder) === realpathSync(base)) return "adapter";
  throw new ConfigError({
    at: "--checkpoint",
    got: folder,
    need: `an adapter on ${base}, which the server holds; this one is on ${policy.folder}`,
    fix: "Sample here with --set 'rollout.engine={type: onnx}'.",
  });
}

/** @throws ConfigError for what cannot be evaluated on this server; nothing is sent before the first completion is asked for */
export async function createServerSource(
  options: ServerOptions,
  note: (line: string) => void,
): Promise<CompletionSource> {
  const policy = openPolicy(options.folder);
  const handed = handedOver(options, policy);
  const { engine, seed, temperature, topP, maxTokens } = options;
  const push = handed === "nothing" ? "none" : engine.weights.push;
  const key = process.env[engine.api_key_env]?.trim() || null;
  const remote = createRemoteSampler({ ...engine, weights: { ...engine.weights, push } }, key, note);
  let weights: ServedWeights | null = null;
  let drawing: Promise<void> = Promise.resolve();
  const draw = async (
    ...[requests, onDrawn, signal]: Parameters<CompletionSource["draw"]>
  ): Promise<void> => {
    await remote.check(policy.tokenizer.promptIds([{ role: "user", content: "1" }]), signal);
    if (handed !== "nothing") {
      weights = servedWeights(options, policy, handed);
      remote.setWeights(await weights.writeStored(options.folder));
    }
    await sampleAll(policy, remote, options, requests, onDrawn, signal);
  };
  return {
    settings: {
      ...{ source: "server", model: engine.model, api: engine.api, push },
      ...{ policy: await policyDigest(policy), seed, temperature, top_p: topP, max_tokens: maxTokens },
    },
    draw: (...call) => {
      const [, , signal] = call;
      drawing = draw(...call).catch((error: unknown) => {
        if (!signal.aborted) throw error;
      });
      return drawing;
    },
    close: async () => {
      await drawing.catch(() => {}); // told by `draw`
      await remote.withdraw();
      remote.close();
      weights?.remove();
    },
  };
}

function servedWeights(
  { engine, name, served }: ServerOptions,
  policy: OpenedPolicy,
  handed: Handed,
): ServedWeights {
  const { adapter } = policy.source;
  const lora = handed === "adapter" && adapter !== null ? { lora: adapter.lora } : {};
  const folder = engine.weights.dir ?? served;
  return new ServedWeights({ name, config: { ...policy.config, ...lora }, from: policy.folder, folder });
}

async function sampleAll(
  { tokenizer, config }: OpenedPolicy,
  remote: RemoteSampler,
  { seed, temperature, topP, maxTokens: maxNewTokens }: ServerOptions,
  requests: readonly CompletionRequest[],
  onDrawn: Parameters<CompletionSource["draw"]>[1],
  signal: AbortSignal,
): Promise<void> {
  const { groups, requestOf } = askedGroups(requests, tokenizer, (_, length) =>
    checkPositions(length, maxNewTokens, config.maxPositions),
  );
  const stopIds = [...new Set([...config.stopIds, ...tokenizer.stopIds])];
  const options = { seed, temperature, topP, topK: 0, maxNewTokens, stopIds };
  await remote.sample(
    groups,
    options,
    (sequence) => {
      const completion = tokenizer.decode(sequence.completionIds);
      onDrawn(requestOf(sequence), { completion, isTruncated: sequence.finishReason === "length" });
    },
    signal,
  );
}
