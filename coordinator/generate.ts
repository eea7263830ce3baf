import { ConfigError } from "../core/index.js";
import { nonFinitePolicy, openPolicy } from "../policy/index.js";
import type { DeviceChoice } from "../policy/run-config.js";
import { createEngine, type SampledSequence } from "../rollout/index.js";
import { disposeValues } from "../tensor/index.js";
import { chooseSampler } from "./devices.js";
import { type BasePrecision, placeWeights, storedWeights } from "./stored-weights.js";

export interface GenerateRequest {
  /** Policy folder, or a checkpoint of a run. */
  readonly policy: string;
  /** The user's message. */
  readonly prompt: string;
  readonly temperature: number;
  readonly topP: number;
  readonly maxNewTokens: number;
  readonly seed: number;
  readonly device: DeviceChoice;
  readonly basePrecision: BasePrecision["type"];
}

/** One completion of a policy, as text. */
export async function generateText(request: GenerateRequest): Promise<string> {
  const { config, tokenizer, source } = openPolicy(request.policy);
  const promptIds = tokenizer.promptIds([{ role: "user", content: request.prompt }]);
  if (promptIds.length === 0)
    throw new ConfigError({ at: "--prompt", need: "a prompt of at least one token" });
  if (promptIds.length >= config.maxPositions) {
    throw new ConfigError({
      at: "--prompt",
      got: promptIds.length,
      need: `fewer than ${config.maxPositions} tokens, the policy's positions`,
    });
  }
  const maxNewTokens = Math.min(request.maxNewTokens, config.maxPositions - promptIds.length);
  const shape = { slots: 1, promptLength: promptIds.length, cacheLength: promptIds.length + maxNewTokens };
  const provider = await chooseSampler(request.device);
  const stored = await storedWeights(source, true, undefined, {
    type: request.basePrecision,
    provider,
    at: "--base-precision",
  });
  const { weights, ...placed } = await placeWeights(stored, provider);
  const engine = await createEngine({ ...placed, shape, provider });
  engine.setWeights(weights);
  const stopIds = [...new Set([...config.stopIds, ...tokenizer.stopIds])];
  const options = { ...request, topK: 0, maxNewTokens, stopIds };
  const finished: SampledSequence[] = [];
  await engine.sample([{ group: 0, randomKey: "generate", promptIds, samples: [0] }], options, (sequence) =>
    finished.push(sequence),
  );
  await engine.dispose();
  disposeValues(Object.values(placed.base ?? {}));
  if (!finished[0]!.rolloutLogProbs.every(Number.isFinite)) throw nonFinitePolicy(request.policy);
  return tokenizer.decode(finished[0]!.completionIds);
}
