import { z } from "zod";

export const LORA_TARGETS = [
  "q_proj",
  "k_proj",
  "v_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "down_proj",
] as const;

/** `policy.lora` of a run. */
export const LoraConfig = z.strictObject({
  rank: z.int().positive().default(16).describe("Rank of each adapter."),
  alpha: z.number().positive().default(32).describe("The adapter counts alpha / rank times."),
  targets: z
    .array(z.enum(LORA_TARGETS))
    .min(1)
    .default([...LORA_TARGETS])
    .describe("The matrices of every layer that get one."),
});
export type LoraConfig = z.infer<typeof LoraConfig>;
