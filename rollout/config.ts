import { z } from "zod";
import { EngineConfig } from "./openai/engine-config.js";

/** How completions are sampled: the `rollout` section of a run. */
export const RolloutConfig = z.strictObject({
  prompts_per_step: z.int().positive().default(4).describe("Tasks drawn for each step."),
  samples_per_prompt: z
    .int()
    .positive()
    .default(4)
    .describe("Group size G: attempts at each drawn task. GRPO and sibling solutions need 2 or more."),
  temperature: z
    .number()
    .positive()
    .default(1)
    .describe("Sampling temperature; log-probabilities are recorded at it."),
  top_p: z
    .number()
    .gt(0)
    .max(1)
    .default(1)
    .describe("Smallest set of most likely tokens whose probability reaches this; 1 cuts nothing."),
  top_k: z.int().nonnegative().default(0).describe("Keep the k most likely tokens; 0 keeps all."),
  max_new_tokens: z.int().positive().default(512).describe("Longest completion, its stop token included."),
  max_prompt_tokens: z
    .int()
    .positive()
    .default(1024)
    .describe("Longest prompt; a task whose prompt is longer is refused before the run starts."),
  slots: z
    .int()
    .positive()
    .default(64)
    .describe("Sequences decoded at once; a finished one frees its slot for the next."),
  engine: EngineConfig.default({ type: "onnx" }).describe(
    "Who samples: our own engine, or a server (see docs/engines.md).",
  ),
  device: z
    .enum(["auto", "cpu", "webgpu"])
    .default("auto")
    .describe(
      "What samples, where that is not policy.device: weights are handed over after each update. auto is policy.device; for cuda it is webgpu, on the same card (docs/devices.md).",
    ),
  base_precision: z
    .enum(["float32", "int8"])
    .default("float32")
    .describe(
      "Type of the frozen base's matrices in decoding steps on cpu. int8 samples a large policy under policy.lora faster, from slightly other probabilities; rollout_kl shows how far (docs/sampling.md).",
    ),
  staleness: z
    .literal(0)
    .default(0)
    .describe("Updates that the sampling weights may lag behind: 0 is strictly on-policy."),
});
export type RolloutConfig = z.infer<typeof RolloutConfig>;
