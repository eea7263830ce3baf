import { existsSync } from "node:fs";
import { ConfigError } from "../core/index.js";
import type { DeviceChoice, PolicyConfig } from "../policy/run-config.js";
import type { RolloutConfig } from "../rollout/config.js";
import { hasHalfPrecision, isSoftwareVulkan, type Provider, providerState } from "../tensor/index.js";

/**
 * What computes a policy. `auto` is cuda or webgpu where a session really opens there, else cpu; a software GPU (tests run
 * webgpu on one) is never chosen by itself: it is far slower than cpu.
 * @throws ConfigError when the device asked for does not work here
 */
export async function chooseProvider(device: DeviceChoice): Promise<Provider> {
  if (device === "cpu" || device === "tensorflow") return device;
  if (device === "auto" && !hasGpuDevice()) return "cpu";
  if (device === "auto") {
    if ((await providerState("cuda")).works) return "cuda";
    return !isSoftwareVulkan() && (await providerState("webgpu")).works ? "webgpu" : "cpu";
  }
  const { works, reason, fix } = await providerState(device);
  if (works) return device;
  throw new ConfigError({
    at: "policy.device",
    got: device,
    need: `one that works here (cpu; ${device}: ${reason})`,
    fix: `${fix} \`retort devices\` tells more.`,
  });
}

/**
 * Whether the policy's matrices are held in float16.
 * @throws ConfigError where the device has no half precision, or where they are learned
 */
export async function usesHalfPrecision(
  { precision, lora }: Pick<PolicyConfig, "precision" | "lora">,
  provider: Provider,
): Promise<boolean> {
  if (precision === "float32") return false;
  const refuse = (need: string, fix: string): never => {
    throw new ConfigError({ at: "policy.precision", got: precision, need, fix });
  };
  if (lora === null)
    refuse(
      "float32 where all weights are learned",
      "Set policy.lora: under an adapter the policy's own matrices may be float16.",
    );
  if (!(await hasHalfPrecision(provider)))
    refuse(`float32: ${provider} here does not compute in float16`, "`retort devices` lists what does.");
  return true;
}

/** What to tell of a run that samples where its key/value cache cannot stay. */
export function samplingNote(provider: Provider, engine: RolloutConfig["engine"]["type"]): string | null {
  if (provider !== "cuda" || engine !== "onnx") return null;
  return (
    "policy.device: cuda moves the whole key/value cache between host and card with every sampled token, which is slow; " +
    "webgpu keeps it on the card, and with rollout.engine: openai a server samples (docs/devices.md)"
  );
}

/** Device files of a GPU. Without any, trying one out would only make its driver complain on stderr. */
const GPU_FILES = ["/dev/dri", "/dev/nvidia0", "/dev/dxg"];

export const hasGpuDevice = (): boolean =>
  process.platform !== "linux" || GPU_FILES.some((file) => existsSync(file));
