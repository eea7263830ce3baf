import type { PolicyConfig } from "../policy/run-config.js";
import type { RolloutConfig } from "../rollout/config.js";

/**
 * What the engine and the policy must agree on.
 * @param complain - told the key and what is wrong with it
 */
export function checkEngine(
  { rollout: { engine }, policy }: { readonly rollout: RolloutConfig; readonly policy: PolicyConfig },
  complain: (path: string[], message: string) => void,
): void {
  if (engine.type === "onnx") return;
  const at = ["rollout", "engine", "weights", "push"];
  if (engine.weights.push === "vllm_lora" && policy.lora === null)
    complain(at, "vllm_lora hands over adapters: set policy.lora, or use sglang_disk for whole weights");
  if (engine.weights.push === "sglang_disk" && policy.lora !== null)
    complain(at, "sglang_disk hands over whole weights: with policy.lora use vllm_lora");
}
