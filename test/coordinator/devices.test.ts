import { expect, test } from "vitest";
import {
  chooseProvider,
  chooseRunDevices,
  chooseSampler,
  type DeviceSections,
  type Machine,
  usesHalfPrecision,
} from "../../coordinator/devices.js";
import { LoraConfig } from "../../policy/index.js";
import type { DeviceChoice } from "../../policy/run-config.js";
import type { Provider } from "../../tensor/index.js";

const lora = LoraConfig.parse({});

/** A machine on which just these work beside the cpu, and what was tried out on it. */
function machineWith(here: readonly Provider[], change: Partial<Machine> = {}) {
  const tried: Provider[] = [];
  const machine: Machine = {
    hasGpu: here.length > 0,
    isSoftwareVulkan: false,
    state: async (provider) => {
      tried.push(provider);
      const works = here.includes(provider);
      const told = works ? null : `no ${provider} here`;
      return { provider, works, device: works ? "a card" : null, reason: told, fix: told && "Get one." };
    },
    ...change,
  };
  return { machine, tried };
}

const server: DeviceSections["rollout"]["engine"] = {
  type: "openai",
  base_url: "http://127.0.0.1:1/v1",
  model: "m",
  api: "completions",
  api_key_env: "RETORT_API_KEY",
  concurrency: 1,
  timeout_s: 1,
  patience_s: 1,
  weights: { push: "none" },
};

/** [policy.device, rollout.device, who samples] */
type Asked = readonly [DeviceChoice, DeviceSections["rollout"]["device"], "onnx" | "openai"];

const sections = ([device, sampler, engine]: Asked): DeviceSections => ({
  policy: { device },
  rollout: { device: sampler, engine: engine === "onnx" ? { type: "onnx" } : server },
});
const software = { isSoftwareVulkan: true };

test.each<{
  name: string;
  asked: Asked;
  here: readonly Provider[];
  change?: Partial<Machine>;
  want: unknown;
}>([
  {
    name: "cuda learns and webgpu samples on the same card",
    asked: ["cuda", "auto", "onnx"],
    here: ["cuda", "webgpu"],
    want: { learner: "cuda", sampler: "webgpu", note: "learns on cuda, samples on webgpu" },
  },
  {
    name: "cuda learns and a server samples, where one is named, webgpu or not",
    asked: ["cuda", "auto", "openai"],
    here: ["cuda"],
    want: { learner: "cuda", sampler: null, note: null },
  },
  {
    name: "cuda learns and the cpu samples, where that is asked for",
    asked: ["cuda", "cpu", "onnx"],
    here: ["cuda"],
    want: { learner: "cuda", sampler: "cpu", note: "learns on cuda, samples on cpu" },
  },
  {
    name: "one learns and another samples, either way",
    asked: ["cpu", "webgpu", "onnx"],
    here: ["webgpu"],
    want: { learner: "cpu", sampler: "webgpu", note: "learns on cpu, samples on webgpu" },
  },
  {
    name: "a software GPU computes where it is asked for by name",
    asked: ["cuda", "webgpu", "onnx"],
    here: ["cuda", "webgpu"],
    change: software,
    want: { learner: "cuda", sampler: "webgpu", note: "learns on cuda, samples on webgpu" },
  },
  {
    name: "auto is webgpu before cuda, and samples where it learns",
    asked: ["auto", "auto", "onnx"],
    here: ["cuda", "webgpu"],
    want: { learner: "webgpu", sampler: "webgpu", note: null },
  },
  {
    name: "auto is cuda where webgpu is not and a server samples",
    asked: ["auto", "auto", "openai"],
    here: ["cuda"],
    want: { learner: "cuda", sampler: null, note: null },
  },
  {
    name: "auto is the cpu, and says why, where nothing would sample for cuda",
    asked: ["auto", "auto", "onnx"],
    here: ["cuda"],
    want: {
      learner: "cpu",
      sampler: "cpu",
      note: expect.stringMatching(/^cuda works here, but nothing samples for it.*rollout\.device: cpu/),
    },
  },
  {
    name: "auto never takes a GPU that is software",
    asked: ["auto", "auto", "onnx"],
    here: ["webgpu"],
    change: software,
    want: { learner: "cpu", sampler: "cpu", note: null },
  },
])("a run: $name", async ({ asked, here, change, want }) => {
  expect(await chooseRunDevices(sections(asked), machineWith(here, change).machine)).toEqual(want);
});

