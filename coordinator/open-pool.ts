/** The pool that a configuration names: sandboxes of this machine, or workers that share a Redis. */
import { ConfigError } from "../core/index.js";
import {
  createLocalPool,
  type LanguageSet,
  type LocalPool,
  shortcomings,
  type VerifierConfig,
} from "../verifiers/index.js";
import type { RedisPool } from "../verifiers/redis/index.js";

/** Of two kinds; `isolation` is null for the one whose programs run elsewhere. */
export type OpenedPool = LocalPool | RedisPool;

export interface PoolRequest {
  readonly languages: LanguageSet;
  readonly verifier: VerifierConfig;
  /** Sandboxes kept ready, on this machine. */
  readonly prestart?: number;
  /** Told what a person should know: that programs wait for a worker, that Redis is gone. */
  readonly note: (text: string) => void;
}

/** @throws ConfigError where programs cannot be isolated here, or Redis cannot be reached */
export function openPool(request: PoolRequest): Promise<OpenedPool> {
  return request.verifier.pool === "redis" ? openRedisPool(request) : openLocalPool(request);
}

async function openLocalPool({ languages, verifier, prestart, note }: PoolRequest): Promise<LocalPool> {
  const { backend, workers, limits, stop_after_failures, cache, retries, require } = verifier;
  const pool = await createLocalPool({
    languages,
    backend,
    require,
    limits,
    ...(stop_after_failures === null ? {} : { stopAfterFailures: stop_after_failures }),
    ...(prestart === undefined ? {} : { prestart }),
    cache,
    retries,
    ...(workers === undefined ? {} : { workers }),
  });
  const weak = shortcomings(pool.isolation);
  if (weak !== null) note(weak);
  return pool;
}

async function openRedisPool({ languages, verifier, note }: PoolRequest): Promise<RedisPool> {
  const { limits, stop_after_failures, cache, retries, redis, require } = verifier;
  if (Object.keys(require).length > 0)
    throw new ConfigError({
      at: "verifier.require",
      need: "verifier.pool: local, since it is this host that it speaks of",
      fix: "Start each worker with it: retort worker --require FILE.",
    });
  // BullMQ takes a third of a second to load: only who needs it waits for it.
  const { createRedisPool } = await import("../verifiers/redis/index.js");
  return createRedisPool({
    languages,
    url: redisUrl(redis.url),
    prefix: redis.prefix,
    waitS: redis.wait_s,
    ...(redis.in_flight === undefined ? {} : { inFlight: redis.in_flight }),
    limits,
    ...(stop_after_failures === null ? {} : { stopAfterFailures: stop_after_failures }),
    cache,
    retries,
    onNotice: note,
  });
}

/** @throws ConfigError where neither the configuration nor the environment has one */
export function redisUrl(configured: string | undefined): string {
  const url = configured ?? process.env.REDIS_URL;
  if (url !== undefined && url !== "") return url;
  throw new ConfigError({
    at: "verifier.redis.url",
    need: "the address of the Redis where workers are met",
    fix: "Set it, or the environment variable REDIS_URL; --redis does on a command line.",
  });
}

/** For programs of our own that are run and not judged: the generated tasks, the warm start. */
export interface Runner {
  /** A pool on this machine: the judge where it is one, else its own, opened at the first call. */
  open(): Promise<LocalPool>;
  /** Ends its own. */
  close(): Promise<void>;
}

export function openRunner(judge: OpenedPool, { languages, verifier }: PoolRequest): Runner {
  if (judge.isolation !== null) return { open: async () => judge, close: async () => {} };
  let own: Promise<LocalPool> | null = null;
  return {
    open: () => {
      own ??= openLocalPool({ languages, verifier, note: () => {} });
      return own;
    },
    close: async () => (await own?.catch(() => null))?.close(),
  };
}
