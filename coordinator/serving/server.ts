/** A policy as an HTTP service that speaks OpenAI's protocol. */
import { basename, resolve } from "node:path";
import type { FastifyReply, FastifyRequest } from "fastify";
import { ConfigError } from "../../core/index.js";
import { lastingWeights, openPolicy, type WeightSource } from "../../policy/index.js";
import type { DeviceChoice } from "../../policy/run-config.js";
import { checkAddress, type FrameOptions, HttpFrame } from "../../verifiers/service/http-frame.js";
import { chooseSampler } from "../devices.js";
import { openSamplingHost } from "../policy-host.js";
import { type BasePrecision, type StoredWeights, storedWeights } from "../stored-weights.js";
import { Engines } from "./engines.js";
import { PolicyMetrics } from "./metrics.js";
import { Models } from "./models.js";
import { type ApiParts, openaiApi } from "./openai-api.js";
import { inErrorShape } from "./server-errors.js";
import { weightsApi } from "./weights-api.js";
import type { Writing } from "./writing.js";

export interface PolicyServiceOptions extends FrameOptions {
  /** Policy folder, or a checkpoint of a run. */
  readonly policy: string;
  /** What requests call it; default: the folder's name. */
  readonly name?: string;
  readonly device: DeviceChoice;
  /** Default: float32. */
  readonly basePrecision?: BasePrecision["type"];
  readonly threads: number;
  /** Completions written at once. */
  readonly slots: number;
  /** Positions of a prompt and its completion together; default: the policy's, at most 4096. */
  readonly context?: number;
  readonly maxAdapters: number;
  /** Completions that may wait for a slot. */
  readonly maxQueue: number;
  readonly deadlineS: number;
  /** Told of our own failures, in words. */
  readonly warn: (message: string) => void;
}

export interface PolicyService {
  readonly url: string;
  readonly model: string;
  readonly device: string;
  readonly context: number;
  /** Takes no more requests, finishes those it has for at most so many seconds, then ends. */
  stop(graceS: number): Promise<void>;
}

const OPEN_ROUTES = ["/health", "/health/live", "/health/ready", "/ping"];
const ROUTES =
  "POST /v1/chat/completions, POST /v1/completions, GET /v1/models, POST /update_weights_from_disk, POST /v1/load_lora_adapter, POST /v1/unload_lora_adapter, GET /health, GET /metrics";
/** A cache for more costs memory in every slot; --context asks for it. */
const USUAL_CONTEXT = 4096;

/**
 * Reads the policy and listens.
 * @throws ConfigError for a folder that is no policy, a device that does not work here, an address that cannot be had
 */
export async function startPolicyService(options: PolicyServiceOptions): Promise<PolicyService> {
  checkAddress(options);
  const policy = openPolicy(options.policy);
  const { config, tokenizer } = policy;
  const context = options.context ?? Math.min(config.maxPositions, USUAL_CONTEXT);
  if (context > config.maxPositions)
    throw new ConfigError({
      at: "--context",
      got: context,
      need: `at most ${config.maxPositions}, the policy's positions`,
    });
  const provider = await chooseSampler(options.device);
  const { slots, threads, maxAdapters } = options;
  const shape = { slots, promptLength: context - 1, cacheLength: context };
  const engines = new Engines((weights) => openSamplingHost({ config, weights, provider, threads }), shape);
  const name = options.name ?? basename(resolve(options.policy));
  const load = { underWay: 0 };
  const metrics = new PolicyMetrics(() => load.underWay);
  const precision = { type: options.basePrecision ?? "float32", provider, at: "--base-precision" } as const;
  const store = (source: WeightSource): Promise<StoredWeights> =>
    storedWeights(source, true, undefined, precision);
  const models = new Models(engines, await store(policy.source), {
    name,
    folder: policy.folder,
    maxAdapters,
    store: async (source) => {
      const stored = await store(source);
      if (stored.base === null) return { stored, release: () => {} };
      const { weights: base, release } = await lastingWeights(stored.base);
      return { stored: { ...stored, base }, release };
    },
  });
  const frame = new HttpFrame(options, {
    openRoutes: OPEN_ROUTES,
    routes: ROUTES,
    shape: (_, error) => inErrorShape(error),
    refused: (error) => {
      metrics.rejected(error.reason);
      if (error.statusCode >= 500 && error.reason === "invalid") options.warn(error.message);
    },
    answered: (route, code, seconds) => metrics.answered(route, code, seconds),
  });
  const open = new Set<Writing>();
  const parts: ApiParts = {
    engines,
    tokenizer,
    ownStopIds: [...new Set([...config.stopIds, ...tokenizer.stopIds])],
    metrics,
    models,
    context,
    vocabulary: config.vocabulary,
    mostUnderWay: slots + options.maxQueue,
    deadlineS: options.deadlineS,
    enough: frame.enough.signal,
    load,
    open,
  };
  openaiApi(frame.app, parts);
  weightsApi(frame.app, { models, metrics, open });
  ownPages(frame, engines, metrics, load);
  try {
    await models.open();
    return {
      url: await frame.listen(),
      model: name,
      device: provider,
      context,
      stop: async (graceS) => {
        await frame.stop(graceS);
        for (const writing of open) writing.cancel();
        await engines.close();
        models.close();
      },
    };
  } catch (error) {
    await engines.close();
    throw error;
  }
}

function ownPages(
  frame: HttpFrame,
  engines: Engines,
  metrics: PolicyMetrics,
  load: { readonly underWay: number },
): void {
  const { app } = frame;
  const ready = (_: FastifyRequest, reply: FastifyReply): unknown => {
    const problem = frame.isStopping ? "stopping" : (engines.failure?.message ?? null);
    reply.code(problem === null ? 200 : 503);
    return {
      status: problem === null ? "ok" : "unavailable",
      ...(problem === null ? {} : { problem }),
      under_way: load.underWay,
    };
  };
  for (const route of ["/health", "/health/ready", "/ping"]) app.get(route, ready);
  app.get("/health/live", () => ({ status: "ok" }));
  app.get("/metrics", async (_, reply) => {
    reply.header("content-type", metrics.registry.contentType);
    return metrics.registry.metrics();
  });
}
