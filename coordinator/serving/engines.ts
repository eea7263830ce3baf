/** A sampling thread for each model that is served. */
import { InfrastructureError } from "../../core/index.js";
import { NonFinitePolicyError } from "../../policy/index.js";
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
  /** What it samples from. */
  inUse: StoredWeights;
  /** Why its last request failed; null since one has worked. */
  failure: Error | null;
}

export class Engines {
  readonly #open: (weights: StoredWeights) => Promise<SamplingHost>;
  readonly #shape: RunnerShape;
  readonly #engines = new Map<string, Engine>();
  /** Of models that were closed: the next one need not compile its graphs anew. */
  readonly #spare = new Set<Engine>();

  /** @param open - starts a thread with the policy's graphs */
  constructor(open: (weights: StoredWeights) => Promise<SamplingHost>, shape: RunnerShape) {
    this.#open = open;
    this.#shape = shape;
  }

  /** null while all work. */
  get failure(): Error | null {
    return [...this.#engines.values()].find(({ failure }) => failure !== null)?.failure ?? null;
  }

  /**
   * Weights of a model from now on, with which two tokens have been drawn. Nothing is under way for it. Those that fail leave
   * it with the ones before, as long as their files are there.
   * @throws ConfigError for files that do not hold them; NonFinitePolicyError for weights that are broken
   */
  async use(model: string, stored: StoredWeights): Promise<void> {
    const current = this.#engines.get(model);
    const fitting = [...(current === undefined ? [] : [current]), ...this.#spare].find((engine) =>
      canTake(engine, stored),
    );
    if (fitting !== undefined) {
      await this.#exchange(fitting, stored);
      this.#spare.delete(fitting);
      if (fitting !== current) this.release(model);
      this.#engines.set(model, fitting);
      return;
    }
    const engine: Engine = { host: await this.#open(stored), stored, inUse: stored, failure: null };
    try {
      await this.#tryOut(engine);
    } catch (error) {
      await engine.host.close();
      throw error;
    }
    this.#engines.set(model, engine);
    await current?.host.close();
    // Those that stand on weights which nothing is served from any more would hold them for ever.
    for (const engine of [...this.#spare].filter((each) => each.stored.base !== stored.base)) {
      this.#spare.delete(engine);
      await engine.host.close();
    }
  }

  async #exchange(engine: Engine, stored: StoredWeights): Promise<void> {
    await engine.host.setWeights(stored);
    try {
      await this.#tryOut(engine);
      engine.inUse = stored;
    } catch (error) {
      const back = engine.host.setWeights(engine.inUse).then(() => this.#tryOut(engine));
      await back.catch(() => {}); // health has it
      throw error;
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
    return this.#start(engine, request, handlers);
  }

  #start(engine: Engine, request: CompletionRequest, handlers: CompletionHandlers): StartedRequest {
    try {
      return engine.host.start(this.#shape, request, {
        ...handlers,
        onFinished: (completion) => {
          handlers.onFinished(completion);
          engine.failure = null;
        },
        onError: (error) => {
          engine.failure = error;
          handlers.onError(error);
        },
      });
    } catch (error) {
      engine.failure = error as Error; // its thread has ended
      throw error;
    }
  }

  async close(): Promise<void> {
    const all = [...this.#engines.values(), ...this.#spare];
    this.#engines.clear();
    this.#spare.clear();
    await Promise.all(all.map(({ host }) => host.close()));
  }

  /** Compiles the graphs and maps the files: whoever wrote them may take them away as soon as they are taken over. */
  #tryOut(engine: Engine): Promise<void> {
    const sampling = { seed: 0, randomKey: "", temperature: 0, topP: 1, topK: 0, stopIds: [] };
    const request = { ...sampling, promptIds: [0], samples: [0], maxNewTokens: 2 };
    return new Promise((resolve, reject) => {
      this.#start(engine, request, { onFinished: () => resolve(), onError: reject });
    });
  }
}

/**
 * Whether graphs compiled for some weights compute with others: what is mapped is part of them, and so is an adapter's shape.
 * A thread in which anything but the weights is broken takes none.
 */
function canTake({ stored: compiled, failure }: Engine, { base, source }: StoredWeights): boolean {
  if (failure !== null && !(failure instanceof NonFinitePolicyError)) return false;
  if (base === null) return compiled.base === null;
  const { adapter } = compiled.source;
  return (
    compiled.base === base &&
    adapter !== null &&
    JSON.stringify(adapter.lora) === JSON.stringify(source.adapter?.lora)
  );
}
