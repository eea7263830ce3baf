import { existsSync } from "node:fs";
import { ConfigError } from "../core/index.js";
import type { DeviceChoice } from "../policy/run-config.js";
import { isSoftwareVulkan, type Provider, providerStates } from "../tensor/index.js";

/**
 * What computes a policy. `auto` is cuda or webgpu where a session really opens there, else cpu; a software GPU (tests run
 * webgpu on one) is never chosen by itself: it is far slower than cpu.
 * @throws ConfigError when the device asked for does not work here
 */
export async function chooseProvider(device: DeviceChoice): Promise<Provider> {
  if (device === "cpu" || device === "tensorflow") return device;
  if (device === "auto" && !hasGpuDevice()) return "cpu";
  const states = await providerStates();
  const available = states.filter(({ works }) => works).map(({ provider }) => provider);
  if (device === "auto") {
    if (available.includes("cuda")) return "cuda";
    return available.includes("webgpu") && !isSoftwareVulkan() ? "webgpu" : "cpu";
  }
  if (available.includes(device)) return device;
  const { reason, fix } = states.find(({ provider }) => provider === device)!;
  throw new ConfigError({
    at: "policy.device",
    got: device,
    need: `one that works here (${available.join(", ")}; ${device}: ${reason})`,
    fix: `${fix} \`retort devices\` tells more.`,
  });
}

/** Device files of a GPU. Without any, trying one out would only make its driver complain on stderr. */
const GPU_FILES = ["/dev/dri", "/dev/nvidia0", "/dev/dxg"];

export const hasGpuDevice = (): boolean =>
  process.platform !== "linux" || GPU_FILES.some((file) => existsSync(file));
