/** The pool's side of the broker process: start it, send jobs, await results. */
import { type ChildProcess, fork } from "node:child_process";
import { existsSync } from "node:fs";
import { builtModule, ConfigError, InfrastructureError } from "../core/index.js";
import { PATH } from "./bubblewrap.js";
import type { BrokerOptions, FromBroker, Isolation, Job, JobResult, JobTest, ToBroker } from "./job.js";
import { crossing, sentJob } from "./job-tests.js";

export interface Broker {
  readonly pid: number;
  readonly isolation: Isolation;
  /** @throws InfrastructureError when the broker dies first */
  run(job: Job, onOutput?: (stream: "stdout" | "stderr", bytes: Buffer) => void): Promise<JobResult>;
  sendInput(id: number, bytes: Buffer | null): void;
  /** None where the broker has died: its sandboxes die with it. */
  survivors(): Promise<readonly number[]>;
  readonly isAlive: () => boolean;
  close(): Promise<void>;
}

interface Waiting {
  readonly tests: readonly JobTest[];
  readonly resolve: (result: JobResult) => void;
  readonly reject: (error: Error) => void;
  readonly onOutput: ((stream: "stdout" | "stderr", bytes: Buffer) => void) | undefined;
}

/** @throws ConfigError where programs cannot be isolated, naming the fix */
export async function startBroker(options: BrokerOptions): Promise<Broker> {
  const script = builtModule("verifiers/broker-main.js");
  if (!existsSync(script))
    throw new ConfigError({ at: script, need: "the compiled broker", fix: "Build it: npm run build" });
  // A session of its own: Ctrl-C in the terminal must not reach the sandboxes.
  const child = fork(script, [], {
    detached: true,
    serialization: "advanced",
    execArgv: ["--max-old-space-size=256", "--max-semi-space-size=8"],
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    env: brokerEnvironment(options),
  });
  return new BrokerProcess(child, await firstAnswer(child, options));
}

function firstAnswer(child: ChildProcess, options: BrokerOptions): Promise<Isolation> {
  return new Promise((resolve, reject) => {
    const onExit = () => reject(new InfrastructureError("the broker process ended while it started"));
    // Not once: a child that could not be started errs a second time where it is sent something.
    child.on("error", (cause) =>
      reject(new InfrastructureError(`the broker did not start: ${cause.message}`, { cause })),
    );
    child.once("exit", onExit);
    child.once("message", (message: FromBroker) => {
      child.off("exit", onExit);
      if (message.type === "ready") resolve(message.isolation);
      else {
        child.disconnect();
        reject(message.type === "refused" ? refused(message.at, message.message) : new Error("unreachable"));
      }
    });
    child.send({ type: "start", options } satisfies ToBroker);
  });
}

/** The broker's ConfigError, thrown again on this side of the channel. */
function refused(at: string, message: string): ConfigError {
  const prefix = `${at}: need `;
  const need = message.startsWith(prefix) ? message.slice(prefix.length) : message;
  return new ConfigError({ at, need: need.replace(/\.$/, "") });
}

class BrokerProcess implements Broker {
  readonly pid: number;
  readonly isolation: Isolation;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #asked = new Map<number, (pids: readonly number[]) => void>();
  #questions = 0;
  #isAlive = true;

  constructor(child: ChildProcess, isolation: Isolation) {
    this.#child = child;
    this.pid = child.pid ?? -1;
    this.isolation = isolation;
    child.on("message", (message: FromBroker) => this.#receive(message));
    child.on("error", () => this.#end());
    child.on("exit", () => this.#end());
    this.#rest();
  }

  readonly isAlive = (): boolean => this.#isAlive;

  /** While nothing is asked of it, an open broker keeps nobody's process alive. */
  #rest(): void {
    const isIdle = this.#waiting.size === 0 && this.#asked.size === 0;
    if (isIdle) this.#child.unref();
    else this.#child.ref();
    if (isIdle) this.#child.channel?.unref();
    else this.#child.channel?.ref();
  }

  #send(message: ToBroker): void {
    if (this.#isAlive) this.#child.send(message, () => {}); // a failed send shows as exit
  }

  run(job: Job, onOutput?: Waiting["onOutput"]): Promise<JobResult> {
    if (!this.#isAlive) return Promise.reject(new InfrastructureError("the broker process ended"));
    return new Promise((resolve, reject) => {
      this.#waiting.set(job.id, { tests: job.tests, resolve, reject, onOutput });
      this.#rest();
      this.#send({ type: "job", job: sentJob(job) });
    });
  }

  sendInput(id: number, bytes: Buffer | null): void {
    this.#send({ type: "stdin", id, bytes });
  }

  survivors(): Promise<readonly number[]> {
    if (!this.#isAlive) return Promise.resolve([]);
    return new Promise((resolve) => {
      const id = this.#questions++;
      this.#asked.set(id, resolve);
      this.#rest();
      this.#send({ type: "survivors", id });
    });
  }

  #receive(message: FromBroker): void {
    if (message.type === "result") {
      const waiting = this.#waiting.get(message.result.id);
      this.#waiting.delete(message.result.id);
      waiting?.resolve(message.result);
    } else if (message.type === "want") {
      const { id, index } = message;
      const test = this.#waiting.get(id)?.tests[index];
      if (test !== undefined) this.#send({ type: "test", id, index, test: crossing(test) });
    } else if (message.type === "output") {
      this.#waiting.get(message.id)?.onOutput?.(message.stream, Buffer.from(message.bytes));
    } else if (message.type === "survivors") {
      this.#asked.get(message.id)?.(message.pids);
      this.#asked.delete(message.id);
    }
    this.#rest();
  }

  #end(): void {
    this.#isAlive = false;
    for (const waiting of this.#waiting.values())
      waiting.reject(new InfrastructureError("the broker process ended"));
    this.#waiting.clear();
    for (const answer of this.#asked.values()) answer([]);
    this.#asked.clear();
  }

  async close(): Promise<void> {
    if (!this.#isAlive) return;
    const ended = new Promise<void>((resolve) => {
      this.#child.once("exit", () => resolve());
    });
    this.#child.ref();
    if (this.#child.connected) this.#child.disconnect();
    await ended;
  }
}

/** Container tools find their settings, and Docker's daemon, by these. */
const CONTAINER_VARIABLES = /^(?:HOME$|XDG_|CONTAINER|DOCKER_)/;

function brokerEnvironment({ backend }: BrokerOptions): Record<string, string> {
  const environment: Record<string, string> = { PATH: process.env.PATH ?? PATH };
  if (backend === "bubblewrap") return environment;
  for (const [name, value] of Object.entries(process.env))
    if (value !== undefined && CONTAINER_VARIABLES.test(name)) environment[name] = value;
  return environment;
}
