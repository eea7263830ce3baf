/** What can compute on this machine. */
import { existsSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import * as ort from "onnxruntime-node";
import type { Provider } from "./compile.js";
import { TENSORFLOW_PACKAGES } from "./eager.js";
import { Graph, PLAIN_DIALECT } from "./graph.js";
import { encodeModel } from "./onnx.js";

/** Where Debian's `chromium` package puts SwiftShader, a Vulkan driver that computes on the CPU. */
const SWIFTSHADER = "/usr/lib/chromium/vk_swiftshader_icd.json";

/**
 * Environment variables that make webgpu run without a GPU, on SwiftShader. They must be set before the first webgpu
 * session is opened. Dawn refuses Debian's other software driver, llvmpipe.
 * @returns null where SwiftShader is not installed (Debian: `apt-get install chromium libvulkan1`)
 */
export function softwareVulkanEnvironment(): Record<string, string> | null {
  if (!existsSync(SWIFTSHADER)) return null;
  return { VK_DRIVER_FILES: SWIFTSHADER, VK_ICD_FILENAMES: SWIFTSHADER };
}

/** Whether ONNX Runtime opens a session there and computes 1 + 1. */
async function computes(provider: "webgpu" | "cuda"): Promise<boolean> {
  const graph = new Graph(PLAIN_DIALECT);
  const x = graph.input("x", [1], "float32");
  const sum = graph.node("Add", [x, x], { shape: [1], type: "float32" });
  try {
    const session = await ort.InferenceSession.create(encodeModel(graph, "probe", [x], [sum]).bytes, {
      executionProviders: [provider],
      logSeverityLevel: 4,
    });
    const { o0 } = await session.run({ i0: new ort.Tensor("float32", Float32Array.of(1), [1]) });
    await session.release();
    return o0?.data[0] === 2;
  } catch {
    return false; // no such device, driver or library here: an answer, not an error
  }
}

/** Whether onnxruntime-node's CUDA library was downloaded; without it, asking for cuda logs an error. */
function hasCudaLibrary(): boolean {
  const root = dirname(createRequire(import.meta.url).resolve("onnxruntime-node/package.json"));
  const files = readdirSync(join(root, "bin"), { recursive: true, encoding: "utf8" });
  return files.some((file) => /onnxruntime_providers_cuda\.(so|dll)$/.test(file));
}

function isInstalled(name: string): boolean {
  try {
    createRequire(import.meta.url).resolve(name);
    return true;
  } catch {
    return false;
  }
}

/** The providers that work on this machine, tried out. cpu always does. */
export async function availableProviders(): Promise<Provider[]> {
  const providers: Provider[] = ["cpu"];
  if (await computes("webgpu")) providers.push("webgpu");
  if (hasCudaLibrary() && (await computes("cuda"))) providers.push("cuda");
  if (TENSORFLOW_PACKAGES.some(isInstalled)) providers.push("tensorflow");
  return providers;
}
