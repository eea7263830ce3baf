import { existsSync } from "node:fs";
import { ConfigError } from "../core/index.js";
import type { DeviceChoice } from "../policy/run-config.js";
import { availableProviders, type Provider } from "../tensor/index.js";

/**
 * What computes a policy. `auto` is cuda or webgpu where a session really opens there, else cpu; a software GPU (tests run
 * webgpu on one) is never chosen by itself: it is far slower than cpu.
 * @throws ConfigError when the device asked for does not work here
 */
export async function chooseProvider(device: DeviceChoice): Promise<Provider> {
  if (device === "cpu" || device === "tensorflow") return device;
  if (device === "auto" && !hasGpuDevice()) return "cpu";
  const available = await availableProviders();
  if (device === "auto") {
    if (available.includes("cuda")) return "cuda";
    const isSoftware = process.env.VK_DRIVER_FILES?.includes("swiftshader") ?? false;
    return available.includes("webgpu") && !isSoftware ? "webgpu" : "cpu";
  }
  if (available.includes(device)) return device;
  const fix =
    device === "cuda"
      ? "ONNX Runtime's CUDA libraries come with `npm_config_onnxruntime_node_install=cuda12 npm ci` on Linux x64 with a CUDA 12 GPU."
      : "WebGPU needs a Vulkan, Metal or Direct3D 12 driver.";
  throw new ConfigError({
    at: "policy.device",
    got: device,
    need: `one that works here (${available.join(", ")})`,
    fix,
  });
}

/** Device files of a GPU. Without any, trying one out would only make its driver complain on stderr. */
const GPU_FILES = ["/dev/dri", "/dev/nvidia0", "/dev/dxg"];

const hasGpuDevice = (): boolean =>
  process.platform !== "linux" || GPU_FILES.some((file) => existsSync(file));
