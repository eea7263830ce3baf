/** A sampling thread for each model that is served. */
import { InfrastructureError } from "../../core/index.js";
import type { HostWeights } from "../../policy/index.js";
import type {
  CompletionHandlers,
  CompletionRequest,
  RunnerShape,
  StartedRequest,
} from "../../rollout/index.js";
import type { SamplingHost } from "../policy-host.js";

export class Engines {
  readonly #open: (weights: HostWeights) => Promise<SamplingHost>;
  readonly #shape: RunnerShape;
  readonly #hosts = new Map<string, SamplingHost>();
  /** Of models that were closed: the next one need not compile its graphs anew. */
  readonly #spare: SamplingHost[] = [];
  #failure: Error | null = null;

  /** @param open - starts a thread with the policy's graphs */
  constructor(open: (weights: HostWeights) => Promise<SamplingHost>, shape: RunnerShape) {
    this.#open = open;
    this.#shape = shape;
  }

  /** null while all work. */
  get failure(): Error | null {
    return this.#failure;
  }

  /** Weights of a model from now on; what has begun ends with those it began with. */
  async use(model: string, weights: HostWeights): Promise<void> {
    const host = this.#hosts.get(model) ?? this.#spare.pop();
    if (host === undefined) this.#hosts.set(model, await this.#open(weights));
    else {
      this.#hosts.set(model, host);
      await host.setWeights(weights);
    }
  }

  /** Nothing is under way for the model any more. */
  release(model: string): void {
    const host = this.#hosts.get(model);
    this.#hosts.delete(model);
    if (host !== undefined) this.#spare.push(host);
  }

  start(model: string, request: CompletionRequest, handlers: CompletionHandlers): StartedRequest {
    const host = this.#hosts.get(model);
    if (host === undefined) throw new InfrastructureError(`${model} has no sampling thread`);
    return host.start(this.#shape, request, {
      ...handlers,
      onError: (error) => {
        this.#failure = error;
        handlers.onError(error);
      },
    });
  }

  async close(): Promise<void> {
    const all = [...this.#hosts.values(), ...this.#spare];
    this.#hosts.clear();
    await Promise.all(all.map((host) => host.close()));
  }
}
