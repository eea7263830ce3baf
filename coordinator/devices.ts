import { existsSync } from "node:fs";
import { ConfigError } from "../core/index.js";
import type { DeviceChoice, PolicyConfig } from "../policy/run-config.js";
import type { RolloutConfig } from "../rollout/config.js";
import type { SamplingProvider } from "../rollout/index.js";
import {
  hasHalfPrecision,
  isSoftwareVulkan,
  type Provider,
  type ProviderState,
  providerState,
} from "../tensor/index.js";

/** What can compute on a machine. */
export interface Machine {
  /** Tries one out; none is tried that is not asked for: drivers may have much to say on stderr. */
  state(provider: Provider): Promise<ProviderState>;
  /** false: no GPU is there to be tried. */
  readonly hasGpu: boolean;
  /** webgpu computes on the CPU, as in tests: far slower than cpu, so it is never chosen unasked. */
  readonly isSoftwareVulkan: boolean;
}

/** Device files of a GPU. Without any, trying one out would only make its driver complain on stderr. */
const GPU_FILES = ["/dev/dri", "/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"];

export const hasGpuDevice = (): boolean =>
  process.platform !== "linux" || GPU_FILES.some((file) => existsSync(file));

const thisMachine = (): Machine => ({
  state: providerState,
  hasGpu: hasGpuDevice(),
  isSoftwareVulkan: isSoftwareVulkan(),
});

const hasRealWebgpu = async ({ state, isSoftwareVulkan: isSoftware }: Machine): Promise<boolean> =>
  !isSoftware && (await state("webgpu")).works;

/** @throws ConfigError where it does not work here */
async function mustWork(at: string, device: Provider, machine: Machine): Promise<void> {
  if (device === "cpu" || device === "tensorflow") return;
  const { works, reason, fix } = await machine.state(device);
  if (works) return;
  throw new ConfigError({
    at,
    got: device,
    need: `one that works here (cpu; ${device}: ${reason})`,
    fix: `${fix} \`retort devices\` tells more.`,
  });
}

/** What said the device: of a command an option, of a run's own evaluation its key. */
const ASKED = "--device (policy.device of a run)";

/**
 * What computes whole sequences. `auto` is webgpu or cuda where a session really opens there, else cpu.
 * @throws ConfigError when the device asked for does not work here
 */
export async function chooseProvider(device: DeviceChoice, machine = thisMachine()): Promise<Provider> {
  if (device !== "auto") {
    await mustWork(ASKED, device, machine);
    return device;
  }
  if (!machine.hasGpu) return "cpu";
  if (await hasRealWebgpu(machine)) return "webgpu";
  return (await machine.state("cuda")).works ? "cuda" : "cpu";
}

/**
 * What samples where nothing is learned. For cuda it is webgpu, on the same card: onnxruntime-node keeps outputs on the
 * device for webgpu alone, and on cuda the key/value cache would cross with every token.
 * @throws ConfigError when the device asked for does not work here, or is cuda and webgpu does not
 */
export async function chooseSampler(
  device: DeviceChoice,
  machine = thisMachine(),
): Promise<SamplingProvider> {
  if (device === "auto") return machine.hasGpu && (await hasRealWebgpu(machine)) ? "webgpu" : "cpu";
  await mustWork(ASKED, device, machine);
  if (device !== "cuda") return device;
  if (await hasRealWebgpu(machine)) return "webgpu";
  throw cannotSample(await noWebgpu(machine), "Choose webgpu once it works (`retort devices`), or cpu.");
}

const cannotSample = (need: string, fix: string): ConfigError =>
  new ConfigError({ at: "policy.device", got: "cuda", need, fix });

/** Why webgpu does not sample for cuda here. */
async function noWebgpu({ state, isSoftwareVulkan: isSoftware }: Machine): Promise<string> {
  const { reason } = await state("webgpu");
  const why = isSoftware ? "it runs on the CPU here" : reason;
  return `webgpu beside it: cuda cannot keep the key/value cache on the card, so webgpu samples on it (webgpu: ${why})`;
}

/** What a run computes on. */
export interface RunDevices {
  readonly learner: Provider;
  /** null: a server samples. */
  readonly sampler: SamplingProvider | null;
  /** What to tell of the choice. */
  readonly note: string | null;
}

/** The sections that say what a run computes on. */
export interface DeviceSections {
  readonly policy: Pick<PolicyConfig, "device">;
  readonly rollout: Pick<RolloutConfig, "device" | "engine">;
}

/** What is to sample for a learner, whether or not it is here; null: a server. */
export function samplerFor(learner: Provider, { device, engine }: DeviceSections["rollout"]) {
  if (engine.type !== "onnx") return null;
  if (device !== "auto") return device;
  return learner === "cuda" ? "webgpu" : learner;
}

/** The run's learner: for `auto`, cuda only where something is named that samples for it. */
export async function chooseLearner(
  { policy, rollout }: DeviceSections,
  machine = thisMachine(),
): Promise<Pick<RunDevices, "learner" | "note">> {
  const { device } = policy;
  if (device !== "auto") return { learner: device, note: null };
  const learner = await chooseProvider("auto", machine);
  if (learner !== "cuda" || samplerFor("cuda", rollout) !== "webgpu") return { learner, note: null };
  const note =
    "cuda works here, but nothing samples for it: the run computes on the cpu. webgpu on the same card, rollout.device: cpu " +
    "or a server (rollout.engine: openai) would (docs/devices.md)";
  return { learner: "cpu", note };
}

/**
 * What learns and what samples in a run.
 * @throws ConfigError where a device that is asked for does not work here, or nothing samples for cuda
 */
export async function chooseRunDevices(
  sections: DeviceSections,
  machine = thisMachine(),
): Promise<RunDevices> {
  const { learner, note } = await chooseLearner(sections, machine);
  if (sections.policy.device !== "auto") await mustWork("policy.device", learner, machine);
  const sampler = samplerFor(learner, sections.rollout);
  if (sections.rollout.device !== "auto" && sampler !== null && sampler !== learner)
    await mustWork("rollout.device", sampler, machine);
  else if (learner === "cuda" && sampler === "webgpu" && !(await hasRealWebgpu(machine)))
    throw cannotSample(
      await noWebgpu(machine),
      "Set rollout.device: cpu to sample there, or rollout.engine: {type: openai, ...} for a server that samples (docs/engines.md).",
    );
  const split =
    sampler === null || sampler === learner ? null : `learns on ${learner}, samples on ${sampler}`;
  return { learner, sampler, note: note ?? split };
}

/**
 * Whether the policy's matrices are held in float16.
 * @param providers - all that compute it
 * @throws ConfigError where one of them has no half precision, or where the matrices are learned
 */
export async function usesHalfPrecision(
  { precision, lora }: Pick<PolicyConfig, "precision" | "lora">,
  providers: Iterable<Provider>,
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
  for (const provider of providers)
    if (!(await hasHalfPrecision(provider)))
      refuse(`float32: ${provider} here does not compute in float16`, "`retort devices` lists what does.");
  return true;
}
