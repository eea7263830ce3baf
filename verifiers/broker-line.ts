/** The way to the broker: jobs wait their turn, and a broker that died is replaced. */
import { InfrastructureError } from "../core/index.js";
import { type Broker, startBroker } from "./broker.js";
import type { BrokerOptions, Isolation, Job, JobResult } from "./job.js";
import { demand, type Requirements } from "./requirements.js";

export interface Streams {
  /** Called once with a function that takes the program's stdin; null ends it. */
  onReady(send: (bytes: Buffer | null) => void): void;
  onOutput(stream: "stdout" | "stderr", bytes: Buffer): void;
}

interface Queued {
  readonly job: Job;
  readonly streams: Streams | null;
  readonly resolve: (result: JobResult) => void;
}

/** Sent ahead of need, so that a slot never waits for the main process. */
const AHEAD = 2;

/** @throws ConfigError where programs cannot be isolated, or not as demanded */
export const openBrokerLine = async (options: BrokerOptions, require: Requirements): Promise<BrokerLine> =>
  new BrokerLine(options, require, await startAsDemanded(options, require));

async function startAsDemanded(options: BrokerOptions, require: Requirements): Promise<Broker> {
  const broker = await startBroker(options);
  try {
    demand(require, broker.isolation);
    return broker;
  } catch (error) {
    await broker.close();
    throw error;
  }
}

export class BrokerLine {
  readonly isolation: Isolation;
  readonly #options: BrokerOptions;
  readonly #require: Requirements;
  readonly #queue: Queued[] = [];
  #broker: Broker;
  #restarting: Promise<void> | null = null;
  #isClosed = false;
  #nextId = 1;
  #running = 0;

  constructor(options: BrokerOptions, require: Requirements, broker: Broker) {
    this.#options = options;
    this.#require = require;
    this.#broker = broker;
    this.isolation = broker.isolation;
  }

  stats = (): { waiting: number; running: number } => ({
    waiting: this.#queue.length,
    running: this.#running,
  });
  pid = (): number => this.#broker.pid;
  survivors = (): Promise<readonly number[]> => this.#broker.survivors();
  isOpen = (): boolean => !this.#isClosed;

  /** Never rejects: what our own machinery could not do is the result's `infrastructure`. */
  run(job: Omit<Job, "id">, streams: Streams | null): Promise<JobResult> {
    return new Promise((resolve) => {
      this.#queue.push({ job: { ...job, id: this.#nextId++ }, streams, resolve });
      this.#sendJobs();
    });
  }

  #sendJobs(): void {
    while (this.#running < this.#options.workers + AHEAD && this.#queue.length > 0) {
      const queued = this.#queue.shift()!;
      this.#running++;
      void this.#throughBroker(queued).then((result) => {
        this.#running--;
        queued.resolve(result);
        this.#sendJobs();
      });
    }
  }

  async #throughBroker({ job, streams }: Queued): Promise<JobResult> {
    try {
      if (this.#isClosed) throw new InfrastructureError("the pool was closed");
      if (!this.#broker.isAlive()) await this.#restart();
      const running = this.#broker.run(job, streams?.onOutput);
      streams?.onReady((bytes) => this.#broker.sendInput(job.id, bytes));
      return await running;
    } catch (error) {
      return {
        id: job.id,
        compile: null,
        tests: [],
        infrastructure: error instanceof Error ? error.message : String(error),
      };
    }
  }

  /** One restart for all that notice at once. @throws InfrastructureError where the pool was closed meanwhile */
  #restart(): Promise<void> {
    this.#restarting ??= startAsDemanded(this.#options, this.#require)
      .then(async (broker) => {
        this.#broker = broker;
        if (!this.#isClosed) return;
        await broker.close();
        throw new InfrastructureError("the pool was closed");
      })
      .finally(() => {
        this.#restarting = null;
      });
    return this.#restarting;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#restarting?.catch(() => {}); // told to the jobs that wait for it
    await this.#broker.close();
  }
}
