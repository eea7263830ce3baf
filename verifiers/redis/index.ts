/** Judging on many machines; apart from verifiers/index.ts, so that who judges locally does not load BullMQ. */
export type { Ceilings } from "./judge-job.js";
export type { Poisoned } from "./messages.js";
export { DEFAULT_PREFIX } from "./names.js";
export { listPoisoned } from "./poisoned.js";
export type { RedisPool, RedisPoolOptions, RedisPoolStats } from "./pool.js";
export { createRedisPool } from "./pool.js";
export type { RedisWorker, RedisWorkerOptions } from "./worker.js";
export { startRedisWorker } from "./worker.js";
export type { WorkerEvent } from "./worker-events.js";
export { eventLine } from "./worker-events.js";
