/** A machine that judges for others: takes programs of the languages that work here, and tells the verdicts. */
import { randomUUID } from "node:crypto";
import { hostname, totalmem } from "node:os";
import { Worker } from "bullmq";
import type { Redis } from "ioredis";
import { ConfigError } from "../../core/index.js";
import type { Backend } from "../backend.js";
import { checkLanguages } from "../check-languages.js";
import type { LanguageSet } from "../language-set.js";
import type { Language } from "../languages.js";
import { createLocalPool, type LocalPool } from "../pool.js";
import { type Requirements, shortcomings } from "../requirements.js";
import {
  connectRedis,
  evictionWarning,
  orLost,
  orRefused,
  type RedisAddress,
  readRedisUrl,
} from "./connection.js";
import { type Ceilings, type JudgeContext, judgeJob, type ToolVersions } from "./judge-job.js";
import { type Announcement, PROTOCOL } from "./messages.js";
import { languageDigest, namesUnder, queueName } from "./names.js";
import { jobKey, queueOptions, removeQueues, renewQueues } from "./queues.js";
import { announce, isDeserted, OWN_VERSION, withdraw } from "./roster.js";
import { Slots } from "./slots.js";
import type { WorkerEvent } from "./worker-events.js";

export interface RedisWorkerOptions {
  readonly languages: LanguageSet;
  readonly url: string;
  readonly prefix?: string;
  /** Names this worker in results and logs. Default: host name and process id. */
  readonly name?: string;
  /** Programs at a time. Default: that of a local pool. */
  readonly workers?: number;
  /** A worker that is silent for so long is taken for dead, and its programs go to others. Seconds, default 20. */
  readonly silenceS?: number;
  readonly backend?: Backend;
  readonly require?: Requirements;
  readonly ceilings?: Partial<Ceilings>;
  readonly onEvent: (event: WorkerEvent) => void;
}

export interface RedisWorker {
  readonly name: string;
  /** Finishes what runs, gives the rest back, and leaves. */
  close(): Promise<void>;
}

const SILENCE_S = 20;
const TIME_CEILING_S = 600;
const OUTPUT_CEILING_MB = 256;

/**
 * Joins the pool at a Redis; waits for one that is not there yet.
 * @throws ConfigError where programs cannot be isolated, no language works, or Redis refuses us
 */
export async function startRedisWorker(options: RedisWorkerOptions): Promise<RedisWorker> {
  const { onEvent } = options;
  const address = readRedisUrl(options.url, "the address of Redis");
  const { workers, backend, require } = options;
  const pool = await createLocalPool({
    languages: options.languages,
    cache: false, // clients have theirs; a program that comes again is to be judged again
    ...(workers === undefined ? {} : { workers }),
    ...(backend === undefined ? {} : { backend }),
    ...(require === undefined ? {} : { require }),
  });
  let worker: JoinedWorker | null = null;
  let redis: Redis | null = null;
  try {
    redis = await connectRedis(address, "wait", {
      onLost: (reason) => onEvent({ event: "redis_lost", reason }),
      onBack: () => {
        onEvent({ event: "redis_back" });
        worker?.wake();
      },
    });
    const warnings = [address.warning, await evictionWarning(redis), shortcomings(pool.isolation)];
    for (const reason of warnings) if (reason !== null) onEvent({ event: "warning", reason });
    worker = new JoinedWorker(options, pool, redis, await workingLanguages(pool));
    await worker.join(address);
    return worker;
  } catch (error) {
    redis?.disconnect();
    await pool.close();
    throw error;
  }
}

/** Tool versions of the languages whose self-test passes. */
async function workingLanguages(pool: LocalPool): Promise<ToolVersions> {
  const checks = await checkLanguages(pool, { isQuick: true });
  const working = checks.filter(({ status }) => status === "ok");
  if (working.length > 0) return Object.fromEntries(working.map(({ name, version }) => [name, version]));
  throw new ConfigError({
    at: "retort worker",
    need: "at least one language whose tools work here",
    fix: "retort languages check says how to install them.",
  });
}

class JoinedWorker implements RedisWorker {
  readonly name: string;
  readonly #id = randomUUID();
  readonly #options: RedisWorkerOptions;
  readonly #pool: LocalPool;
  readonly #redis: Redis;
  readonly #names;
  readonly #versions: ToolVersions;
  readonly #languages: readonly Language[];
  readonly #queues: readonly string[];
  readonly #capacity: number;
  readonly #silenceMs: number;
  readonly #slots: Slots;
  readonly #alone = new Slots(1);
  #consumers: readonly Worker[] = [];
  #running = 0;
  #isStopping = false;
  #beating: Promise<void> = Promise.resolve();
  #closing: Promise<void> | null = null;
  wake: () => void = () => {};

  constructor(options: RedisWorkerOptions, pool: LocalPool, redis: Redis, versions: ToolVersions) {
    this.name = options.name ?? `${hostname()}-${process.pid}`;
    this.#options = options;
    this.#pool = pool;
    this.#redis = redis;
    this.#names = namesUnder(options.prefix);
    this.#versions = versions;
    this.#languages = options.languages.all.filter(({ name }) => name in versions);
    this.#queues = this.#languages.map(queueName);
    this.#capacity = pool.workers;
    this.#silenceMs = (options.silenceS ?? SILENCE_S) * 1000;
    this.#slots = new Slots(this.#capacity);
  }

