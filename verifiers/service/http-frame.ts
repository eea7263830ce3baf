/** What every HTTP service of ours has around its APIs: who may ask, how large a body may be, how it listens and how it stops. */
import { setMaxListeners } from "node:events";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import { ConfigError } from "../../core/index.js";
import { BodyBudget, checkOrigin, checkToken, type GuardOptions, isLoopback } from "./guard.js";
import { parseBody } from "./json-body.js";
import { RequestError } from "./request-error.js";

export interface FrameOptions {
  readonly host: string;
  /** 0: any that is free. */
  readonly port: number;
  /** null: none is asked for; only on a loopback address. */
  readonly token: string | null;
  /** Names under which a request may call a service on a loopback address, beside that address itself. */
  readonly allowedHosts?: readonly string[];
  readonly maxBodyMb: number;
  /** A request must have arrived, to its last byte, within so many seconds. */
  readonly receiveS: number;
}

/** What a service does with the requests that it does not take, and with those that are over. */
export interface FrameHooks {
  /** Routes that need no token. */
  readonly openRoutes: readonly string[];
  /** For the answer to an unknown path. */
  readonly routes: string;
  /** Body of the answer to a request that is refused. */
  shape(route: string, error: RequestError): unknown;
  refused(error: RequestError): void;
  /** @param seconds - from the request's first byte to the answer's last */
  answered(route: string, code: number, seconds: number): void;
}

const MIB = 1024 * 1024;
/** Full bodies that may be in memory at a time. */
const BODIES_AT_ONCE = 8;
const HEADERS_MS = 15_000;
const KEEP_ALIVE_MS = 75_000;
const MAX_CONNECTIONS = 4096;
const CHECK_CONNECTIONS_MS = 1000;
/** Longest that the rest of a refused body is waited for. */
const DRAIN_MS = 2000;

/** @throws ConfigError for an address that others can reach, without a token */
export function checkAddress({ host, token }: Pick<FrameOptions, "host" | "token">): void {
  if (token !== null || isLoopback(host)) return;
  throw new ConfigError({
    at: "--host",
    got: host,
    need: "a token on an address that other machines can reach",
    fix: "Set RETORT_TOKEN or --token-file FILE, or leave --host 127.0.0.1.",
  });
}

export class HttpFrame {
  readonly app: FastifyInstance;
  /** Aborted, with the reason, when a stop may wait no longer. */
  readonly enough = new AbortController();
  readonly #options: FrameOptions;
  readonly #hooks: FrameHooks;
  readonly #guard: GuardOptions;
  readonly #bodies: BodyBudget;
  readonly #release = new WeakMap<FastifyRequest, () => void>();
  #isStopping = false;
  #open = 0;

  constructor(options: FrameOptions, hooks: FrameHooks) {
    this.#options = options;
    this.#hooks = hooks;
    const own = ["localhost", "127.0.0.1", "::1", options.host.toLowerCase()];
    const hostNames = isLoopback(options.host)
      ? [...new Set([...own, ...(options.allowedHosts ?? []).map((name) => name.toLowerCase())])]
      : null;
    this.#guard = { token: options.token, hostNames };
    this.#bodies = new BodyBudget(BODIES_AT_ONCE * options.maxBodyMb * MIB);
    setMaxListeners(0, this.enough.signal); // every open request listens
    this.app = this.#build();
  }

  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** @returns the address to ask. @throws ConfigError where it cannot be had */
  async listen(): Promise<string> {
    const { host, port } = this.#options;
    try {
      await this.app.listen({ host, port });
    } catch (cause) {
      throw addressError(cause as NodeJS.ErrnoException, host, port);
    }
    const bound = this.app.server.address();
    const boundPort = typeof bound === "object" && bound !== null ? bound.port : port;
    return `http://${host.includes(":") ? `[${host}]` : host}:${boundPort}`;
  }

