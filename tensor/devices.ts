/** What can compute on this machine. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism, cpus } from "node:os";
import { dirname, join } from "node:path";
import { ConfigError } from "../core/index.js";
import { cast } from "./arithmetic.js";
import { compile, type Provider } from "./compile.js";
import { TENSORFLOW_PACKAGES } from "./eager.js";
import { Graph, PLAIN_DIALECT } from "./graph.js";
import { encodeModel } from "./onnx.js";
import { ort } from "./ort.js";
import * as tf from "./tfjs.js";
import { disposeValues } from "./values.js";

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

/** How far a provider gets: null where it computes, else why not. */
type Refusal = string | null;

/** Opens a session there and computes 1 + 1; in half precision when `half` is true. */
async function tryOut(provider: "webgpu" | "cuda", half = false): Promise<Refusal> {
  const graph = new Graph(PLAIN_DIALECT);
  const x = graph.input("x", [1], "float32");
  const operand = half ? cast(graph, x, "float16") : x;
  const sum = graph.node("Add", [operand, operand], { shape: [1], type: operand.type });
  try {
    const session = await ort().InferenceSession.create(
      encodeModel(graph, "probe", [x], [cast(graph, sum, "float32")]).bytes,
      { executionProviders: [provider], logSeverityLevel: 4 },
    );
    const { o0 } = await session.run({ i0: new (ort().Tensor)("float32", Float32Array.of(1), [1]) });
    await session.release();
    return o0?.data[0] === 2 ? null : "it computes wrong numbers";
  } catch (error) {
    return String(error); // no such device, driver or library here: an answer, not an error
  }
}

/** Whether webgpu makes a buffer as large as this; nothing is sent there. ONNX Runtime does not tell the GPU's limits. */
export async function hasBuffersOf(bytes: number): Promise<boolean> {
  const length = Math.ceil(bytes / 4);
  const zeros = await compile(
    ({ zero }) => ({ zeros: tf.broadcastTo(zero!, [length]) }),
    { zero: { shape: [1], dtype: "float32" } },
    { provider: "webgpu", keepOnDevice: ["zeros"], name: "largest buffer" },
  );
  try {
    disposeValues(Object.values(await zeros.run({ zero: Float32Array.of(0) })));
    return true;
  } catch (error) {
    if (error instanceof ConfigError) return false;
    throw error;
  } finally {
    await zeros.dispose();
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

/** One provider on this machine, tried out. */
export interface ProviderState {
  readonly provider: Provider;
  readonly works: boolean;
  /** What computes there, as far as the machine tells; null: nothing does. */
  readonly device: string | null;
  /** Why it does not work, and what would make it. */
  readonly reason: string | null;
  readonly fix: string | null;
}

const working = (provider: Provider, device: string): ProviderState => ({
  provider,
  works: true,
  device,
  reason: null,
  fix: null,
});
const missing = (provider: Provider, reason: string, fix: string): ProviderState => ({
  provider,
  works: false,
  device: null,
  reason,
  fix,
});

/** Whether webgpu runs on a driver that computes on the CPU: far slower than provider cpu. */
export const isSoftwareVulkan = (): boolean => process.env.VK_DRIVER_FILES?.includes("swiftshader") ?? false;

/** Names of the NVIDIA cards, as their driver tells them on Linux. */
function nvidiaCards(): string[] {
  const root = "/proc/driver/nvidia/gpus";
  if (!existsSync(root)) return [];
  return readdirSync(root).flatMap(
    (card) => /^Model:\s*(.+)$/m.exec(readFileSync(join(root, card, "information"), "utf8"))?.[1] ?? [],
  );
}

async function webgpuState(): Promise<ProviderState> {
  const refusal = await tryOut("webgpu");
  if (refusal === null)
    return working("webgpu", isSoftwareVulkan() ? "SwiftShader (on the CPU)" : (nvidiaCards()[0] ?? "a GPU"));
  const software = softwareVulkanEnvironment();
  const tryIt =
    software === null
      ? ""
      : ` To try it without a GPU, slowly: ${Object.entries(software)
          .map(([key, value]) => `${key}=${value}`)
          .join(" ")}`;
  return missing(
    "webgpu",
    firstLine(refusal),
    `WebGPU needs a GPU with a Vulkan (Debian: apt-get install libvulkan1 and the card's driver), Metal or Direct3D 12 driver.${tryIt}`,
  );
}

async function cudaState(): Promise<ProviderState> {
  const library =
    "ONNX Runtime's CUDA libraries come with `npm_config_onnxruntime_node_install=cuda12 npm ci` on Linux x64 with a CUDA 12 GPU.";
  if (!hasCudaLibrary()) return missing("cuda", "ONNX Runtime's CUDA library was not downloaded", library);
  const refusal = await tryOut("cuda");
  if (refusal === null) return working("cuda", nvidiaCards()[0] ?? "an NVIDIA GPU");
  return missing("cuda", firstLine(refusal), `It needs an NVIDIA driver, CUDA 12 and cuDNN 9. ${library}`);
}

function tensorflowState(): ProviderState {
  const found = TENSORFLOW_PACKAGES.find(isInstalled);
  if (found) return working("tensorflow", found);
  const [gpu, cpu] = TENSORFLOW_PACKAGES;
  return missing(
    "tensorflow",
    `neither ${gpu} nor ${cpu} is installed`,
    `npm install ${gpu} (NVIDIA GPU on Linux) or npm install ${cpu}`,
  );
}

/** What an error of ONNX Runtime says, without the place in its source. */
const firstLine = (text: string): string => {
  const [line = ""] = text.replace(/^Error: /, "").split("\n");
  return (/Failed to .*/.exec(line)?.[0] ?? line).slice(0, 300);
};

const cpuState = (): ProviderState =>
  working("cpu", `${cpus()[0]?.model ?? "CPU"}, ${availableParallelism()} threads`);

const STATES: Readonly<Record<Provider, () => ProviderState | Promise<ProviderState>>> = {
  cpu: cpuState,
  webgpu: webgpuState,
  cuda: cudaState,
  tensorflow: tensorflowState,
};

/** One provider, tried out, and no other: their drivers may have much to say on stderr. */
export const providerState = async (provider: Provider): Promise<ProviderState> => STATES[provider]();

/** Every provider, tried out. cpu always works. */
export async function providerStates(): Promise<ProviderState[]> {
  const states: ProviderState[] = [];
  for (const provider of Object.keys(STATES) as Provider[]) states.push(await providerState(provider));
  return states;
}

/** The providers that work on this machine, tried out. */
export async function availableProviders(): Promise<Provider[]> {
  return (await providerStates()).filter(({ works }) => works).map(({ provider }) => provider);
}

/** Whether a provider computes matrix products in half precision here. */
export async function hasHalfPrecision(provider: Provider): Promise<boolean> {
  return (provider === "webgpu" || provider === "cuda") && (await tryOut(provider, true)) === null;
}