  async join(address: RedisAddress): Promise<void> {
    this.#consumers = this.#languages.map((language) => this.#consume(language));
    await orRefused(address, this.#beat());
    this.#beating = this.#beatOn();
    this.#options.onEvent({
      event: "joined",
      worker: this.name,
      redis: address.shown,
      languages: this.#languages.map(({ name }) => name),
      capacity: this.#capacity,
    });
  }

  /** Takes programs from the queue of one language. */
  #consume(language: Language): Worker {
    const context: JudgeContext = {
      name: this.name,
      redis: this.#redis,
      names: this.#names,
      pool: this.#pool,
      offered: new Set(Object.keys(this.#versions)),
      ceilings: {
        timeS: TIME_CEILING_S,
        memoryMb: Math.floor(totalmem() / 2 ** 20),
        outputMb: OUTPUT_CEILING_MB,
        ...this.#options.ceilings,
      },
      slots: this.#slots,
      alone: this.#alone,
      onEvent: this.#options.onEvent,
    };
    const version = this.#versions[language.name] ?? null;
    const judge = async (job: Parameters<typeof judgeJob>[3]): Promise<void> => {
      this.#running++;
      try {
        await judgeJob(context, language, version, job);
      } finally {
        this.#running--;
      }
    };
    const consumer = new Worker(queueName(language), judge, {
      ...queueOptions(this.#redis, this.#names),
      name: this.name,
      concurrency: this.#capacity,
      lockDuration: this.#silenceMs,
      stalledInterval: this.#silenceMs / 4,
      // How often is ours to count, by who began to judge: BullMQ would also count those that only waited.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
      removeOnComplete: { count: 0 },
      removeOnFail: { count: 0 },
      runRetryDelay: 500,
    });
    consumer.on("stalled", (id) => {
      this.#options.onEvent({ event: "stalled", id });
      void this.#removeUnreadable(queueName(language), id).catch(() => {});
    });
    consumer.on("error", (error) => this.#failed(error));
    return consumer;
  }

  /** A job that is not JSON never reaches us: BullMQ fails to read it, and it would come again for ever. */
  async #removeUnreadable(queue: string, id: string): Promise<void> {
    const key = jobKey(this.#names, queue, id);
    const data = await this.#redis.hget(key, "data");
    try {
      JSON.parse(data ?? "");
    } catch {
      const lists = ["wait", "active", "stalled"].map((list) => `${this.#names.queues}:${queue}:${list}`);
      await this.#redis
        .multi()
        .lrem(lists[0]!, 0, id)
        .lrem(lists[1]!, 0, id)
        .srem(lists[2]!, id)
        .del(key, `${key}:lock`)
        .exec();
      this.#options.onEvent({ event: "dropped", id, reason: "it is no JSON" });
    }
  }

  /** What BullMQ reports. Outages are told by the connection, once and not for each queue. */
  #failed(error: Error): void {
    const late = /(?:Missing (?:lock|key)|could not renew lock) for job (\S+?)\.? /i.exec(
      `${error.message} `,
    );
    if (late !== null) {
      const reason = "it was given to another worker, or Redis has forgotten it, while this one was silent";
      this.#options.onEvent({ event: "dropped", id: late[1]!, reason });
    } else if (
      !/ECONN|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|Connection is closed|LOADING/.test(String(error))
    ) {
      this.#options.onEvent({ event: "warning", reason: error.message });
    }
  }

  async #beatOn(): Promise<void> {
    while (!this.#isStopping) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, this.#silenceMs / 4);
        this.wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (!this.#isStopping) await orLost(this.#redis, () => this.#beat()).catch(() => {}); // the connection tells of an outage
    }
  }

  async #beat(): Promise<void> {
    if (this.#redis.status !== "ready") return;
    const announcement: Announcement = {
      protocol: PROTOCOL,
      id: this.#id,
      name: this.name,
      retort: OWN_VERSION,
      capacity: this.#capacity,
      isolation: { ...this.#pool.isolation },
      languages: Object.fromEntries(
        this.#languages.map((language) => [
          language.name,
          { digest: languageDigest(language), version: this.#versions[language.name] ?? null },
        ]),
      ),
    };
    await announce(this.#redis, this.#names, announcement, this.#silenceMs);
    await renewQueues(this.#redis, this.#names, this.#queues);
  }

  close(): Promise<void> {
    this.#closing ??= this.#stop();
    return this.#closing;
  }

  async #stop(): Promise<void> {
    this.#options.onEvent({ event: "stopping", running: this.#running });
    this.#isStopping = true;
    this.wake();
    await this.#beating;
    const redis = this.#redis;
    await orLost(redis, () => withdraw(redis, this.#names, this.#id)).catch(() => {});
    this.#slots.close();
    this.#alone.close();
    // Without Redis nobody can be told what still runs: its locks run out, and others judge it.
    const isThere = redis.status === "ready";
    const finished = Promise.all(this.#consumers.map((consumer) => consumer.close(!isThere)));
    await (isThere ? orLost(redis, () => finished) : finished).catch(() => {});
    await orLost(redis, () => this.#leaveNothing()).catch(() => {});
    redis.disconnect();
    await this.#pool.close();
    this.#options.onEvent({ event: "stopped" });
  }

  async #leaveNothing(): Promise<void> {
    if (await isDeserted(this.#redis, this.#names))
      await removeQueues(this.#redis, this.#names, this.#queues);
  }
}
