/** Programs set aside because the workers that judged them died: kept for a person to look at. */
import type { Redis } from "ioredis";
import { connectRedis, orLost, readRedisUrl } from "./connection.js";
import { Poisoned, parseJson } from "./messages.js";
import { type Names, namesUnder, POISONED_KEPT_S } from "./names.js";

/** Workers that may die of a program before it is set aside. */
export const MOST_STARTS = 3;
const MOST_KEPT = 100;

export async function setAside(redis: Redis, names: Names, what: Omit<Poisoned, "at">): Promise<void> {
  const [seconds] = await redis.time();
  await redis
    .multi()
    .lpush(names.poisoned, JSON.stringify({ at: Number(seconds), ...what }))
    .ltrim(names.poisoned, 0, MOST_KEPT - 1)
    .expire(names.poisoned, POISONED_KEPT_S)
    .exec();
}

/**
 * Newest first.
 * @throws ConfigError when no Redis answers at the address
 */
export async function listPoisoned(url: string, prefix?: string): Promise<Poisoned[]> {
  const watcher = { onLost: () => {}, onBack: () => {} };
  const redis = await connectRedis(readRedisUrl(url, "the address of Redis"), "fail", watcher);
  try {
    const texts = await orLost(redis, () => redis.lrange(namesUnder(prefix).poisoned, 0, -1));
    return texts.flatMap((text) => {
      const parsed = Poisoned.safeParse(parseJson(text));
      return parsed.success ? [parsed.data] : [];
    });
  } finally {
    redis.disconnect();
  }
}
