import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { writeSafetensors } from "../checkpoints/index.js";
import { type HostWeights, huggingFaceConfig, namedTensors } from "../policy/index.js";
import { writeGguf } from "./llama/gguf.js";
import { benchWeights, POLICIES } from "./policies.js";

/** Writes what is not there yet of a policy's files: config.json, model.safetensors; for llama.cpp the weights as GGUF. */
export async function writePolicyFiles(folder: string, policy: string, withGguf = false): Promise<void> {
  const config = POLICIES[policy]!;
  let weights: HostWeights | null = null;
  const fresh = (): HostWeights => {
    weights ??= benchWeights(config);
    return weights;
  };
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "model.safetensors");
  if (!existsSync(file)) {
    writeFileSync(join(folder, "config.json"), JSON.stringify(huggingFaceConfig(config)));
    await writeSafetensors(file, namedTensors(fresh(), config));
  }
  for (const type of withGguf ? (["F32", "F16"] as const) : []) {
    const gguf = join(folder, `model.${type}.gguf`);
    if (!existsSync(gguf)) writeGguf(gguf, config, fresh(), type);
  }
}
