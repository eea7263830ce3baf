/** Whether this machine has webgpu, by a GPU or by SwiftShader, and what may run beside it. */
import { availableProviders, type NodeProfile, softwareVulkanEnvironment } from "../../tensor/index.js";

/**
 * Looks for webgpu, and takes SwiftShader where no driver is configured.
 * @returns false, with a line that says why, on a developer's machine without it
 * @throws Error in CI, where no test may be left out
 */
export async function isWebgpuHere(): Promise<boolean> {
  if (!process.env.VK_DRIVER_FILES) Object.assign(process.env, softwareVulkanEnvironment());
  if ((await availableProviders()).includes("webgpu")) return true;
  const why = "no webgpu here: neither a GPU nor SwiftShader (Debian: apt-get install chromium libvulkan1)";
  if (process.env.CI) throw new Error(why);
  console.warn(`skipped: ${why}`);
  return false;
}

/**
 * Nodes that may run on the CPU, and why. Everything else must run on the GPU's provider.
 * - Cast from or to int64: only ONNX's indices are int64, and the provider computes with int32.
 * - Round: there is no kernel for it; no model or loss rounds.
 */
export const isExempt = ({ op, types }: NodeProfile): boolean =>
  (op === "Cast" && types.includes("int64")) || op === "Round";
