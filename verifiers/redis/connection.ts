/** Connections to Redis: opened with one clear error, kept through outages, never printed with their password. */
import { Redis } from "ioredis";
import { ConfigError } from "../../core/index.js";

export interface RedisAddress {
  readonly url: string;
  /** The same without user and password: the only form that messages show. */
  readonly shown: string;
  /** What a person should know before trusting this server; null where nothing is wrong. */
  readonly warning: string | null;
}

const LOOPBACK = /^(localhost|127\.\d+\.\d+\.\d+|\[?::1\]?)$/;
const OLDEST = [6, 2] as const;

/**
 * @param at - where the address came from, for the message
 * @throws ConfigError, which does not repeat the text: it may hold a password
 */
export function readRedisUrl(text: string, at: string): RedisAddress {
  let url: URL;
  try {
    url = new URL(text);
    if (!/^rediss?:$/.test(url.protocol) || url.hostname === "") throw new Error("not Redis");
  } catch {
    throw new ConfigError({
      at,
      need: "an address like redis://host:6379, or rediss://user:password@host:6379/0 with TLS",
    });
  }
  const isOpen = url.password === "" && !LOOPBACK.test(url.hostname);
  const shown = `${url.protocol}//${url.host}${url.pathname === "/" ? "" : url.pathname}`;
  return {
    url: text,
    shown,
    warning: isOpen
      ? `${shown} is asked without a password: whoever reaches it can have programs judged and forge verdicts. Set one (requirepass, or ACL users), and use rediss:// across networks.`
      : null,
  };
}

export interface ConnectionWatcher {
  /** Once an outage, with its reason. */
  onLost(reason: string): void;
  onBack(): void;
}

/** Twice what a command of ours or of BullMQ blocks. */
const ANSWER_S = 20;

const OPTIONS = {
  lazyConnect: true,
  // BullMQ requires it, and it is what an outage needs: commands wait for the server instead of failing.
  maxRetriesPerRequest: null,
  keepAlive: 10_000,
  retryStrategy: (attempt: number) => Math.min(50 * 2 ** Math.min(attempt, 7), 5000),
};

/** The server answered and refused us: trying again would not help. */
const isRefusal = (error: Error): boolean =>
  /^(NOAUTH|WRONGPASS|NOPERM|ERR invalid password)/.test(error.message);

/**
 * Opens a connection that from then on reconnects by itself.
 * @param patience - "fail": an unreachable server is a ConfigError. "wait": it is waited for, `onLost` says so
 * @param answerS - a server that owes an answer for so long is gone; seconds
 * @throws ConfigError when the server refuses the password, is too old, or (patience "fail") does not answer
 */
export async function connectRedis(
  address: RedisAddress,
  patience: "fail" | "wait",
  watcher: ConnectionWatcher,
  answerS = ANSWER_S,
): Promise<Redis> {
  const redis = new Redis(address.url, { ...OPTIONS, socketTimeout: answerS * 1000 });
  let isLost = false;
  let lastError: Error = new Error("the connection was closed");
  const opened = new Promise<void>((resolve, reject) => {
    redis.on("error", (error: Error) => {
      lastError = error;
      if (patience === "fail" || isRefusal(error)) reject(error);
    });
    redis.on("close", () => {
      if (isLost || redis.status === "end") return;
      isLost = true;
      watcher.onLost(lastError.message);
    });
    redis.on("ready", () => {
      resolve();
      if (isLost) watcher.onBack();
      isLost = false;
    });
  });
  redis.connect().catch(() => {}); // `opened` tells, with the reason
  try {
    await opened;
    const check = () => checkServer(redis, address);
    await (patience === "fail" ? orLost(redis, check) : check());
    return redis;
  } catch (cause) {
    redis.disconnect();
    if (cause instanceof ConfigError) throw cause;
    throw refusal(address, "a Redis server that lets us in", cause);
  }
}

/** An outage; the connection's watcher tells of it. */
export class ConnectionLost extends Error {
  override readonly name = "ConnectionLost";
}

/**
 * Begins only where there is a connection, and waits no longer than it lasts: a command under way when it breaks is sent again on the next one, which may never come.
 * @throws ConnectionLost
 */
export function orLost<T>(redis: Redis, work: () => Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const lost = (): void => reject(new ConnectionLost("the connection to Redis was lost"));
    if (redis.status !== "ready") return lost();
    redis.once("close", lost);
    void work()
      .then(resolve, reject)
      .finally(() => redis.off("close", lost));
  });
}

const refusal = (address: RedisAddress, need: string, cause: unknown): ConfigError =>
  new ConfigError({ at: address.shown, need, fix: `It said: ${reasonOf(cause)}.`, cause });

/** A refused transaction names its reason beside it. */
export function reasonOf(error: unknown): string {
  const { message, previousErrors } = error as Error & { readonly previousErrors?: readonly Error[] };
  return previousErrors?.[0]?.message ?? message;
}

/** @throws ConfigError where the server refuses our first words: read-only, out of memory, no permission */
export async function orRefused(address: RedisAddress, first: Promise<void>): Promise<void> {
  try {
    await first;
  } catch (cause) {
    throw refusal(address, "a Redis server that takes what we write", cause);
  }
}

/** A second connection, for commands that block. */
export function blockingTwin(redis: Redis): Redis {
  const twin = redis.duplicate();
  twin.on("error", () => {}); // the first connection tells of outages
  return twin;
}

async function checkServer(redis: Redis, address: RedisAddress): Promise<void> {
  const version = /^redis_version:(\d+)\.(\d+)/m.exec(await redis.info("server"));
  if (version === null) return; // a compatible server of another name
  const [major, minor] = [Number(version[1]), Number(version[2])];
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return;
  throw new ConfigError({
    at: address.shown,
    got: `${major}.${minor}`,
    need: `Redis ${OLDEST.join(".")} or newer`,
  });
}

/** A server that throws keys away under pressure loses programs; they are sent again, but slowly. */
export async function evictionWarning(redis: Redis): Promise<string | null> {
  const memory = await redis.info("memory");
  const policy = /^maxmemory_policy:(\S+)/m.exec(memory)?.[1] ?? "noeviction";
  const limit = Number(/^maxmemory:(\d+)/m.exec(memory)?.[1] ?? 0);
  if (limit === 0 || policy === "noeviction") return null;
  return `Redis may evict what is queued (maxmemory-policy ${policy}): set it to noeviction.`;
}
