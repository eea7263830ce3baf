/** What is served under which name: the policy, and adapters on it that are loaded while it runs. */
import { ConfigError } from "../../core/index.js";
import {
  type DecoderConfig,
  NonFinitePolicyError,
  nonFinitePolicy,
  openWeights,
  readAdapterConfig,
  type WeightSource,
} from "../../policy/index.js";
import { RequestError } from "../../verifiers/service/request-error.js";
import type { StoredWeights } from "../stored-weights.js";
import type { Engines } from "./engines.js";
import { Gate } from "./gate.js";

export interface ServedModel {
  readonly name: string;
  readonly folder: string;
  /** Name of the policy that an adapter belongs to; null for the policy itself. */
  readonly parent: string | null;
  /** Says which weights wrote a completion. */
  readonly version: string;
}

/** Weights as the sampler takes them, until they are released: whoever wrote their files may remove them before. */
export type Store = (
  source: WeightSource,
) => Promise<{ readonly stored: StoredWeights; readonly release: () => void }>;

interface Entry {
  model: ServedModel;
  readonly gate: Gate;
}

export class Models {
  readonly #engines: Engines;
  readonly #base: string;
  #policy: StoredWeights;
  /** Of the files that the policy's weights are mapped from. */
  #release: () => void = () => {};
  readonly #entries = new Map<string, Entry>();
  readonly #maxAdapters: number;
  readonly #store: Store;
  /** Changes take turns: an adapter would else be put on weights that are just being replaced. */
  #lastChange: Promise<unknown> = Promise.resolve();

  constructor(
    engines: Engines,
    policy: StoredWeights,
    options: {
      readonly name: string;
      readonly folder: string;
      readonly maxAdapters: number;
      /** How the weights of a folder get to the sampler. */
      readonly store: Store;
    },
  ) {
    const { name, folder, maxAdapters } = options;
    this.#engines = engines;
    this.#policy = policy;
    this.#base = name;
    this.#maxAdapters = maxAdapters;
    this.#store = options.store;
    const model = { name, folder, parent: null, version: "initial" };
    this.#entries.set(name, { model, gate: new Gate() });
  }

  /** Starts the policy's own engine. @throws ConfigError for weights that are not finite */
  open(): Promise<void> {
    return this.#use(this.#base, this.#policy, this.#entry(this.#base).model.folder);
  }

  /** No engine is open any more. */
  close(): void {
    this.#release();
  }

  get all(): readonly ServedModel[] {
    return [...this.#entries.values()].map(({ model }) => model);
  }

  /** A model, whose weights do not change until the request is over. @throws RequestError 404 */
  async enter(name: string | undefined): Promise<{ readonly model: ServedModel; leave(): void }> {
    const entry = this.#entry(name ?? this.#base);
    const leave = await entry.gate.enter();
    if (this.#entries.get(entry.model.name) === entry) return { model: entry.model, leave };
    leave(); // unloaded while it waited
    throw noModel(entry.model.name);
  }

  /**
   * New weights of the same shape for the policy.
   * @param abort - called once no further request is let in before the change
   * @returns how many requests had to end first
   * @throws ConfigError for a folder that does not hold such weights; RequestError 400 while adapters are loaded
   */
  updateWeights(path: string, version: string, abort: () => void): Promise<number> {
    return this.#inTurn(() => this.#updateWeights(path, version, abort));
  }

  async #updateWeights(path: string, version: string, abort: () => void): Promise<number> {
    const entry = this.#entry(this.#base);
    if (this.#entries.size > 1)
      throw new RequestError(
        400,
        "body",
        "Unload the adapters first: they were loaded onto the old weights.",
      );
    const paused = entry.gate.inside;
    const source = openWeights(path);
    checkShape(source.config, this.#policy.source.config, path);
    const { stored, release } = await this.#store(source);
    const changed = entry.gate.alone(async () => {
      await this.#use(this.#base, stored, path);
      this.#policy = stored;
      entry.model = { ...entry.model, folder: path, version };
      this.#release(); // the thread that mapped those before has ended
      this.#release = release;
    });
    abort();
    try {
      await changed;
    } catch (error) {
      release();
      throw error;
    }
    return paused;
  }

  /** @throws ConfigError for a folder that is no adapter of the policy; RequestError 400 */
  loadAdapter(name: string, path: string, inPlace: boolean): Promise<void> {
    return this.#inTurn(() => this.#loadAdapter(name, path, inPlace));
  }

  async #loadAdapter(name: string, path: string, inPlace: boolean): Promise<void> {
    const known = this.#entries.get(name);
    if (known?.model.parent === null)
      throw new RequestError(400, "body", `'${name}' is what the policy itself is called.`);
    if (known !== undefined && !inPlace) {
      const fix = "load_inplace: true replaces it.";
      throw new RequestError(400, "body", `The lora adapter '${name}' has already been loaded. ${fix}`);
    }
    if (known === undefined && this.#entries.size > this.#maxAdapters)
      throw new RequestError(
        400,
        "limits",
        `${this.#maxAdapters} adapters are loaded: unload one, or serve with more --max-adapters.`,
      );
    const model: ServedModel = { name, folder: path, parent: this.#base, version: name };
    const stored = this.#adapted(path);
    const load = (): Promise<void> => this.#use(name, stored, path);
    if (known !== undefined)
      return known.gate.alone(async () => {
        await load();
        known.model = model;
      });
    const entry = { model, gate: new Gate() };
    await entry.gate.alone(async () => {
      this.#entries.set(name, entry);
      try {
        await load();
      } catch (error) {
        this.#entries.delete(name);
        throw error;
      }
    });
  }

  /** Requests that are under way end first. @throws RequestError 404, 400 for the policy itself */
  async unloadAdapter(name: string): Promise<void> {
    const entry = this.#entries.get(name);
    if (entry === undefined)
      throw new RequestError(404, "model", `The lora adapter '${name}' cannot be found.`);
    if (entry.model.parent === null)
      throw new RequestError(400, "model", `${name} is the policy itself, not an adapter.`);
    this.#entries.delete(name);
    await entry.gate.alone(async () => this.#engines.release(name));
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#lastChange.then(change);
    this.#lastChange = result.catch(() => {});
    return result;
  }

  /** The policy with an adapter on it. @throws ConfigError for a folder that is none; RequestError where it has one already */
  #adapted(path: string): StoredWeights {
    const { source } = this.#policy;
    if (source.adapter !== null)
      throw new RequestError(
        400,
        "model",
        "What is served is itself an adapter: serve its base to load others.",
      );
    return {
      ...this.#policy,
      source: { ...source, adapter: { folder: path, lora: readAdapterConfig(path).lora } },
    };
  }

  /** @throws ConfigError for files that do not hold such weights, or whose weights are not finite */
  async #use(model: string, stored: StoredWeights, path: string): Promise<void> {
    try {
      await this.#engines.use(model, stored);
    } catch (error) {
      throw error instanceof NonFinitePolicyError ? nonFinitePolicy(path) : error;
    }
  }

  #entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw noModel(name);
    return entry;
  }
}

const noModel = (name: string): RequestError =>
  new RequestError(404, "model", `The model \`${name.slice(0, 200)}\` does not exist.`);

/** @throws ConfigError for weights that the compiled graphs are not made for */
function checkShape(config: DecoderConfig, served: DecoderConfig, path: string): void {
  const shapeOf = ({ stopIds: _, ...shape }: DecoderConfig): string => JSON.stringify(shape);
  if (shapeOf(config) === shapeOf(served)) return;
  throw new ConfigError({ at: path, need: "weights of the very shape that is served" });
}
