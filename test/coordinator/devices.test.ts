import { expect, test } from "vitest";
import { samplingNote, usesHalfPrecision } from "../../coordinator/devices.js";
import { LoraConfig } from "../../policy/index.js";

const lora = LoraConfig.parse({});

test("policy.precision float16 is refused where the device has none, and where all weights are learned", async () => {
  await expect(usesHalfPrecision({ precision: "float16", lora }, "cpu")).rejects.toThrow(
    "policy.precision: need float32: cpu here does not compute in float16",
  );
  await expect(usesHalfPrecision({ precision: "float16", lora: null }, "webgpu")).rejects.toThrow(
    /need float32 where all weights are learned.*Set policy\.lora/,
  );
  expect(await usesHalfPrecision({ precision: "float32", lora }, "webgpu")).toBe(false);
});

test("a run is told that cuda's sampler moves its cache with every token, unless a server samples", () => {
  expect(samplingNote("cuda", "onnx")).toMatch(/key\/value cache .* every sampled token.*webgpu.*openai/);
  for (const [provider, engine] of [
    ["cuda", "openai"],
    ["webgpu", "onnx"],
    ["cpu", "onnx"],
  ] as const)
    expect(samplingNote(provider, engine)).toBeNull();
});
