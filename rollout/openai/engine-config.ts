import { z } from "zod";

const OnnxEngine = z.strictObject({
  type: z.literal("onnx").describe("Our own sampler, in the policy's thread."),
});

/** How a server takes new weights. */
const WeightPush = z.strictObject({
  push: z
    .enum(["sglang_disk", "vllm_lora", "none"])
    .describe(
      "After each update: sglang_disk: whole weights by /update_weights_from_disk (SGLang, retort serve); vllm_lora: the adapter by /v1/load_lora_adapter (vLLM, retort serve); none: the server's weights never change.",
    ),
  dir: z
    .string()
    .meta({ format: "path" })
    .optional()
    .describe("Folder that the server reads too, for the weights; default: served/ in the run directory."),
});

const OpenaiEngine = z.strictObject({
  type: z.literal("openai").describe("A server that speaks OpenAI's protocol and gives token ids."),
  base_url: z
    .url({ protocol: /^https?$/, error: "need an address as http://localhost:8000/v1" })
    .describe("As http://localhost:8000/v1."),
  model: z.string().min(1).describe("The policy's name, as the server spells it."),
  api: z
    .enum(["completions", "generate"])
    .default("completions")
    .describe(
      "completions: /v1/completions with return_token_ids (vLLM, retort serve, newer SGLang); generate: SGLang's own /generate.",
    ),
  api_key_env: z
    .string()
    .default("RETORT_API_KEY")
    .describe("Environment variable that holds the server's key; none is sent where it is not set."),
  concurrency: z.int().positive().default(64).describe("Requests at once; each asks for one completion."),
  timeout_s: z.number().positive().default(600).describe("Longest wait for one completion."),
  patience_s: z
    .number()
    .nonnegative()
    .default(600)
    .describe("How long requests are tried again while the server is away, before the run stops."),
  weights: WeightPush.describe("How the server gets the weights of each update."),
});
export type OpenaiEngine = z.infer<typeof OpenaiEngine>;

/** `rollout.engine` of a run. */
export const EngineConfig = z.discriminatedUnion("type", [OnnxEngine, OpenaiEngine]);
export type EngineConfig = z.infer<typeof EngineConfig>;
