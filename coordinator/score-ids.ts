import { nonFinitePolicy, openWeights, scoreIds as scoreSequences } from "../policy/index.js";
import type { DeviceChoice } from "../policy/run-config.js";
import { disposeValues } from "../tensor/index.js";
import { chooseProvider } from "./devices.js";
import { placeWeights, storedWeights } from "./stored-weights.js";

/**
 * Natural log-probability of each id after the first, given those before it.
 * @param request.policy - policy folder, or a checkpoint of a run; its tokenizer is not needed
 */
export async function scoreIds(request: {
  policy: string;
  device: DeviceChoice;
  sequences: readonly (readonly number[])[];
  /** Where a sequence stands, for messages. */
  placeOf?: (index: number) => string;
}): Promise<number[][]> {
  const stored = await storedWeights(openWeights(request.policy), true);
  const provider = await chooseProvider(request.device);
  const policy = await placeWeights(stored, provider);
  const { sequences, placeOf } = request;
  const scored = await scoreSequences(policy, sequences, { provider, ...(placeOf && { placeOf }) });
  if (!scored.flat().every(Number.isFinite)) throw nonFinitePolicy(request.policy);
  disposeValues(Object.values(policy.base ?? {}));
  return scored;
}
