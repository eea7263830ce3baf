/** The client's side: programs go into the queue of their language, verdicts come back by a list of the client's own. */
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Redis } from "ioredis";
import { ConfigError, type Limits, type Task, type Verdict } from "../../core/index.js";
import type { LanguageSet } from "../language-set.js";
import type { Language } from "../languages.js";
import type { PoolStats, Submission, VerifierPool } from "../pool.js";
import { noProgramVerdict } from "../verdict.js";
import { VerdictCache } from "../verdict-cache.js";
import { type Tool, verdictKey } from "../verdict-key.js";
import {
  blockingTwin,
  ConnectionLost,
  connectRedis,
  evictionWarning,
  orLost,
  orRefused,
  type RedisAddress,
  readRedisUrl,
  reasonOf,
} from "./connection.js";
import { Flight, type Lane } from "./flight.js";
import { type Announcement, type JudgeJob, PROTOCOL, parseReply } from "./messages.js";
import { languageDigest, type Names, namesUnder, parseJobId } from "./names.js";
import { offerOf } from "./offers.js";
import { Patience } from "./patience.js";
import { removeQueues, renewQueues } from "./queues.js";
import { isDeserted, roster, sayAlive, sayGoodbye } from "./roster.js";

export interface RedisPoolOptions {
  readonly languages: LanguageSet;
  readonly url: string;
  /** Before every key; pools of different prefixes do not see each other. */
  readonly prefix?: string;
  /** How long programs wait for a worker that offers their language, or for a Redis that is gone. Seconds, default 60. */
  readonly waitS?: number;
  /** Programs of one language in Redis at a time. Default: twice what its workers judge at a time. */
  readonly inFlight?: number;
  readonly limits?: Limits;
  readonly stopAfterFailures?: number;
  readonly cache?: boolean;
  /** Times that a program goes to a worker again after the machinery of one failed it. Default 2. */
  readonly retries?: number;
  /** Told what a person should know: that it waits, for whom, and that Redis is gone or back. */
  readonly onNotice?: (text: string) => void;
  /** A Redis that owes an answer for so long is taken for gone. Seconds, default 20; more than the 5 that a wait for verdicts lasts. */
  readonly answerS?: number;
  /** Between two looks at who lives and what Redis still knows. Seconds, default 5. */
  readonly heartbeatS?: number;
}

export interface RedisPoolStats extends PoolStats {
  /** Sent again because Redis had forgotten them. */
  readonly resent: number;
  /** Results that came a second time, and were not counted. */
  readonly repeated: number;
}

export interface RedisPool extends VerifierPool {
  /** What a worker enforces stands in each of its verdicts. */
  readonly isolation: null;
  readonly languages: LanguageSet;
  readonly stats: () => RedisPoolStats;
  /** Of the language's tool on the workers that offer it; waits for one as a program would. null where none came. */
  toolVersion(language: Language): Promise<string | null>;
}

/** A client that was silent for so many heartbeats is taken for dead, and its programs are dropped. */
const SILENT_HEARTBEATS = 12;

/** @throws ConfigError when no Redis answers at the address */
export async function createRedisPool(options: RedisPoolOptions): Promise<RedisPool> {
  const address = readRedisUrl(options.url, "the address of Redis");
  let pool: RedisClientPool | null = null;
  const redis = await connectRedis(
    address,
    "fail",
    {
      onLost: (reason) => pool?.lostRedis(reason),
      onBack: () => pool?.foundRedis(),
    },
    options.answerS,
  );
  pool = new RedisClientPool(options, address, redis);
  try {
    await pool.open();
    for (const warning of [address.warning, await orLost(redis, () => evictionWarning(redis))])
      if (warning !== null) options.onNotice?.(warning);
    return pool;
  } catch (error) {
    await pool.close();
    throw error;
  }
}

class RedisClientPool implements RedisPool {
  readonly languages: LanguageSet;
  readonly isolation = null;
  readonly #options: RedisPoolOptions;
  readonly #address: RedisAddress;
  readonly #redis: Redis;
  readonly #blocking: Redis;
  readonly #names: Names;
  readonly #client = randomUUID();
  readonly #heartbeatMs: number;
  readonly #waitS: number;
  readonly #patience: Patience;
  readonly #flight: Flight;
  readonly #cache = new VerdictCache();
  readonly #lanes = new Map<string, Lane>();
  #workers: readonly Announcement[] = [];
  #loops: Promise<unknown> = Promise.resolve();
  #wake: () => void = () => {};
  #isClosed = false;
  #cached = 0;

