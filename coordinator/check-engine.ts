import type { PolicyConfig } from "../policy/run-config.js";
import type { RolloutConfig } from "../rollout/config.js";
import type { ObjectiveConfig } from "../trainer/index.js";

interface EngineSections {
  readonly rollout: RolloutConfig;
  readonly policy: PolicyConfig;
  readonly objective: ObjectiveConfig;
}

/** Where int8 has no use, or would spoil what is learned. */
function checkInt8(
  { rollout: { engine }, policy, objective }: EngineSections,
  complain: (path: string[], message: string) => void,
): void {
  const at = ["rollout", "base_precision"];
  if (engine.type !== "onnx")
    complain(at, "int8 is for our own engine; leave it out, or set rollout.engine: {type: onnx}");
  if (policy.lora === null)
    complain(
      at,
      "int8 needs a base that stays as it is: set policy.lora, or leave it out where all weights are learned",
    );
  if ("importance_clip" in objective && objective.importance_clip === null)
    complain(
      at,
      "int8 samples from other probabilities than those that are trained, which without importance weights biases what is learned: set objective.importance_clip (2 is usual), or leave it out",
    );
}

/** What a run file is read for. An evaluation hands over what lies on disk, an adapter merged into its base. */
export type Purpose = "training" | "evaluation";

/**
 * What the engine and the policy must agree on.
 * @param complain - told the key and what is wrong with it
 */
export function checkEngine(
  { rollout, policy, objective }: EngineSections,
  purpose: Purpose,
  complain: (path: string[], message: string) => void,
): void {
  const { engine } = rollout;
  if (rollout.base_precision === "int8") checkInt8({ rollout, policy, objective }, complain);
  if (engine.type === "onnx") return;
  if (rollout.device !== "auto")
    complain(["rollout", "device"], "a server samples: leave it out, or set rollout.engine: {type: onnx}");
  const at = ["rollout", "engine", "weights", "push"];
  if (engine.weights.push === "vllm_lora" && policy.lora === null)
    complain(at, "vllm_lora hands over adapters: set policy.lora, or use sglang_disk for whole weights");
  if (engine.weights.push === "sglang_disk" && policy.lora !== null && purpose === "training")
    complain(
      at,
      "sglang_disk hands over whole weights: with policy.lora use vllm_lora (retort eval takes either)",
    );
}
