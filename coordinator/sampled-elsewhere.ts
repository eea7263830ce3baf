/** A policy that learns here and is sampled from on a server: engine `openai`. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { DecoderConfig, PolicyTokenizer } from "../policy/index.js";
import { createRemoteSampler, type RemoteSampler } from "../rollout/index.js";
import type { RunConfig } from "./config.js";
import type { PolicyHost } from "./policy-host.js";
import { ServedWeights } from "./served-weights.js";

export interface ElsewhereOptions {
  readonly policy: {
    readonly config: DecoderConfig;
    readonly folder: string;
    readonly tokenizer: PolicyTokenizer;
  };
  /** The run's directory. */
  readonly folder: string;
  readonly note: (line: string) => void;
}

/**
 * The same host with its `sample` on the server of `rollout.engine`; with engine `onnx`, the host itself.
 * @throws ConfigError where the server does not answer or gives no token ids
 */
export async function sampledElsewhere(
  local: PolicyHost,
  { rollout: { engine }, run }: RunConfig,
  { policy, folder, note }: ElsewhereOptions,
): Promise<PolicyHost> {
  if (engine.type === "onnx") return local;
  const remote = createRemoteSampler(engine, process.env[engine.api_key_env]?.trim() || null, note);
  try {
    await remote.check(policy.tokenizer.promptIds([{ role: "user", content: "1" }]));
    const own = join(folder, "served");
    rmSync(own, { recursive: true, force: true }); // what a run that was killed left: its checkpoints have it too
    const served = new ServedWeights({
      name: run.name,
      config: policy.config,
      from: policy.folder,
      folder: engine.weights.dir ?? own,
    });
    return new SampledElsewhere(local, remote, engine.weights.push === "none" ? null : served);
  } catch (error) {
    remote.close();
    throw error;
  }
}

class SampledElsewhere implements PolicyHost {
  readonly #local: PolicyHost;
  readonly #remote: RemoteSampler;
  /** null: the server's weights never change. */
  readonly #served: ServedWeights | null;
  #updates = 0;
  #isServed = false;

  constructor(local: PolicyHost, remote: RemoteSampler, served: ServedWeights | null) {
    this.#local = local;
    this.#remote = remote;
    this.#served = served;
  }

  /** Strictly on-policy: it returns when the last completion is here, and weights are handed over before the first. */
  sample: PolicyHost["sample"] = async (_, groups, options, onFinished) => {
    if (!this.#isServed) {
      if (this.#served !== null) {
        const weights = await this.#local.exportWeights();
        this.#remote.setWeights(await this.#served.write(weights, this.#updates));
      }
      this.#isServed = true;
    }
    return this.#remote.sample(groups, options, onFinished);
  };

  update: PolicyHost["update"] = async (request) => {
    const metrics = await this.#local.update(request);
    this.#updates++;
    this.#isServed = false;
    return metrics;
  };

  importState: PolicyHost["importState"] = async (state) => {
    await this.#local.importState(state);
    this.#updates = state.step;
    this.#isServed = false;
  };

  exportState: PolicyHost["exportState"] = () => this.#local.exportState();
  exportWeights: PolicyHost["exportWeights"] = () => this.#local.exportWeights();
  memory: PolicyHost["memory"] = () => this.#local.memory();

  close: PolicyHost["close"] = async () => {
    this.#remote.close();
    this.#served?.remove();
    await this.#local.close();
  };
}