  #build(): FastifyInstance {
    const { maxBodyMb, receiveS } = this.#options;
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
    app.addHook("onRequest", async (request, reply) => this.#admit(request, reply));
    app.addHook("onResponse", async (request, reply) => this.#answered(request, reply));
    app.setErrorHandler((error, request, reply) => this.#refuse(toRequestError(error), request, reply));
    app.setNotFoundHandler((request, reply) => {
      const asked = `${request.method} ${request.url.slice(0, 100)}`;
      const error = new RequestError(404, "not_found", `${asked}: there is ${this.#hooks.routes}.`);
      return this.#refuse(error, request, reply);
    });
    return app;
  }

  /** Before a byte of the body is read. @throws RequestError */
  #admit(request: FastifyRequest, reply: FastifyReply): void {
    this.#open++;
    // Not onResponse: it never comes for a stream whose client has gone.
    reply.raw.once("close", () => {
      this.#open--;
      this.#release.get(request)?.();
      this.#release.delete(request);
    });
    const { headers, routeOptions } = request;
    checkOrigin(headers, this.#guard);
    if (!this.#hooks.openRoutes.includes(routeOptions.url ?? "")) checkToken(headers, this.#guard);
    if (this.#isStopping && request.method === "POST")
      throw new RequestError(503, "stopping", "The service is stopping.", 5);
    const most = this.#options.maxBodyMb * MIB;
    const said = Number(headers["content-length"] ?? (headers["transfer-encoding"] === undefined ? 0 : most));
    this.#release.set(request, this.#bodies.take(Math.min(most, said)));
  }

  #answered(request: FastifyRequest, reply: FastifyReply): void {
    this.#hooks.answered(request.routeOptions.url ?? "none", reply.statusCode, reply.elapsedTime / 1000);
  }

  async #refuse(error: RequestError, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    if (error.reason !== "gone") this.#hooks.refused(error);
    if (error.reason === "too_large") await drained(request);
    if (error.retryAfterS !== null) reply.header("retry-after", String(error.retryAfterS));
    if (error.reason === "token") reply.header("www-authenticate", 'Bearer realm="retort"');
    return reply.code(error.statusCode).send(this.#hooks.shape(request.routeOptions.url ?? "", error));
  }

  /** Takes no more requests, and waits at most so many seconds until those it has are answered. */
  async stop(graceS: number): Promise<void> {
    this.#isStopping = true;
    const closed = this.app.close();
    const timer = setTimeout(
      () => this.enough.abort(new RequestError(503, "stopping", "The service is stopping.", 5)),
      Math.min(2 ** 31 - 1, graceS * 1000),
    );
    const { server } = this.app;
    const idle = setInterval(() => server.closeIdleConnections(), 50);
    while (this.#open > 0 && !this.enough.signal.aborted) await pause(20);
    for (let left = 50; this.#open > 0 && left > 0; left--) await pause(20); // let the last answers leave
    server.closeAllConnections();
    await closed;
    clearTimeout(timer);
    clearInterval(idle);
  }
}

/** Lets the rest of a body pass by: a client that is still sending when the connection is closed never reads the answer. */
async function drained({ raw }: FastifyRequest): Promise<void> {
  if (raw.readableEnded) return;
  const ended = new Promise((resolve) => raw.once("end", resolve).once("close", resolve));
  raw.resume();
  await Promise.race([ended, pause(DRAIN_MS)]);
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

/** Fastify's own refusals under our names; anything else is a mistake of ours. */
function toRequestError(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  const { statusCode = 500, message, code } = error as Error & { statusCode?: number; code?: string };
  if (code === "ERR_STREAM_PREMATURE_CLOSE") return new RequestError(499, "gone", "the client has gone");
  if (statusCode === 413)
    return new RequestError(413, "too_large", "The body is larger than --max-body-mb allows.");
  if (statusCode === 415) return new RequestError(415, "content_type", "The body must be application/json.");
  if (statusCode < 500) return new RequestError(statusCode, "body", message);
  return new RequestError(500, "invalid", `internal error: ${message}`);
}
