import type { FastifyReply } from "fastify";
import type { Programs } from "./programs.js";
import { RequestLife } from "./request-life.js";
import type { Lane } from "./run-queue.js";
import { Runtimes } from "./runtimes.js";

/** What every API of the service works with. */
export class ServiceParts {
  readonly programs: Programs;
  readonly runtimes: Runtimes;
  /** Seconds after which no request waits any longer. */
  readonly deadlineS: number;
  readonly #stop: AbortSignal;

  /** @param stop - aborted when nothing may be waited for any longer */
  constructor(programs: Programs, deadlineS: number, stop: AbortSignal) {
    this.programs = programs;
    this.runtimes = new Runtimes(programs.pool);
    this.deadlineS = deadlineS;
    this.#stop = stop;
  }

  life(lane: Lane, reply: FastifyReply, deadlineS: number): RequestLife {
    return new RequestLife(lane, reply, deadlineS, this.#stop);
  }
}
