/**
 * Programs that wait for a sandbox. Each request has a lane, and lanes take turns: a batch of ten thousand does not make
 * the single program that comes after it wait for all of them. What has not started can be called off.
 */
import { RequestError } from "./request-error.js";

interface Waiting {
  readonly run: (done: () => void) => void;
  readonly reject: (why: Error) => void;
}

export class RunQueue {
  readonly #mayRun: number;
  readonly #mayWait: number;
  /** In the order of their next turn; a lane with nothing waiting is not here. */
  #turns: Lane[] = [];
  #waiting = 0;
  #running = 0;
  #meanRunS = 0.1;

  /** @param mayWait - programs beyond the running ones; more are answered 429 */
  constructor(mayRun: number, mayWait: number) {
    this.#mayRun = mayRun;
    this.#mayWait = mayWait;
  }

  get waiting(): number {
    return this.#waiting;
  }

  get running(): number {
    return this.#running;
  }

  /**
   * A lane for a request that brings `programs` of them, to be added at once.
   * @throws RequestError 429 when they do not fit; 413 when they never would
   */
  open(programs: number): Lane {
    if (programs > this.#mayRun + this.#mayWait) {
      const most = this.#mayRun + this.#mayWait;
      const advice = `send at most ${most} at a time, or start the service with a larger --max-queue`;
      throw new RequestError(413, "too_large", `${programs} programs in one request: ${advice}`);
    }
    const room = this.#mayRun - this.#running + this.#mayWait - this.#waiting;
    if (programs > room) {
      const message = `${this.#waiting} programs wait already (--max-queue ${this.#mayWait}); try again later`;
      throw new RequestError(429, "queue", message, this.#secondsUntilRoom());
    }
    return new Lane(
      (lane) => this.#arrived(lane),
      (left) => this.#left(left),
    );
  }

  /** A guess from how long programs took lately; what Retry-After says. */
  #secondsUntilRoom(): number {
    const seconds = (this.#waiting * this.#meanRunS) / this.#mayRun;
    return Math.min(60, Math.max(1, Math.ceil(seconds)));
  }

  #arrived(lane: Lane): void {
    this.#waiting++;
    if (!this.#turns.includes(lane)) this.#turns.push(lane);
    this.#startSome();
  }

  #left({ lane, programs }: { lane: Lane; programs: number }): void {
    this.#waiting -= programs;
    this.#turns = this.#turns.filter((other) => other !== lane);
  }

  #startSome(): void {
    while (this.#running < this.#mayRun && this.#turns.length > 0) {
      const lane = this.#turns.shift()!;
      const next = lane.take();
      if (lane.length > 0) this.#turns.push(lane);
      if (next === null) continue;
      this.#waiting--;
      this.#running++;
      const startedMs = performance.now();
      next(() => {
        this.#running--;
        this.#meanRunS += 0.05 * ((performance.now() - startedMs) / 1000 - this.#meanRunS);
        this.#startSome();
      });
    }
  }
}

/** The programs of one request. */
export class Lane {
  readonly #waiting: Waiting[] = [];
  readonly #arrived: (lane: Lane) => void;
  readonly #left: (left: { lane: Lane; programs: number }) => void;
  #calledOff: Error | null = null;

  constructor(arrived: (lane: Lane) => void, left: (left: { lane: Lane; programs: number }) => void) {
    this.#arrived = arrived;
    this.#left = left;
  }

  get length(): number {
    return this.#waiting.length;
  }

  /** The queue's side: the next program to start, which calls back when it is over. */
  take(): ((done: () => void) => void) | null {
    return this.#waiting.shift()?.run ?? null;
  }

  /** Runs `program` when its turn comes. Rejects with the reason given to `callOff` when that came first. */
  run<T>(program: (waitedMs: number) => Promise<T>): Promise<T> {
    if (this.#calledOff !== null) return Promise.reject(this.#calledOff);
    const arrivedMs = performance.now();
    return new Promise<T>((resolve, reject) => {
      const run = (done: () => void): void => {
        program(performance.now() - arrivedMs)
          .then(resolve, reject)
          .finally(done);
      };
      this.#waiting.push({ run, reject });
      this.#arrived(this);
    });
  }

  /** Nothing of this lane starts any more; what runs, runs on. */
  callOff(why: Error): void {
    if (this.#calledOff !== null) return;
    this.#calledOff = why;
    const dropped = this.#waiting.splice(0);
    if (dropped.length > 0) this.#left({ lane: this, programs: dropped.length });
    for (const { reject } of dropped) reject(why);
  }
}
