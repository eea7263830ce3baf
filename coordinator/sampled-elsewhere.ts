/** A policy that learns in one place and is sampled from in another: on another device here, or on a server. */
import { rmSync } from "node:fs";
import { join } from "node:path";
import type { DecoderConfig, HostWeights, PolicyTokenizer } from "../policy/index.js";
import { createRemoteSampler, type OpenaiEngine, type SamplingProvider } from "../rollout/index.js";
import type { RunConfig } from "./config.js";
import { openSamplingHost, type PolicyHost } from "./policy-host.js";
import type { OpenRequest, OpenSamplerRequest } from "./policy-worker.js";
import { ServedWeights } from "./served-weights.js";

/** Who samples in the learner's stead. */
interface Elsewhere extends Pick<PolicyHost, "sample" | "close"> {
  /** Takes what is learned, after so many updates; null: its weights never change. */
  readonly take: ((weights: HostWeights, updates: number) => Promise<void>) | null;
}

/** Our own sampler on another device. The first weights it samples from are those it takes. */
async function onDevice(request: OpenSamplerRequest): Promise<Elsewhere> {
  const host = await openSamplingHost(request);
  return { sample: host.sample, take: (weights) => host.setWeights(weights), close: host.close };
}

export interface SamplerOptions {
  readonly config: RunConfig;
  /** null: a server samples. */
  readonly sampler: SamplingProvider | null;
  /** As the learner was opened. */
  readonly opening: OpenRequest;
  readonly policy: {
    readonly config: DecoderConfig;
    readonly folder: string;
    readonly tokenizer: PolicyTokenizer;
  };
  /** The run's directory. */
  readonly folder: string;
  readonly note: (line: string) => void;
}

/** @throws ConfigError where it does not answer or gives no token ids */
async function onServer(engine: OpenaiEngine, options: SamplerOptions): Promise<Elsewhere> {
  const { config, policy, folder, note } = options;
  const remote = createRemoteSampler(engine, process.env[engine.api_key_env]?.trim() || null, note);
  try {
    await remote.check(policy.tokenizer.promptIds([{ role: "user", content: "1" }]));
    const own = join(folder, "served");
    rmSync(own, { recursive: true, force: true }); // what a run that was killed left: its checkpoints have it too
    const served = new ServedWeights({
      name: config.run.name,
      config: policy.config,
      from: policy.folder,
      folder: engine.weights.dir ?? own,
    });
    const take = async (weights: HostWeights, updates: number): Promise<void> =>
      remote.setWeights(await served.write(weights, updates));
    return {
      sample: (_, groups, sampling, onFinished) => remote.sample(groups, sampling, onFinished),
      take: engine.weights.push === "none" ? null : take,
      close: async () => {
        remote.close();
        served.remove();
      },
    };
  } catch (error) {
    remote.close();
    throw error;
  }
}

/**
 * The policy with its `sample` where the run samples: the host itself where that is its own device.
 * @throws ConfigError for a server that does not do; the host is closed then
 */
export async function withSampler(local: PolicyHost, options: SamplerOptions): Promise<PolicyHost> {
  const { config, sampler, opening } = options;
  const { engine } = config.rollout;
  if (engine.type === "onnx" && (sampler === null || sampler === opening.provider)) return local;
  try {
    if (engine.type !== "onnx") return new SampledElsewhere(local, await onServer(engine, options));
    // Of weights that are all learned it needs none before those that are handed over.
    const weights = config.policy.lora === null ? {} : opening.weights;
    const { config: decoder, threads, isHalf = false } = opening;
    const request = { config: decoder, weights, provider: sampler!, threads, isHalf };
    return new SampledElsewhere(local, await onDevice(request));
  } catch (error) {
    await local.close();
    throw error;
  }
}

/** The learner with its `sample` elsewhere. Strictly on-policy: weights are handed over before the first completion. */
class SampledElsewhere implements PolicyHost {
  readonly #local: PolicyHost;
  readonly #elsewhere: Elsewhere;
  #updates = 0;
  #isTaken = false;

  constructor(local: PolicyHost, elsewhere: Elsewhere) {
    this.#local = local;
    this.#elsewhere = elsewhere;
  }

  /** Returns when the last completion is here. */
  sample: PolicyHost["sample"] = async (...call) => {
    this.#local.enter("sample");
    const { take, sample } = this.#elsewhere;
    if (!this.#isTaken && take !== null) await take(await this.#local.exportWeights(), this.#updates);
    this.#isTaken = true;
    return sample(...call);
  };

  update: PolicyHost["update"] = async (request) => {
    const metrics = await this.#local.update(request);
    this.#updates++;
    this.#isTaken = false;
    return metrics;
  };

  importState: PolicyHost["importState"] = async (state) => {
    await this.#local.importState(state);
    this.#updates = state.step;
    this.#isTaken = false;
  };

  exportState: PolicyHost["exportState"] = () => this.#local.exportState();
  exportWeights: PolicyHost["exportWeights"] = () => this.#local.exportWeights();
  enter: PolicyHost["enter"] = (stage) => this.#local.enter(stage);
  memory: PolicyHost["memory"] = () => this.#local.memory();

  close: PolicyHost["close"] = async () => {
    await this.#elsewhere.close();
    await this.#local.close();
  };
}
