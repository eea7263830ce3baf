/** A sampling thread for each model that is served. */
import { InfrastructureError } from "../../core/index.js";
import { type HostWeights, loadWeights, readAdapter } from "../../policy/index.js";
import type {
  CompletionHandlers,
  CompletionRequest,
  RunnerShape,
  StartedRequest,
} from "../../rollout/index.js";
import type { SamplingHost } from "../policy-host.js";
import type { StoredWeights } from "../stored-weights.js";

interface Engine {
  readonly host: SamplingHost;
  /** What its graphs were compiled for. */
  readonly stored: StoredWeights;
}

export class Engines {
  readonly #open: (weights: StoredWeights) => Promise<SamplingHost>;
  readonly #shape: RunnerShape;
  readonly #engines = new Map<string, Engine>();
  /** Of models that were closed: the next one need not compile its graphs anew. */
  readonly #spare = new Set<Engine>();
  #failure: Error | null = null;

  /** @param open - starts a thread with the policy's graphs */
  constructor(open: (weights: StoredWeights) => Promise<SamplingHost>, shape: RunnerShape) {
    this.#open = open;
    this.#shape = shape;
  }

  /** null while all work. */
  get failure(): Error | null {
    return this.#failure;
  }

  /** Weights of a model from now on. Nothing is under way for it. @throws ConfigError for files that do not hold them */
  async use(model: string, stored: StoredWeights): Promise<void> {
    const current = this.#engines.get(model);
    const fitting = [...(current === undefined ? [] : [current]), ...this.#spare].find((engine) =>
      canTake(engine.stored, stored),
    );
    if (fitting !== undefined) {
      await fitting.host.setWeights(exchangeable(stored));
      this.#failure = null;
      this.#spare.delete(fitting);
      if (fitting !== current) this.release(model);
      this.#engines.set(model, fitting);
      return;
    }
    const host = await this.#open(stored);
    try {
      await this.#warmUp(host);
    } catch (error) {
      await host.close();
      throw error;
    }
    this.#failure = null;
    this.#engines.set(model, { host, stored });
    await current?.host.close();
    // Those that stand on weights which nothing is served from any more would hold them for ever.
    for (const engine of [...this.#spare].filter((each) => each.stored.base !== stored.base)) {
      this.#spare.delete(engine);
      await engine.host.close();
    }
  }

  /** Nothing is under way for the model any more. */
  release(model: string): void {
    const engine = this.#engines.get(model);
    if (engine !== undefined) this.#spare.add(engine);
    this.#engines.delete(model);
  }

  start(model: string, request: CompletionRequest, handlers: CompletionHandlers): StartedRequest {
    const engine = this.#engines.get(model);
    if (engine === undefined) throw new InfrastructureError(`${model} has no sampling thread`);
    return engine.host.start(this.#shape, request, {
      ...handlers,
      onError: (error) => {
        this.#failure = error;
        handlers.onError(error);
      },
    });
  }

  async close(): Promise<void> {
    const all = [...this.#engines.values(), ...this.#spare];
    this.#engines.clear();
    this.#spare.clear();
    await Promise.all(all.map(({ host }) => host.close()));
  }

  /** Compiles the graphs and maps the files: whoever wrote them may take them away as soon as they are taken over. */
  #warmUp(host: SamplingHost): Promise<void> {
    const sampling = { seed: 0, randomKey: "", temperature: 0, topP: 1, topK: 0, stopIds: [] };
    const request = { ...sampling, promptIds: [0], samples: [0], maxNewTokens: 2 };
    return new Promise((resolve, reject) => {
      host.start(this.#shape, request, { onFinished: () => resolve(), onError: reject });
    });
  }
}

/** Whether graphs compiled for some weights compute with others: what is mapped is part of them, and so is an adapter's shape. */
function canTake(compiled: StoredWeights, { base, source }: StoredWeights): boolean {
  if (base === null) return compiled.base === null;
  const { adapter } = compiled.source;
  return (
    compiled.base === base &&
    adapter !== null &&
    JSON.stringify(adapter.lora) === JSON.stringify(source.adapter?.lora)
  );
}

/** What is not mapped: all weights with the adapter added in, or the adapter alone. */
function exchangeable({ base, source }: StoredWeights): HostWeights {
  const { config, adapter } = source;
  if (base === null) return loadWeights(source);
  if (adapter === null) throw new Error("mapped weights are part of the graphs");
  return readAdapter(adapter.folder, { ...config, lora: adapter.lora });
}
