/** The verifier as an HTTP service: its APIs stand in files of their own. */
import { availableParallelism } from "node:os";
import type { FastifyReply, FastifyRequest } from "fastify";
import type { LanguageSet } from "../language-set.js";
import { createLocalPool, type LocalPool, type LocalPoolOptions } from "../pool.js";
import { batchApi } from "./batch-api.js";
import type { OperatorLimits } from "./ceilings.js";
import { Health } from "./health.js";
import { checkAddress, type FrameOptions, HttpFrame } from "./http-frame.js";
import { ServiceMetrics } from "./metrics.js";
import { pistonApi } from "./piston.js";
import { Programs } from "./programs.js";
import type { RequestError } from "./request-error.js";
import { sandboxFusionApi } from "./sandbox-fusion.js";
import { scaleboxApi } from "./scalebox.js";
import { ServiceParts } from "./service-parts.js";

export interface ServiceOptions extends FrameOptions {
  readonly languages: LanguageSet;
  readonly workers?: number;
  /** Which sandboxes, and what they must enforce. */
  readonly sandbox?: Pick<LocalPoolOptions, "backend" | "require">;
  readonly limits: OperatorLimits;
  readonly maxQueue: number;
  readonly deadlineS: number;
  /** Told of our own failures, in words. */
  readonly warn: (message: string) => void;
}

export interface VerifierService {
  readonly url: string;
  readonly isolation: LocalPool["isolation"];
  readonly languages: readonly string[];
  /** Takes no more requests, finishes those it has for at most so many seconds, then ends. */
  stop(graceS: number): Promise<void>;
}

const OPEN_ROUTES = ["/health", "/health/live", "/health/ready"];
const ROUTES =
  "POST /v1/verify, GET /v1/languages, POST /run_code, POST /common_evaluate_batch, GET /api/v2/runtimes, POST /api/v2/execute, GET /health, GET /metrics";

/**
 * @throws ConfigError where programs cannot be isolated, the address cannot be had, or it is not a loopback one and no
 * token is set
 */
export async function startVerifierService(options: ServiceOptions): Promise<VerifierService> {
  checkAddress(options);
  const workers = options.workers ?? 2 * availableParallelism();
  const pool = await createLocalPool({ languages: options.languages, workers, ...options.sandbox });
  const service = new Service(options, pool, workers);
  try {
    await service.listen();
  } catch (error) {
    await pool.close();
    throw error;
  }
  return service;
}

class Service implements VerifierService {
  readonly isolation: LocalPool["isolation"];
  readonly languages: readonly string[];
  readonly #pool: LocalPool;
  readonly #programs: Programs;
  readonly #health: Health;
  readonly #frame: HttpFrame;
  #url = "";

  constructor(options: ServiceOptions, pool: LocalPool, workers: number) {
    this.#pool = pool;
    this.isolation = pool.isolation;
    this.languages = pool.languages.names;
    this.#programs = new Programs(pool, {
      workers,
      maxQueue: options.maxQueue,
      operator: options.limits,
      metrics: (queue) => new ServiceMetrics(queue),
      warn: options.warn,
    });
    const { metrics } = this.#programs;
    this.#health = new Health(this.#programs);
    this.#frame = new HttpFrame(options, {
      openRoutes: OPEN_ROUTES,
      routes: ROUTES,
      shape: inShapeOf,
      refused: (error) => {
        metrics.rejected(error.reason);
        if (error.statusCode >= 500 && error.reason === "invalid") options.warn(error.message);
      },
      answered: (route, code, seconds) => metrics.answered(route, code, seconds),
    });
    const parts = new ServiceParts(this.#programs, options.deadlineS, this.#frame.enough.signal);
    for (const api of [batchApi, sandboxFusionApi, scaleboxApi, pistonApi]) api(this.#frame.app, parts);
    this.#ownPages();
  }

  get url(): string {
    return this.#url;
  }

  async listen(): Promise<void> {
    this.#url = await this.#frame.listen();
  }

  #ownPages(): void {
    const { app } = this.#frame;
    const ready = async (_: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
      const problem = this.#frame.isStopping ? "stopping" : await this.#health.problem();
      const { waiting, running } = this.#programs.queue;
      reply.code(problem === null ? 200 : 503);
      return {
        status: problem === null ? "ok" : "unavailable",
        ...(problem === null ? {} : { problem }),
        waiting,
        running,
      };
    };
    app.get("/health", ready);
    app.get("/health/ready", ready);
    app.get("/health/live", () => ({ status: "ok" }));
    app.get("/metrics", async (_, reply) => {
      const { registry } = this.#programs.metrics;
      reply.header("content-type", registry.contentType);
      return registry.metrics();
    });
  }

  async stop(graceS: number): Promise<void> {
    await this.#frame.stop(graceS);
    await this.#pool.close();
  }
}

/** Each API's clients look for a message in another place. */
function inShapeOf(route: string, { reason, message }: RequestError): unknown {
  if (route.startsWith("/api/v2/")) return { message };
  if (route === "/run_code" || route === "/common_evaluate_batch") return { detail: message };
  return { error: { reason, message } };
}
