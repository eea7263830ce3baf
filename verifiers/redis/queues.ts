/** BullMQ's queues, with our names, our times, and an end: their keys expire when nobody uses them. */
import { Queue, type QueueOptions } from "bullmq";
import type { Redis } from "ioredis";
import type { Language } from "../languages.js";
import { KEPT_S, type Names, queueName } from "./names.js";

/** Keys of a queue beside those of its jobs; BullMQ makes them as it needs them and never ends them. */
const QUEUE_KEYS = [
  "id",
  "meta",
  "events",
  "marker",
  "wait",
  "active",
  "paused",
  "prioritized",
  "delayed",
  "completed",
  "failed",
  "stalled",
  "stalled-check",
  "pc",
] as const;

export const queueOptions = (redis: Redis, names: Names): QueueOptions => ({
  connection: redis,
  prefix: names.queues,
  skipVersionCheck: true, // ours has looked already, once and not for each queue
});

/** The client's side of a language's queue. */
export function openQueue(redis: Redis, names: Names, language: Language): Queue {
  const queue = new Queue(queueName(language), {
    ...queueOptions(redis, names),
    streams: { events: { maxLen: 100 } }, // nobody reads them: results come by the client's own list
  });
  queue.on("error", () => {}); // the connection's watcher tells of outages
  return queue;
}

export const jobKey = (names: Names, queue: string, id: string): string => `${names.queues}:${queue}:${id}`;

/** Lets the keys of these queues live on for as long as anything that is not renewed. */
export async function renewQueues(redis: Redis, names: Names, queues: readonly string[]): Promise<void> {
  if (queues.length === 0) return;
  const pipeline = redis.pipeline();
  for (const queue of queues)
    for (const key of QUEUE_KEYS)
      if (key !== "stalled-check") pipeline.expire(`${names.queues}:${queue}:${key}`, KEPT_S);
  await pipeline.exec();
}

/** Ids of the jobs that a queue still holds: of a worker that was silent past its lock, and whose client has left. */
async function jobsLeft(redis: Redis, key: string): Promise<string[]> {
  const lists = await Promise.all(
    ["wait", "active", "paused"].map((name) => redis.lrange(`${key}:${name}`, 0, -1)),
  );
  return [...new Set([...lists.flat(), ...(await redis.smembers(`${key}:stalled`))])];
}

/** For the last one out, jobs and all. Who comes in the meantime finds its jobs missing and sends them again. */
export async function removeQueues(redis: Redis, names: Names, queues: readonly string[]): Promise<void> {
  for (const queue of queues) {
    const jobs = await jobsLeft(redis, `${names.queues}:${queue}`);
    const ofJobs = jobs.flatMap((id) => [jobKey(names, queue, id), `${jobKey(names, queue, id)}:lock`]);
    await redis.unlink(...QUEUE_KEYS.map((key) => `${names.queues}:${queue}:${key}`), ...ofJobs);
  }
}
