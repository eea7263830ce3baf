import { z } from "zod";
import { LoraConfig } from "./lora-config.js";

export const DEVICES = ["auto", "cpu", "webgpu", "cuda", "tensorflow"] as const;

/** Which policy is trained and where it computes: the `policy` section of a run. */
export const PolicyConfig = z.strictObject({
  path: z
    .string()
    .meta({ format: "path" })
    .describe(
      "Folder in Hugging Face layout: config.json, tokenizer.json, model.safetensors. Relative to this file.",
    ),
  from_scratch: z
    .boolean()
    .default(false)
    .describe(
      "Make the warm start anew instead of loading `path`; only for task families that can (minutes).",
    ),
  lora: LoraConfig.nullable()
    .default(null)
    .describe(
      "Learn low-rank adapters and leave the policy's own weights as they are; null: learn all weights.",
    ),
  device: z
    .enum(DEVICES)
    .default("auto")
    .describe(
      "What computes; auto is the GPU where one is found. cuda learns, and webgpu samples for it (rollout.device). tensorflow runs eagerly on @tensorflow/tfjs-node-gpu.",
    ),
  precision: z
    .enum(["float32", "float16"])
    .default("float32")
    .describe(
      "Type in which a GPU holds the policy's matrices under an adapter, and multiplies by them; all else is float32. float16 needs policy.lora.",
    ),
  threads: z
    .int()
    .positive()
    .optional()
    .describe("CPU threads of one graph; default: every core. Equal bits need an equal number."),
  system_prompt: z
    .string()
    .nullable()
    .default(null)
    .describe("Put before each task's prompt; null leaves it out."),
  program_in: z
    .enum(["fenced", "whole"])
    .default("fenced")
    .describe("Where the program stands in a completion: its last fenced block, or the whole of it."),
});
export type PolicyConfig = z.infer<typeof PolicyConfig>;
export type DeviceChoice = (typeof DEVICES)[number];
