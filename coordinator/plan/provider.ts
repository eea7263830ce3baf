import { ConfigError } from "../../core/index.js";
import type { DeviceChoice } from "../../policy/run-config.js";
import type { Provider } from "../../tensor/index.js";
import type { RunConfig } from "../config.js";
import { chooseProvider } from "../devices.js";
import { measureSpeed, type Speed } from "./speed.js";

/** What a plan is for: the device asked for, whether or not it is here; else what the run would choose. */
export async function plannedProvider(config: RunConfig, asked?: DeviceChoice): Promise<Provider> {
  const device = asked ?? config.policy.device;
  return device === "auto" ? chooseProvider("auto") : device;
}

/**
 * The speed that was told, or that of this machine.
 * @returns null for a device that is not here and of which nothing was told
 * @throws ConfigError where only one of two numbers is told
 */
export async function plannedSpeed(
  provider: Provider,
  { policy }: RunConfig,
  told: { readonly tflops?: number; readonly bandwidth?: number },
): Promise<Speed | null> {
  const { tflops, bandwidth } = told;
  if (tflops !== undefined && bandwidth !== undefined)
    return { flops: tflops * 1e12, bandwidth: bandwidth * 1e9, isMeasured: false };
  if (tflops !== undefined || bandwidth !== undefined)
    throw new ConfigError({ at: "--tflops, --bandwidth", need: "both, or neither" });
  return measureSpeed(provider, policy.threads);
}
