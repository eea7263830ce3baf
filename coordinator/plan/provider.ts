import { ConfigError } from "../../core/index.js";
import type { DeviceChoice } from "../../policy/run-config.js";
import type { Provider } from "../../tensor/index.js";
import type { RunConfig } from "../config.js";
import { chooseLearner, samplerFor } from "../devices.js";
import { measureSpeed, type Speed } from "./speed.js";

/** Where a plan learns: the device asked for, whether or not it is here; else what the run would choose. */
export async function plannedProvider(
  { policy, rollout }: RunConfig,
  asked: DeviceChoice = policy.device,
): Promise<Provider> {
  return (await chooseLearner({ policy: { device: asked }, rollout })).learner;
}

/**
 * The speeds that were told, or those of this machine.
 * @returns null for a device that is not here and of which nothing was told
 * @throws ConfigError where only one of two numbers is told
 */
export async function plannedSpeeds(
  provider: Provider,
  { policy, rollout }: RunConfig,
  told: { readonly tflops?: number; readonly bandwidth?: number },
): Promise<{ readonly speed: Speed | null; readonly samplerSpeed?: Speed | null }> {
  const { tflops, bandwidth } = told;
  if (tflops !== undefined && bandwidth !== undefined)
    return { speed: { flops: tflops * 1e12, bandwidth: bandwidth * 1e9, isMeasured: false } };
  if (tflops !== undefined || bandwidth !== undefined)
    throw new ConfigError({ at: "--tflops, --bandwidth", need: "both, or neither" });
  const speed = await measureSpeed(provider, policy.threads);
  const sampler = samplerFor(provider, rollout);
  if (sampler === null || sampler === provider) return { speed };
  return { speed, samplerSpeed: await measureSpeed(sampler, policy.threads) };
}
