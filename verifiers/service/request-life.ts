/** How long a request's programs are wanted: until its deadline, until its client has gone, until the service stops. */
import type { FastifyReply } from "fastify";
import { RequestError } from "./request-error.js";
import type { Lane } from "./run-queue.js";

/** A timer set for longer fires at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class RequestLife {
  readonly #lane: Pick<Lane, "callOff">;
  readonly #timer: NodeJS.Timeout;
  readonly #end: () => void;
  #rejectLate: (why: Error) => void = () => {};
  readonly #late: Promise<never>;

  /**
   * @param deadlineS - after so many seconds what has not started is called off with 504
   * @param stop - aborted with an Error when the service may wait no longer
   */
  constructor(lane: Pick<Lane, "callOff">, reply: FastifyReply, deadlineS: number, stop: AbortSignal) {
    this.#lane = lane;
    this.#late = new Promise<never>((_, reject) => {
      this.#rejectLate = reject;
    });
    this.#late.catch(() => {}); // nobody need be waiting for it
    const late = `no answer within ${deadlineS} s: the service is busy or the programs slow`;
    this.#timer = setTimeout(
      () => this.#callOff(new RequestError(504, "deadline", late, 1)),
      Math.min(LONGEST_TIMER_MS, deadlineS * 1000),
    );
    const gone = (): void => {
      if (!reply.raw.writableFinished) this.#callOff(new RequestError(499, "gone", "the client has gone"));
    };
    const stopped = (): void => this.#callOff(stop.reason as Error);
    reply.raw.once("close", gone);
    stop.addEventListener("abort", stopped, { once: true });
    this.#end = () => {
      reply.raw.off("close", gone);
      stop.removeEventListener("abort", stopped);
    };
    if (stop.aborted) stopped();
  }

  #callOff(why: Error): void {
    this.#lane.callOff(why);
    this.#rejectLate(why);
  }

  /** The answer of one program, or the reason why it comes too late, also where it runs already. */
  inTime<T>(answer: Promise<T>): Promise<T> {
    answer.catch(() => {}); // told by the race
    return Promise.race([answer, this.#late]);
  }

  /** To be called when the reply is decided. */
  over(): void {
    clearTimeout(this.#timer);
    this.#end();
  }
}
