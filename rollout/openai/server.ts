/** Engine `openai`: a server samples, and nothing of a completion is lost or taken from other weights than those asked for. */
import { setTimeout } from "node:timers/promises";
import PQueue from "p-queue";
import { z } from "zod";
import { ConfigError, InfrastructureError } from "../../core/index.js";
import type { GroupRequest, SampledSequence, SamplingOptions, SamplingStats } from "../completion.js";
import type { OpenaiEngine } from "./engine-config.js";
import { OtherWeightsError, ServerAwayError, ServerGoneError, ServerRefusedError } from "./failures.js";
import { type Http, openHttp } from "./post-json.js";
import {
  NoTokenIdsError,
  PROTOCOLS,
  type RemoteCompletion,
  UnusableAnswerError,
  type Wanted,
} from "./protocol.js";
import { createWeightPush, type Loaded, type WeightFolder, type WeightPush } from "./weight-push.js";

/** A pause between tries grows from the first to the last of these, seconds. */
const [FIRST_PAUSE_S, LONGEST_PAUSE_S] = [0.25, 15];
/** So many answers from other weights, right after the server took ours, and it is not going to use them. */
const PUSHES_IN_VAIN = 3;

export interface RemoteSampler {
  /**
   * Asks for one token.
   * @param signal - breaks it off
   * @throws ConfigError where nothing answers, the model is not there, or its answers lack token ids
   */
  check(promptIds: readonly number[], signal?: AbortSignal): Promise<void>;
  /** Weights of the completions that are asked for from now on; the server is told before the next one. */
  setWeights(weights: WeightFolder): void;
  /**
   * Draws every sample of every group; `onFinished` is called as each one ends. Strictly: no request is under way while
   * weights change, and an answer from other weights is drawn again.
   * @param signal - breaks off what is under way; the call then ends with its reason
   * @throws InfrastructureError when the server has been away for longer than patience_s; ConfigError for what it refuses
   */
  sample(
    groups: readonly GroupRequest[],
    options: SamplingOptions,
    onFinished: (sequence: SampledSequence) => void,
    signal?: AbortSignal,
  ): Promise<SamplingStats>;
  /** Takes the last adapter off the server, where it takes adapters; a server that is away has none. */
  withdraw(): Promise<void>;
  close(): void;
}

/**
 * @param key - the server's, null for none
 * @param note - told, in a sentence, when the server is away and when it is back
 */
export function createRemoteSampler(
  engine: OpenaiEngine,
  key: string | null,
  note: (line: string) => void,
): RemoteSampler {
  const base = engine.base_url.replace(/\/+$/, "");
  const options = { key, timeoutS: engine.timeout_s, connections: engine.concurrency };
  const api = openHttp(base, options);
  const root = openHttp(base.replace(/\/v1$/, ""), options);
  const push = createWeightPush(engine, { api, root });
  return new Remote(engine, { api, root, push }, note);
}

interface Parts {
  readonly api: Http;
  readonly root: Http;
  readonly push: WeightPush;
}

/** What a round of requests left. */
interface Left {
  readonly wanted: Wanted[];
  /** The first failure. */
  readonly reason: Error | null;
}

class Remote implements RemoteSampler {
  readonly #engine: OpenaiEngine;
  readonly #parts: Parts;
  readonly #note: (line: string) => void;
  #isOurs = false;
  #weights: WeightFolder | null = null;
  /** null: the server has yet to be told. */
  #loaded: Loaded | null = null;

  constructor(engine: OpenaiEngine, parts: Parts, note: (line: string) => void) {
    this.#engine = engine;
    this.#parts = parts;
    this.#note = note;
  }

  async check(promptIds: readonly number[], signal?: AbortSignal): Promise<void> {
    const { model } = this.#engine;
    const wanted = { group: 0, randomKey: "check", promptIds, sample: 0 };
    const options = { seed: 0, temperature: 1, topP: 1, topK: 0, maxNewTokens: 1, stopIds: [] };
    try {
      await this.#readModels(signal);
      await this.#draw({ model, version: null }, wanted, options, signal);
    } catch (error) {
      signal?.throwIfAborted();
      throw this.#mistake(error as Error);
    }
  }

  setWeights(weights: WeightFolder): void {
    this.#weights = weights;
    this.#loaded = null;
  }

