/** The verifier as an HTTP service: who may ask, what a body may be, and how it stops. The APIs stand in files of their own. */
import { setMaxListeners } from "node:events";
import { availableParallelism } from "node:os";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { ConfigError } from "../../core/index.js";
import type { LanguageSet } from "../language-set.js";
import { createLocalPool, type LocalPool, type LocalPoolOptions } from "../pool.js";
import { batchApi } from "./batch-api.js";
import type { OperatorLimits } from "./ceilings.js";
import { BodyBudget, checkOrigin, checkToken, type GuardOptions, isLoopback } from "./guard.js";
import { Health } from "./health.js";
import { parseBody } from "./json-body.js";
import { ServiceMetrics } from "./metrics.js";
import { pistonApi } from "./piston.js";
import { Programs } from "./programs.js";
import { RequestError } from "./request-error.js";
import { sandboxFusionApi } from "./sandbox-fusion.js";
import { scaleboxApi } from "./scalebox.js";
import { ServiceParts } from "./service-parts.js";

export interface ServiceOptions {
  readonly languages: LanguageSet;
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** null: none is asked for; only on a loopback address. */
  readonly token: string | null;
  /** Names under which a request may call a service on a loopback address, beside that address itself. */
  readonly allowedHosts?: readonly string[];
  readonly workers?: number;
  /** Which sandboxes, and what they must enforce. */
  readonly sandbox?: Pick<LocalPoolOptions, "backend" | "require">;
  readonly limits: OperatorLimits;
  readonly maxBodyMb: number;
  readonly maxQueue: number;
  readonly deadlineS: number;
  /** A request must have arrived, to its last byte, within so many seconds. */
  readonly receiveS: number;
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

const MIB = 1024 * 1024;
/** Full bodies that may be in memory at a time. */
const BODIES_AT_ONCE = 8;
const HEADERS_MS = 15_000;
const KEEP_ALIVE_MS = 75_000;
const MAX_CONNECTIONS = 4096;
const CHECK_CONNECTIONS_MS = 1000;
const OPEN_ROUTES = ["/health", "/health/live", "/health/ready"];

/**
 * @throws ConfigError where programs cannot be isolated, the address cannot be had, or it is not a loopback one and no
 * token is set
 */
export async function startVerifierService(options: ServiceOptions): Promise<VerifierService> {
  if (options.token === null && !isLoopback(options.host)) {
    throw new ConfigError({
      at: "--host",
      got: options.host,
      need: "a token on an address that other machines can reach",
      fix: "Set RETORT_TOKEN or --token-file FILE, or leave --host 127.0.0.1.",
    });
  }
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
  readonly #options: ServiceOptions;
  readonly #app: FastifyInstance;
  readonly #pool: LocalPool;
  readonly #programs: Programs;
  readonly #health: Health;
  readonly #guard: GuardOptions;
  readonly #bodies: BodyBudget;
  readonly #enough = new AbortController();
  readonly #release = new WeakMap<FastifyRequest, () => void>();
  #url = "";
  #isStopping = false;
  #open = 0;

  constructor(options: ServiceOptions, pool: LocalPool, workers: number) {
    this.#options = options;
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
    this.#health = new Health(this.#programs);
    const own = ["localhost", "127.0.0.1", "::1", options.host.toLowerCase()];
    const hostNames = isLoopback(options.host)
      ? [...new Set([...own, ...(options.allowedHosts ?? []).map((name) => name.toLowerCase())])]
      : null;
    this.#guard = { token: options.token, hostNames };
    this.#bodies = new BodyBudget(BODIES_AT_ONCE * options.maxBodyMb * MIB);
    setMaxListeners(0, this.#enough.signal); // every open request listens
    this.#app = this.#build();
  }

  get url(): string {
    return this.#url;
  }

  async listen(): Promise<void> {
    const { host, port } = this.#options;
    try {
      await this.#app.listen({ host, port });
    } catch (cause) {
      throw addressError(cause as NodeJS.ErrnoException, host, port);
    }
    const bound = this.#app.server.address();
    const boundPort = typeof bound === "object" && bound !== null ? bound.port : port;
    this.#url = `http://${host.includes(":") ? `[${host}]` : host}:${boundPort}`;
  }

  #build(): FastifyInstance {
    const { maxBodyMb, receiveS, deadlineS } = this.#options;
    const app = Fastify({
      bodyLimit: maxBodyMb * MIB,
      requestTimeout: receiveS * 1000,
      keepAliveTimeout: KEEP_ALIVE_MS,
      forceCloseConnections: "idle",
      http: {
        headersTimeout: Math.min(HEADERS_MS, receiveS * 1000),
        connectionsCheckingInterval: CHECK_CONNECTIONS_MS,
      },
    });
    app.server.maxConnections = MAX_CONNECTIONS;
    app.removeAllContentTypeParsers();
    app.addContentTypeParser(
      "application/json",
      { parseAs: "buffer" },
      async (_: FastifyRequest, body: Buffer) => parseBody(body),
    );
    app.addHook("onRequest", async (request) => this.#admit(request));
    app.addHook("onResponse", async (request, reply) => this.#answered(request, reply));
    app.setErrorHandler((error, request, reply) => this.#refuse(toRequestError(error), request, reply));
    app.setNotFoundHandler((request, reply) => this.#refuse(notFound(request), request, reply));
    const parts = new ServiceParts(this.#programs, deadlineS, this.#enough.signal);
    for (const api of [batchApi, sandboxFusionApi, scaleboxApi, pistonApi]) api(app, parts);
    this.#ownPages(app);
    return app;
  }

  #ownPages(app: FastifyInstance): void {
    const ready = async (_: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
      const problem = this.#isStopping ? "stopping" : await this.#health.problem();
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

  /** Before a byte of the body is read. @throws RequestError */
  #admit(request: FastifyRequest): void {
    this.#open++;
    const { headers, routeOptions } = request;
    checkOrigin(headers, this.#guard);
    if (!OPEN_ROUTES.includes(routeOptions.url ?? "")) checkToken(headers, this.#guard);
    if (this.#isStopping && request.method === "POST")
      throw new RequestError(503, "stopping", "The service is stopping.", 5);
    const most = this.#options.maxBodyMb * MIB;
    const said = Number(headers["content-length"] ?? (headers["transfer-encoding"] === undefined ? 0 : most));
    this.#release.set(request, this.#bodies.take(Math.min(most, said)));
  }

  #answered(request: FastifyRequest, reply: FastifyReply): void {
    this.#open--;
    this.#release.get(request)?.();
    this.#release.delete(request);
    this.#programs.metrics.answered(
      request.routeOptions.url ?? "none",
      reply.statusCode,
      reply.elapsedTime / 1000,
    );
  }

  #refuse(error: RequestError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    this.#programs.metrics.rejected(error.reason);
    if (error.statusCode >= 500 && error.reason === "invalid") this.#options.warn(error.message);
    if (error.retryAfterS !== null) reply.header("retry-after", String(error.retryAfterS));
    if (error.reason === "token") reply.header("www-authenticate", 'Bearer realm="retort"');
    return reply.code(error.statusCode).send(inShapeOf(request.routeOptions.url ?? "", error));
  }

  async stop(graceS: number): Promise<void> {
    this.#isStopping = true;
    const closed = this.#app.close();
    const timer = setTimeout(
      () => this.#enough.abort(new RequestError(503, "stopping", "The service is stopping.", 5)),
      Math.min(2 ** 31 - 1, graceS * 1000),
    );
    const { server } = this.#app;
    const idle = setInterval(() => server.closeIdleConnections(), 50);
    while (this.#open > 0 && !this.#enough.signal.aborted) await pause(20);
    for (let left = 50; this.#open > 0 && left > 0; left--) await pause(20); // let the last answers leave
    server.closeAllConnections();
    await closed;
    clearTimeout(timer);
    clearInterval(idle);
    await this.#pool.close();
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function addressError(cause: NodeJS.ErrnoException, host: string, port: number): ConfigError {
  const needs: Readonly<Record<string, readonly [string, string]>> = {
    EADDRINUSE: ["a free port: something listens there", "Choose another with --port, or --port 0 for any."],
    EACCES: ["a port that this user may listen on", "Choose one of 1024 or more."],
    EADDRNOTAVAIL: ["an address of this machine", "127.0.0.1 is always one."],
    ENOTFOUND: ["an address of this machine", "127.0.0.1 is always one."],
  };
  const [need, fix] = needs[cause.code ?? ""] ?? [
    `an address to listen on (${cause.message})`,
    "Choose another.",
  ];
  return new ConfigError({ at: "retort serve", got: `${host}:${port}`, need, fix, cause });
}

function notFound({ method, url }: FastifyRequest): RequestError {
  const routes =
    "POST /v1/verify, GET /v1/languages, POST /run_code, POST /common_evaluate_batch, GET /api/v2/runtimes, POST /api/v2/execute, GET /health, GET /metrics";
  return new RequestError(404, "not_found", `${method} ${url.slice(0, 100)}: there is ${routes}.`);
}

/** Fastify's own refusals under our names; anything else is a mistake of ours. */
function toRequestError(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  const { statusCode = 500, message } = error as { statusCode?: number; message: string };
  if (statusCode === 413)
    return new RequestError(413, "too_large", "The body is larger than --max-body-mb allows.");
  if (statusCode === 415) return new RequestError(415, "content_type", "The body must be application/json.");
  if (statusCode < 500) return new RequestError(statusCode, "body", message);
  return new RequestError(500, "invalid", `internal error: ${message}`);
}

/** Each API's clients look for a message in another place. */
function inShapeOf(route: string, { reason, message }: RequestError): unknown {
  if (route.startsWith("/api/v2/")) return { message };
  if (route === "/run_code" || route === "/common_evaluate_batch") return { detail: message };
  return { error: { reason, message } };
}
