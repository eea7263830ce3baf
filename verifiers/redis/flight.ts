/** Programs on their way: held back until a worker can take them, in a queue, being judged; each settled once. */
import type { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { Task, Verdict } from "../../core/index.js";
import type { Language } from "../languages.js";
import { verdictOf } from "../verdict.js";
import { type JudgeJob, type Reply, verdictIn } from "./messages.js";
import { type JobId, jobIdText, KEPT_S, type Names, queueName } from "./names.js";
import type { Offer } from "./offers.js";
import { jobKey, openQueue } from "./queues.js";

/** Memory of Redis that one client may fill, unless a single program needs more. */
const BYTES_IN_FLIGHT = 64 * 1024 * 1024;
/** A job that vanishes so often is not an accident of the server. */
const MOST_ATTEMPTS = 20;

/** All of one language. */
export interface Lane {
  readonly language: Language;
  readonly queueName: string;
  queue: Queue | null;
  offer: Offer;
  /** By performance.now(); null while somebody offers it. */
  missingSince: number | null;
  /** Not settled yet. */
  pending: number;
  /** Of these, in Redis or on their way there. */
  inFlight: number;
  /** The rest, first come first. */
  readonly held: Item[];
}

const newLane = (language: Language, offer: Offer): Lane => ({
  language,
  queueName: queueName(language),
  queue: null,
  offer,
  missingSince: null,
  pending: 0,
  inFlight: 0,
  held: [],
});

/** One program. */
interface Item {
  readonly number: number;
  readonly task: Task;
  readonly lane: Lane;
  readonly job: JudgeJob;
  readonly bytes: number;
  readonly resolve: (verdict: Verdict) => void;
  /** Its job's id is new with each. */
  attempt: number;
  state: "held" | "sending" | "queued" | "running";
  /** Workers whose own machinery failed it. */
  failures: number;
  /** Looks in a row at which Redis did not know its job. */
  missed: number;
}

export interface FlightOptions {
  readonly redis: Redis;
  readonly names: Names;
  readonly client: string;
  /** Programs of one language in Redis at a time; undefined: twice what its workers judge at a time. */
  readonly inFlight: number | undefined;
  /** After an infrastructure failure of a worker. */
  readonly retries: number;
  /** Whether Redis takes programs now. */
  readonly isOpen: () => boolean;
  /** Redis answered a program with an error; null: it took one. */
  readonly onRefusal: (reason: string | null) => void;
}

export class Flight {
  readonly #options: FlightOptions;
  readonly #items = new Map<number, Item>();
  readonly #lanes: Lane[] = [];
  readonly #sending = new Set<Promise<void>>();
  #nextNumber = 1;
  #bytes = 0;
  /** Sent again because Redis had forgotten them. */
  resent = 0;
  /** Results that came a second time, and were not counted. */
  repeated = 0;
  judged = 0;

  constructor(options: FlightOptions) {
    this.#options = options;
  }

  counts(): { readonly waiting: number; readonly running: number } {
    const running = [...this.#items.values()].filter(({ state }) => state === "running").length;
    return { waiting: this.#items.size - running, running };
  }

  submit(task: Task, lane: Lane, job: JudgeJob): Promise<Verdict> {
    const bytes = task.tests.reduce(
      (sum, { input, output }) => sum + input.length + output.length,
      job.program.length,
    );
    return new Promise((resolve) => {
      const number = this.#nextNumber++;
      const fresh = { attempt: 0, state: "held", failures: 0, missed: 0 } as const;
      const item: Item = { number, task, lane, job, bytes, resolve, ...fresh };
      this.#items.set(number, item);
      lane.pending++;
      lane.held.push(item);
      this.sendHeld();
    });
  }

  lane(language: Language, offer: Offer): Lane {
    const lane = newLane(language, offer);
    this.#lanes.push(lane);
    return lane;
  }

  /** As many as the workers can take, in the order they came; each language for itself. */
  sendHeld(): void {
    for (const lane of this.#lanes) {
      const most = lane.offer.capacity === 0 ? 0 : (this.#options.inFlight ?? 2 * lane.offer.capacity);
      while (this.#options.isOpen() && lane.inFlight < most) {
        const item = lane.held[0];
        if (item === undefined) break;
        if (this.#bytes > 0 && this.#bytes + item.bytes > BYTES_IN_FLIGHT) return;
        lane.held.shift();
        lane.inFlight++;
        this.#bytes += item.bytes;
        const sending = this.#send(item);
        this.#sending.add(sending);
        void sending.then(() => this.#sending.delete(sending));
      }
    }
  }

  /** Puts a program into its queue under an id that was never used. */
  async #send(item: Item): Promise<void> {
    const { redis, names } = this.#options;
    item.state = "sending";
    item.missed = 0;
    item.attempt++;
    const { lane } = item;
    lane.queue ??= openQueue(redis, names, lane.language);
    const jobId = this.#jobId(item);
    try {
      await lane.queue.add("judge", item.job, { jobId, removeOnComplete: true, removeOnFail: true });
      await redis.expire(jobKey(names, lane.queueName, jobId), KEPT_S);
      if (!this.#items.has(item.number)) this.#takeBack(item); // given up while Redis was gone
      if (item.state === "sending") item.state = "queued";
      this.#options.onRefusal(null);
    } catch (error) {
      if (!this.#items.has(item.number)) return;
      this.#options.onRefusal((error as Error).message);
      this.#hold(item);
    }
  }

  #jobId({ number, attempt }: Item): string {
    return jobIdText({ client: this.#options.client, submission: number, attempt });
  }

  /** Back to where it waits, before those that never were on their way. */
  #hold(item: Item): void {
    if (item.state === "held") return;
    this.#land(item);
    item.state = "held";
    item.lane.held.unshift(item);
  }

  #land(item: Item): void {
    item.lane.inFlight--;
    this.#bytes -= item.bytes;
  }

  #settle(item: Item, verdict: Verdict): void {
    if (!this.#items.delete(item.number)) return;
    const { lane } = item;
    lane.pending--;
    if (item.state === "held") lane.held.splice(lane.held.indexOf(item), 1);
    else this.#land(item);
    item.resolve(verdict);
    this.sendHeld();
  }

  #fail(item: Item, infrastructure: string): void {
    const result = { id: 0, compile: null, tests: [], infrastructure };
    this.#settle(item, verdictOf(item.task, item.lane.language, result));
  }

  /** The first result of a submission counts, whichever attempt it came from; what else comes is passed over. */
  take(reply: Reply, id: JobId): void {
    const item = this.#items.get(id.submission);
    if (item === undefined) {
      if (reply.kind === "verdict") this.repeated++;
    } else if (reply.kind === "started") {
      if (id.attempt === item.attempt && item.state !== "held") item.state = "running";
    } else {
      if (id.attempt !== item.attempt) this.#takeBack(item);
      this.#conclude(item, reply);
    }
  }

  #conclude(item: Item, reply: Extract<Reply, { kind: "verdict" | "refused" }>): void {
    if (reply.kind === "refused") {
      this.#fail(item, `${reply.reason} (worker ${reply.by.worker})`);
    } else if (reply.verdict.status === "infrastructure" && item.failures < this.#options.retries) {
      item.failures++;
      this.#hold(item);
      this.sendHeld();
    } else {
      this.judged++;
      this.#settle(item, { ...verdictIn(reply), judgedBy: reply.by });
    }
  }

  #takeBack(item: Item): void {
    void item.lane.queue?.remove(this.#jobId(item)).catch(() => {});
  }

  /** Sends again what Redis does not know and no result came of: it was restarted, or a result was lost on its way. */
  async sendForgotten(): Promise<void> {
    const sent = [...this.#items.values()].filter(({ state }) => state === "queued" || state === "running");
    if (sent.length === 0) return;
    const { redis, names } = this.#options;
    const attempts = sent.map(({ attempt }) => attempt);
    const pipeline = redis.pipeline();
    for (const item of sent) pipeline.expire(jobKey(names, item.lane.queueName, this.#jobId(item)), KEPT_S);
    const answers = (await pipeline.exec()) ?? [];
    for (const [i, item] of sent.entries()) {
      if (item.attempt !== attempts[i] || !this.#items.has(item.number)) continue;
      item.missed = answers[i]?.[1] === 0 ? item.missed + 1 : 0;
      // Twice: a job ends a moment after its result is sent, and the result may lie in our list unread.
      if (item.missed >= 2) this.#sendAgain(item);
    }
  }

  #sendAgain(item: Item): void {
    if (item.attempt >= MOST_ATTEMPTS) {
      this.#fail(item, `its job vanished from Redis ${item.attempt} times`);
    } else {
      this.resent++;
      this.#hold(item);
    }
  }

  /** @param lane - null for every language */
  failAll(lane: Lane | null, reason: string): void {
    for (const item of [...this.#items.values()]) {
      if (lane !== null && item.lane !== lane) continue;
      if (item.state !== "held" && this.#options.isOpen()) this.#takeBack(item);
      this.#fail(item, reason);
    }
  }

  /** Takes out of the queues what nobody has begun. Resolves when Redis has done it. */
  async withdrawAll(): Promise<void> {
    await Promise.all(this.#sending);
    const sent = [...this.#items.values()].filter(({ state }) => state !== "held");
    await Promise.all(sent.map((item) => item.lane.queue?.remove(this.#jobId(item)).catch(() => 0)));
  }
}
