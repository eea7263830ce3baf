/** How a server is told of new weights that lie in a folder it can read. */
import { ConfigError } from "../../core/index.js";
import type { OpenaiEngine } from "./engine-config.js";
import { ServerAwayError } from "./failures.js";
import type { Http, HttpAnswer } from "./post-json.js";

/** Weights on disk. */
export interface WeightFolder {
  /** Absolute. */
  readonly folder: string;
  /** Names these weights and no others: a server's prefix cache goes by the name of an adapter. */
  readonly version: string;
}

/** What requests say to get the weights, and what answers then say of them. */
export interface Loaded {
  readonly model: string;
  /** null: the server is not told a version. */
  readonly version: string | null;
}

/** Longest wait for an adapter to be taken off, in which a server may finish what it writes with it. */
const UNLOAD_MS = 10_000;

export interface WeightPush {
  /**
   * @param signal - breaks it off
   * @throws ServerAwayError; ConfigError where the server does not offer it, or cannot read the folder
   */
  load(weights: WeightFolder, signal?: AbortSignal): Promise<Loaded>;
  /** Takes the last ones off again, where they stand beside the server's own; a server that is away is not waited for. */
  unload?(): Promise<void>;
}

/** @param http - `root` is the server's address without /v1 */
export function createWeightPush(
  { model, base_url, weights }: OpenaiEngine,
  http: { readonly api: Http; readonly root: Http },
): WeightPush {
  const refusal = (path: string, { status, text }: HttpAnswer, fix: string): Error => {
    const said = text.replace(/\s+/g, " ").trim().slice(0, 300);
    if (status === 429 || status >= 502) return new ServerAwayError(`${path}: status ${status}: ${said}`);
    return new ConfigError({
      at: "rollout.engine.weights",
      need: `a server at ${base_url} that takes weights by ${weights.push}, but ${path} answered ${status}: ${said}`,
      fix,
    });
  };
  if (weights.push === "sglang_disk") {
    return {
      load: async ({ folder, version }, signal) => {
        const path = "/update_weights_from_disk";
        const body = { model_path: folder, weight_version: version, flush_cache: true };
        const answer = await told(http.root, path, body, signal);
        if (answer.status !== 200 || !/"success":\s*true/.test(answer.text))
          throw refusal(path, answer, "Can the server read the folder? weights.dir names one that both see.");
        return { model, version };
      },
    };
  }
  let before: string | null = null;
  // A failure leaves an adapter too many on the server, no more; after a restart it has none to unload.
  const unload = async (): Promise<void> => {
    if (before === null) return;
    const late = AbortSignal.timeout(UNLOAD_MS);
    await told(http.api, "/unload_lora_adapter", { lora_name: before }, late).catch(() => {});
  };
  return {
    unload,
    load: async ({ folder, version }, signal) => {
      const load = { lora_name: version, lora_path: folder };
      let answer = await told(http.api, "/load_lora_adapter", load, signal);
      if (answer.status === 400 && /already been loaded/.test(answer.text)) {
        // An earlier run's of the same name, or a load whose answer was lost.
        await told(http.api, "/unload_lora_adapter", { lora_name: version }, signal);
        answer = await told(http.api, "/load_lora_adapter", load, signal);
      }
      if (answer.status !== 200)
        throw refusal(
          "/v1/load_lora_adapter",
          answer,
          "vLLM needs --enable-lora, --max-lora-rank of at least policy.lora.rank, and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True; weights.dir is a folder that both see.",
        );
      if (before !== version) await unload();
      before = version;
      return { model: version, version };
    },
  };
}

async function told(http: Http, path: string, body: unknown, signal?: AbortSignal): Promise<HttpAnswer> {
  try {
    return await http.ask(path, body, signal);
  } catch (cause) {
    throw new ServerAwayError(`${path}: ${(cause as Error).message}`, { cause });
  }
}
