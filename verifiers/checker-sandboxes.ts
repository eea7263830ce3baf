/**
 * Sandboxes of checker programs. One that was compiled is kept for the next program of its task: every run in it starts
 * with a fresh /tmp and a read-only /w, so that it remembers nothing of an output.
 */

import { CheckerFailure, failureOf, nameOf } from "./checker-report.js";
import type { CheckerPlan } from "./job.js";
import { statusOf } from "./judge.js";
import type { Sandbox, Surroundings } from "./sandbox.js";

/** An idle sandbox is a process or two; the next program of a task comes much sooner than this. */
const IDLE_MS = 30_000;
const NO_INPUT = Buffer.alloc(0);

export interface OpenChecker {
  readonly key: string;
  readonly sandbox: Sandbox;
}

interface Idle {
  readonly checker: OpenChecker;
  readonly timer: NodeJS.Timeout;
}

export class CheckerSandboxes {
  readonly #take: (surroundings: Surroundings) => Promise<Sandbox>;
  readonly #most: number;
  readonly #idleMs: number;
  readonly #idle: Idle[] = [];
  readonly #used = new Set<OpenChecker>();
  readonly #closing = new Set<Promise<void>>();
  #opening = 0;

  /** @param most - open at a time: one for each job that may run */
  constructor(take: (surroundings: Surroundings) => Promise<Sandbox>, most: number, idleMs = IDLE_MS) {
    this.#take = take;
    this.#most = most;
    this.#idleMs = idleMs;
  }

  /**
   * Compiled and ready; give it back with `keep` or `discard`.
   * @param key - the same for equal plans only
   * @throws CheckerFailure when it does not compile
   */
  async open(key: string, plan: CheckerPlan): Promise<OpenChecker> {
    const ready = this.#idle.findIndex(({ checker }) => checker.key === key);
    const checker = ready >= 0 ? this.#withdraw(ready) : await this.#start(key, plan);
    this.#used.add(checker);
    if (ready >= 0) return checker;
    try {
      await compile(checker.sandbox, plan);
    } catch (error) {
      await this.discard(checker);
      throw error;
    }
    return checker;
  }

  async #start(key: string, plan: CheckerPlan): Promise<OpenChecker> {
    this.#opening++;
    try {
      while (this.#opening + this.#used.size + this.#idle.length + this.#closing.size > this.#most) {
        if (this.#idle.length > 0) await this.#close(this.#withdraw(0));
        else await Promise.all(this.#closing);
      }
      return { key, sandbox: await this.#take({ mounts: plan.mounts, image: plan.image }) };
    } finally {
      this.#opening--;
    }
  }

  #withdraw(index: number): OpenChecker {
    const [{ checker, timer }] = this.#idle.splice(index, 1) as [Idle];
    clearTimeout(timer);
    return checker;
  }

  keep(checker: OpenChecker): void {
    this.#used.delete(checker);
    const timer = setTimeout(() => {
      void this.#close(this.#withdraw(this.#idle.findIndex((idle) => idle.checker === checker)));
    }, this.#idleMs);
    this.#idle.push({ checker, timer: timer.unref() });
  }

  discard(checker: OpenChecker): Promise<void> {
    this.#used.delete(checker);
    return this.#close(checker);
  }

  #close({ sandbox }: OpenChecker): Promise<void> {
    const closing = sandbox.close().finally(() => this.#closing.delete(closing));
    this.#closing.add(closing);
    return closing;
  }

  async close(): Promise<void> {
    while (this.#idle.length > 0) void this.#close(this.#withdraw(0));
    for (const checker of [...this.#used]) void this.discard(checker);
    await Promise.all(this.#closing);
  }
}

async function compile(sandbox: Sandbox, plan: CheckerPlan): Promise<void> {
  sandbox.load([{ name: plan.fileName, bytes: Buffer.from(plan.program, "utf8") }]);
  if (plan.compile === null) return;
  const { compile: command, env, compileLimits: limits } = plan;
  const report = await sandbox.run({ phase: "compile", command, env, stdin: NO_INPUT, limits });
  const status = statusOf(report, limits, null, "exit");
  if (status !== "accepted")
    throw new CheckerFailure(`${nameOf(plan)} does not compile: ${failureOf(report, plan)}`);
}