  async sample(
    groups: readonly GroupRequest[],
    options: SamplingOptions,
    onFinished: (sequence: SampledSequence) => void,
    signal?: AbortSignal,
  ): Promise<SamplingStats> {
    const started = performance.now();
    let tokens = 0;
    let left = groups.flatMap(({ samples, ...request }) => samples.map((sample) => ({ ...request, sample })));
    const patience = new Patience(this.#engine, this.#note);
    while (left.length > 0) {
      const { wanted, reason } = await this.#round(left, options, signal, ({ group, sample }, completion) => {
        tokens += completion.ids.length;
        const { ids, logProbs, finishReason } = completion;
        onFinished({ group, sample, completionIds: ids, rolloutLogProbs: logProbs, finishReason });
      });
      signal?.throwIfAborted();
      const isProgress = wanted.length < left.length;
      left = wanted;
      if (reason !== null) await patience.after(reason, isProgress, signal);
    }
    patience.over();
    return { tokens, seconds: (performance.now() - started) / 1000, decodeSteps: 0 };
  }

  async withdraw(): Promise<void> {
    await this.#parts.push.unload?.();
  }

  close(): void {
    this.#parts.api.close();
    this.#parts.root.close();
  }

  /**
   * Asks for each completion once. What fails is left for the next round, which begins when none is under way any more:
   * between two rounds the server may be given weights.
   * @throws ConfigError, and what `onDrawn` throws
   */
  async #round(
    all: readonly Wanted[],
    options: SamplingOptions,
    signal: AbortSignal | undefined,
    onDrawn: (wanted: Wanted, completion: RemoteCompletion) => void,
  ): Promise<Left> {
    const wanted: Wanted[] = [];
    let reason: Error | null = null;
    /** Why the server may have other weights by now: nothing more is asked before it is given them again. */
    let doubt: Error | null = null;
    let fatal: Error | null = null;
    let loaded: Loaded;
    try {
      loaded = await this.#load(signal);
    } catch (error) {
      if (error instanceof ServerAwayError) return { wanted: [...all], reason: error };
      throw error;
    }
    const queue = new PQueue({ concurrency: this.#engine.concurrency });
    const drawOne = async (one: Wanted): Promise<void> => {
      if (doubt !== null || fatal !== null || signal?.aborted) return void wanted.push(one);
      let completion: RemoteCompletion;
      try {
        completion = await this.#draw(loaded, one, options, signal);
        // It may come from a server that began anew within this round and says nothing of its weights.
        if (doubt !== null && completion.weightVersion === null && loaded.version !== null) throw doubt;
      } catch (error) {
        wanted.push(one);
        if (error instanceof ServerGoneError || error instanceof OtherWeightsError) doubt ??= error;
        if (isTransient(error)) reason ??= error;
        else fatal ??= this.#mistake(error as Error);
        return;
      }
      try {
        onDrawn(one, completion);
      } catch (error) {
        fatal ??= error as Error;
      }
    };
    await Promise.all(all.map((one) => queue.add(() => drawOne(one))));
    if (fatal !== null) throw fatal;
    if (doubt !== null) this.#loaded = null;
    return { wanted, reason: doubt ?? reason };
  }

  /** Tells the server of the weights, unless it knows. */
  async #load(signal: AbortSignal | undefined): Promise<Loaded> {
    if (this.#loaded !== null) return this.#loaded;
    const { push } = this.#engine.weights;
    if (push === "none") return { model: this.#engine.model, version: null };
    if (this.#weights === null) throw new Error("setWeights before sample");
    this.#loaded = await this.#parts.push.load(this.#weights, signal);
    return this.#loaded;
  }

  /** @throws one of the failures, NoTokenIdsError */
  async #draw(
    loaded: Loaded,
    wanted: Wanted,
    options: SamplingOptions,
    signal?: AbortSignal,
  ): Promise<RemoteCompletion> {
    const protocol = PROTOCOLS[this.#engine.api];
    const http = this.#engine.api === "generate" ? this.#parts.root : this.#parts.api;
    const body = protocol.body(loaded.model, wanted, options, this.#isOurs);
    const { status, text } = await http.ask(protocol.path, body, signal).catch((cause: Error) => {
      throw new ServerGoneError(cause.message, { cause });
    });
    if (status !== 200) throw statusError(status, text, loaded.version !== null);
    const completion = protocol.read(text);
    const { weightVersion } = completion;
    if (loaded.version !== null && weightVersion !== null && weightVersion !== loaded.version)
      throw new OtherWeightsError(`its weights are ${weightVersion}, not ${loaded.version}`);
    return completion;
  }

  /** Learns whether the server is ours. @throws ConfigError for a model that it does not list */
  async #readModels(signal: AbortSignal | undefined): Promise<void> {
    // Not every server lists its models; what is wrong then, the first request tells.
    const listed = await this.#parts.api.ask("/models", undefined, signal).catch(() => null);
    const models = listed?.status === 200 ? Models.safeParse(jsonOrNull(listed.text)).data?.data : undefined;
    if (models === undefined) return;
    const known = models.find(({ id }) => id === this.#engine.model);
    if (known === undefined)
      throw new ConfigError({
        at: "rollout.engine.model",
        got: this.#engine.model,
        need: `one that ${this.#engine.base_url} serves: ${models.map(({ id }) => id).join(", ")}`,
      });
    this.#isOurs = known.owned_by === "retort";
  }

  /** What a person must mend. */
  #mistake(error: Error): Error {
    if (error instanceof ConfigError) return error;
    const { base_url: url, api } = this.#engine;
    if (error instanceof NoTokenIdsError)
      return new ConfigError({
        at: "rollout.engine",
        need: `a server that gives token ids with their log-probabilities, but ${error.message} (${url})`,
        fix:
          api === "completions"
            ? "vLLM does from 0.10.2 on; for an SGLang without return_token_ids set rollout.engine.api: generate."
            : "Is it SGLang's /generate?",
      });
    return new ConfigError({
      at: "rollout.engine",
      need: `a server that completes prompts at ${url}, but ${error.message}`,
      fix: "Is it running, is the address right, and does the key's variable hold its key?",
      cause: error,
    });
  }
}

const Models = z.looseObject({
  data: z.array(z.looseObject({ id: z.string(), owned_by: z.string().optional() })),
});

function jsonOrNull(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Waits between rounds, longer each time, and not for ever. */
class Patience {
  readonly #engine: OpenaiEngine;
  readonly #note: (line: string) => void;
  #pauseS = FIRST_PAUSE_S;
  #awaySinceMs: number | null = null;
  #hasTold = false;
  #inVain = 0;

  constructor(engine: OpenaiEngine, note: (line: string) => void) {
    this.#engine = engine;
    this.#note = note;
  }

  /** @throws InfrastructureError when it is over */
  async after(reason: Error, isProgress: boolean, signal?: AbortSignal): Promise<void> {
    if (isProgress) this.over();
    if (reason instanceof OtherWeightsError) {
      this.#inVain++;
      if (this.#inVain < PUSHES_IN_VAIN) return;
      throw this.#gaveUp(`after ${this.#inVain} times of handing over the weights, ${reason.message}`);
    }
    this.#awaySinceMs ??= performance.now();
    const awayS = (performance.now() - this.#awaySinceMs) / 1000;
    if (awayS >= this.#engine.patience_s)
      throw this.#gaveUp(`away for ${Math.round(awayS)} s: ${reason.message}`);
    if (!this.#hasTold) this.#note(`the sampling server does not answer (${reason.message}); trying again`);
    this.#hasTold = true;
    await setTimeout(this.#pauseS * 1000, undefined, signal === undefined ? {} : { signal });
    this.#pauseS = Math.min(LONGEST_PAUSE_S, 2 * this.#pauseS);
  }

  /** It answers again. */
  over(): void {
    if (this.#hasTold) this.#note("the sampling server answers again");
    [this.#hasTold, this.#awaySinceMs, this.#pauseS, this.#inVain] = [false, null, FIRST_PAUSE_S, 0];
  }

  #gaveUp(reason: string): InfrastructureError {
    return new InfrastructureError(
      `the sampling server ${this.#engine.base_url}: ${reason}. What is saved is kept: --resume, or an evaluation's same command, goes on once it answers.`,
    );
  }
}

const isTransient = (error: unknown): error is Error =>
  error instanceof ServerAwayError ||
  error instanceof OtherWeightsError ||
  error instanceof UnusableAnswerError;

/** @param canReload - a model that is not there may be one that a restart lost */
function statusError(status: number, text: string, canReload: boolean): Error {
  const said = `status ${status}: ${text.replace(/\s+/g, " ").trim().slice(0, 300)}`;
  if (status === 404 && canReload) return new OtherWeightsError(said);
  if (status === 408 || status === 425 || status === 429 || status >= 500) return new ServerAwayError(said);
  return new ServerRefusedError(said);
}