test.each<{ name: string; asked: Asked; here: readonly Provider[]; change?: Partial<Machine>; says: RegExp }>(
  [
    {
      name: "cuda without webgpu beside it, with what else would sample",
      asked: ["cuda", "auto", "onnx"],
      here: ["cuda"],
      says: /^policy\.device: need webgpu beside it: cuda cannot keep the key\/value cache .*\(webgpu: no webgpu here\), got "cuda"\. .*rollout\.device: cpu .*rollout\.engine: {type: openai/,
    },
    {
      name: "cuda beside a webgpu that computes on the CPU",
      asked: ["cuda", "auto", "onnx"],
      here: ["cuda", "webgpu"],
      change: software,
      says: /need webgpu beside it.*\(webgpu: it runs on the CPU here\)/,
    },
    {
      name: "cuda that is not there",
      asked: ["cuda", "auto", "onnx"],
      here: ["webgpu"],
      says: /^policy\.device: need one that works here \(cpu; cuda: no cuda here\), got "cuda"\. Get one\./,
    },
    {
      name: "a sampler that is not there, by its own key",
      asked: ["cpu", "webgpu", "onnx"],
      here: [],
      says: /^rollout\.device: need one that works here \(cpu; webgpu: no webgpu here\)/,
    },
  ],
)("a run is refused: $name", async ({ asked, here, change, says }) => {
  await expect(chooseRunDevices(sections(asked), machineWith(here, change).machine)).rejects.toThrow(says);
});

test("what only samples asks webgpu to do it for cuda, and is refused where that is not there", async () => {
  const both = machineWith(["cuda", "webgpu"]).machine;
  expect([await chooseSampler("cuda", both), await chooseSampler("auto", both)]).toEqual([
    "webgpu",
    "webgpu",
  ]);
  const cudaAlone = machineWith(["cuda"]).machine;
  await expect(chooseSampler("cuda", cudaAlone)).rejects.toThrow(
    /need webgpu beside it.*Choose webgpu once it works .*or cpu/,
  );
  expect(await chooseSampler("auto", cudaAlone)).toBe("cpu");
});

test("what scores whole sequences takes cuda as it is, and auto webgpu first", async () => {
  const both = machineWith(["cuda", "webgpu"]).machine;
  expect([await chooseProvider("cuda", both), await chooseProvider("auto", both)]).toEqual([
    "cuda",
    "webgpu",
  ]);
  expect(await chooseProvider("auto", machineWith(["cuda"]).machine)).toBe("cuda");
});

test("where no GPU is, auto tries out nothing: a driver that finds none complains on stderr", async () => {
  const { machine, tried } = machineWith([]);
  await chooseProvider("auto", machine);
  await chooseSampler("auto", machine);
  await chooseRunDevices(sections(["auto", "auto", "onnx"]), machine);
  expect(tried).toEqual([]);
});

test("policy.precision float16 is refused where a device has none, and where all weights are learned", async () => {
  await expect(usesHalfPrecision({ precision: "float16", lora }, ["cpu"])).rejects.toThrow(
    "policy.precision: need float32: cpu here does not compute in float16",
  );
  await expect(usesHalfPrecision({ precision: "float16", lora: null }, ["webgpu"])).rejects.toThrow(
    /need float32 where all weights are learned.*Set policy\.lora/,
  );
  expect(await usesHalfPrecision({ precision: "float32", lora }, ["webgpu"])).toBe(false);
});
