/** Who takes part: workers announce themselves, clients say that they live; both are keys that expire. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Redis } from "ioredis";
import { packageRoot } from "../../core/index.js";
import { Announcement, parseJson } from "./messages.js";
import { KEPT_S, type Names } from "./names.js";

/** Of Retort: workers announce it. */
export const OWN_VERSION = (
  JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as { version: string }
).version;

/** @param ttlMs - gone from the roster when not renewed for so long */
export async function announce(
  redis: Redis,
  names: Names,
  worker: Announcement,
  ttlMs: number,
): Promise<void> {
  await redis
    .multi()
    .set(names.worker(worker.id), JSON.stringify(worker), "PX", ttlMs)
    .sadd(names.workers, worker.id)
    .expire(names.workers, KEPT_S)
    .exec();
}

export async function withdraw(redis: Redis, names: Names, id: string): Promise<void> {
  await redis.multi().del(names.worker(id)).srem(names.workers, id).exec();
}

/** The workers that live, oldest name first; what is not an announcement of ours is passed over. */
export async function roster(redis: Redis, names: Names): Promise<Announcement[]> {
  const ids = await redis.smembers(names.workers);
  if (ids.length === 0) return [];
  const texts = await redis.mget(ids.map(names.worker));
  const gone = ids.filter((_, i) => texts[i] === null);
  if (gone.length > 0) await redis.srem(names.workers, ...gone);
  return texts
    .flatMap((text) => {
      const parsed = Announcement.safeParse(parseJson(text ?? ""));
      return parsed.success ? [parsed.data] : [];
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Says that a client lives and wants its replies. */
export async function sayAlive(redis: Redis, names: Names, client: string, ttlMs: number): Promise<void> {
  await redis
    .multi()
    .set(names.client(client), "1", "PX", ttlMs)
    .sadd(names.clients, client)
    .expire(names.clients, KEPT_S)
    .expire(names.replies(client), KEPT_S)
    .exec();
}

export async function sayGoodbye(redis: Redis, names: Names, client: string): Promise<void> {
  await redis.multi().del(names.client(client), names.replies(client)).srem(names.clients, client).exec();
}

export const isAlive = async (redis: Redis, names: Names, client: string): Promise<boolean> =>
  (await redis.exists(names.client(client))) === 1;

/** Whether no client and no worker is left. */
export async function isDeserted(redis: Redis, names: Names): Promise<boolean> {
  if ((await roster(redis, names)).length > 0) return false;
  const clients = await redis.smembers(names.clients);
  if (clients.length === 0) return true;
  return (await redis.exists(...clients.map(names.client))) === 0;
}

/** In one step, so that nothing is left for a client that is gone. */
const REPLY = `
if redis.call("EXISTS", KEYS[1]) == 0 then return 0 end
redis.call("RPUSH", KEYS[2], ARGV[1])
redis.call("EXPIRE", KEYS[2], ARGV[2])
return 1`;

/** @returns false where the client is gone, or Redis has forgotten it: then it asks again by itself */
export async function reply(redis: Redis, names: Names, client: string, message: object): Promise<boolean> {
  const keys = [names.client(client), names.replies(client)];
  return (await redis.eval(REPLY, 2, ...keys, JSON.stringify(message), KEPT_S)) === 1;
}
