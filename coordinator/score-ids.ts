import {
  nonFinitePolicy,
  policyFolder,
  readDecoderConfig,
  readWeights,
  scoreIds as scoreSequences,
} from "../policy/index.js";
import type { DeviceChoice } from "../policy/run-config.js";
import { chooseProvider } from "./devices.js";

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
  const folder = policyFolder(request.policy);
  const config = readDecoderConfig(folder);
  const policy = { config, weights: readWeights(folder, config) };
  const provider = await chooseProvider(request.device);
  const { sequences, placeOf } = request;
  const scored = await scoreSequences(policy, sequences, { provider, ...(placeOf && { placeOf }) });
  if (!scored.flat().every(Number.isFinite)) throw nonFinitePolicy(folder);
  return scored;
}