  constructor(options: RedisPoolOptions, address: RedisAddress, redis: Redis) {
    this.#options = options;
    this.#address = address;
    this.#redis = redis;
    this.#blocking = blockingTwin(redis);
    this.#names = namesUnder(options.prefix);
    this.#heartbeatMs = (options.heartbeatS ?? 5) * 1000;
    this.#waitS = options.waitS ?? 60;
    this.languages = options.languages;
    this.#patience = new Patience({
      waitS: this.#waitS,
      heartbeatMs: this.#heartbeatMs,
      address,
      prefix: this.#names.prefix,
      tell: (text) => {
        if (!this.#isClosed) options.onNotice?.(text);
      },
    });
    this.#flight = new Flight({
      redis,
      names: this.#names,
      client: this.#client,
      inFlight: options.inFlight,
      retries: options.retries ?? 2,
      isOpen: () => !this.#isClosed && !this.#patience.isPaused,
      onRefusal: (reason) => this.#patience.refused(reason),
    });
  }

  async open(): Promise<void> {
    await orRefused(this.#address, this.#beat());
    this.#loops = Promise.all([this.#beatOn(), this.#readReplies()]);
  }

  readonly stats = (): RedisPoolStats => {
    const { judged: done, resent, repeated } = this.#flight;
    return { ...this.#flight.counts(), done, cached: this.#cached, resent, repeated };
  };

  async verify(submission: Submission): Promise<Verdict> {
    const { task, program } = submission;
    const language = this.languages.get(submission.language);
    if (program === null) return noProgramVerdict(task, language, submission.isTruncated ?? false);
    const lane = this.#lane(language);
    const checker = this.#checkerLanguage(task);
    const stopAfter = submission.stopAfterFailures ?? this.#options.stopAfterFailures ?? null;
    const judge = () => this.#judge(task, lane, program, stopAfter, checker);
    if (this.#options.cache === false) return judge();
    const key = verdictKey({
      program,
      tool: this.#toolOnOffer(language),
      task,
      checkerTool: checker && this.#toolOnOffer(checker),
      limits: this.#options.limits ?? {},
      stopAfterFailures: stopAfter,
      keepChars: 0, // the workers' own affair, the same for all
      feedback: {},
      isolation: lane.offer.isolations,
    });
    const verdict = await this.#cache.get(key, judge);
    if (verdict.cached) this.#cached++;
    return verdict;
  }

  /** null: no checker. @throws ConfigError for a language that no file defines */
  #checkerLanguage({ id, comparator }: Task): Language | null {
    if (typeof comparator === "string") return null;
    const { language } = comparator.checker;
    const found = this.languages.find(language);
    if (found) return found;
    const at = `task ${id}: comparator.checker.language`;
    throw new ConfigError({ at, got: language, need: `one of ${this.languages.names.join(", ")}` });
  }

  #judge(
    task: Task,
    lane: Lane,
    program: string,
    stopAfter: number | null,
    checker: Language | null,
  ): Promise<Verdict> {
    const { reference: _none, ...asked } = task;
    const job: JudgeJob = {
      protocol: PROTOCOL,
      language: lane.language.name,
      program,
      task: { ...asked, prompt: "", limits: mergedLimits(this.#options.limits ?? {}, task.limits) },
      stop_after_failures: stopAfter,
      checker_digest: checker === null ? null : languageDigest(checker),
    };
    const verdict = this.#flight.submit(task, lane, job);
    if (this.#isClosed) this.#flight.failAll(null, "the pool was closed");
    else this.#patience.giveUp(this.#lanes.values(), this.#flight);
    return verdict;
  }

  /** All versions there are: when a worker with another one joins, programs are judged again. */
  #toolOnOffer(language: Language): Tool {
    return { language, version: offerOf(this.#workers, language).versions.join(" and ") };
  }

  #lane(language: Language): Lane {
    const known = this.#lanes.get(language.name);
    if (known) return known;
    const lane = this.#flight.lane(language, offerOf(this.#workers, language));
    this.#lanes.set(language.name, lane);
    this.#patience.look(lane, this.#workers);
    return lane;
  }

  async toolVersion(language: Language): Promise<string | null> {
    const lane = this.#lane(language);
    const until = performance.now() + this.#waitS * 1000;
    while (lane.offer.capacity === 0 && performance.now() < until && !this.#isClosed) {
      this.#patience.tellWhoIsMissing(lane);
      await sleep(50);
    }
    return lane.offer.versions.length === 0 ? null : lane.offer.versions.join(" and ");
  }

  lostRedis(reason: string): void {
    this.#patience.lost(reason);
  }

  foundRedis(): void {
    this.#patience.found();
    this.#wake();
  }

  async #readReplies(): Promise<void> {
    const key = this.#names.replies(this.#client);
    while (!this.#isClosed) {
      try {
        const first = await this.#blocking.blpop(key, 5);
        if (first === null) continue;
        const more = (await this.#redis.lpop(key, 256)) ?? [];
        for (const text of [first[1], ...more]) this.#take(text);
      } catch {
        await sleep(100); // an outage; the connection's watcher tells of it
      }
    }
  }

  #take(text: string): void {
    const reply = parseReply(text);
    const id = reply === null ? null : parseJobId(reply.id);
    if (reply !== null && id?.client === this.#client) this.#flight.take(reply, id);
  }

  async #beatOn(): Promise<void> {
    while (!this.#isClosed) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, this.#heartbeatMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      if (this.#isClosed) return;
      await this.#beat().catch((error) => {
        if (!(error instanceof ConnectionLost)) this.#patience.askedInVain(reasonOf(error));
      });
      this.#lookAround();
    }
  }

  /**
   * Tells Redis that we live, and asks it who does and what it knows. Ends with the connection: what waits is given up in time, and
   * nothing is concluded from answers that come after an outage.
   */
  async #beat(): Promise<void> {
    const redis = this.#redis;
    if (redis.status !== "ready") return;
    await orLost(redis, () =>
      sayAlive(redis, this.#names, this.#client, SILENT_HEARTBEATS * this.#heartbeatMs),
    );
    this.#workers = await orLost(redis, () => roster(redis, this.#names));
    await orLost(redis, () => this.#flight.sendForgotten());
    await orLost(redis, () => renewQueues(redis, this.#names, this.#queuesUsed()));
    this.#patience.asked();
  }

  #lookAround(): void {
    for (const lane of this.#lanes.values()) this.#patience.look(lane, this.#workers);
    this.#patience.giveUp(this.#lanes.values(), this.#flight);
    this.#flight.sendHeld();
  }

  #queuesUsed(): string[] {
    return [...this.#lanes.values()].filter(({ queue }) => queue !== null).map((lane) => lane.queueName);
  }

  async close(): Promise<void> {
    if (this.#isClosed) return;
    // Where Redis is gone, what is left there ends by itself.
    await orLost(this.#redis, () => this.#flight.withdrawAll()).catch(() => {});
    this.#isClosed = true;
    this.#flight.failAll(null, "the pool was closed");
    await orLost(this.#redis, () => this.#leaveNothing()).catch(() => {});
    this.#wake();
    // ioredis settles no command that was under way when its connection broke: such a wait for replies would never end.
    const endsWithUs = [this.#redis, this.#blocking].every(({ status }) => status === "ready");
    this.#blocking.disconnect();
    await Promise.all([...this.#lanes.values()].map(({ queue }) => queue?.close()));
    this.#redis.disconnect();
    if (endsWithUs) await this.#loops;
  }

  async #leaveNothing(): Promise<void> {
    await sayGoodbye(this.#redis, this.#names, this.#client);
    if (!(await isDeserted(this.#redis, this.#names))) return;
    await removeQueues(this.#redis, this.#names, this.#queuesUsed());
  }
}

/** The run's limits under the task's: a task that sets the wall time alone sets the CPU time with it. */
function mergedLimits(run: Limits, task: Limits): Limits {
  const { cpu_s, ...rest } = run;
  const hasOwnTime = task.time_s !== undefined && task.cpu_s === undefined;
  return { ...rest, ...(hasOwnTime || cpu_s === undefined ? {} : { cpu_s }), ...task };
}
