/**
 * Checker programs, in the broker: stdin.txt, stdout.txt and answer.txt in, an exit status and a message out. A checker
 * runs in a sandbox of its own, under its own limits; the judged program never sees it, nor the answer.
 */
import { createHash } from "node:crypto";
import {
  CheckerFailure,
  failureOf,
  hasAccepted,
  hasAnswered,
  how,
  message,
  nameOf,
} from "./checker-report.js";
import { CheckerSandboxes, type OpenChecker } from "./checker-sandboxes.js";
import type { CheckerPlan } from "./job.js";
import { statusOf } from "./judge.js";
import type { RunReport } from "./protocol.js";
import type { Sandbox, Surroundings } from "./sandbox.js";

/** They stand in the sandbox's folder beside the checker, which has 128 MiB. */
const MAX_FILES_BYTES = 112 * 1024 * 1024;
const TOO_LONG = "The output is too long for the checker.";
/** Its arguments too, in testlib's order. */
const FILES = ["stdin.txt", "stdout.txt", "answer.txt"] as const;
const MAX_PROVEN = 100_000;
const NO_INPUT = Buffer.alloc(0);

/** What a checker said of one output. */
export interface Check {
  readonly status: "accepted" | "wrong_answer";
  readonly message: string;
}

export interface CheckedTest {
  /** From 0. */
  readonly index: number;
  readonly input: Buffer;
  readonly answer: Buffer;
}

/** The checker of one job. */
export interface CheckerSession {
  /** @throws CheckerFailure when the checker cannot judge this test: nobody's program is to blame */
  check(test: CheckedTest, output: Buffer): Promise<Check>;
  /** Leaves the sandbox to the next job. */
  release(): void;
}

export class Checkers {
  readonly sandboxes: CheckerSandboxes;
  /** Tests on whose expected output a checker was seen to work. */
  readonly #proven = new Set<string>();

  /** @param most - jobs that run at a time */
  constructor(take: (surroundings: Surroundings) => Promise<Sandbox>, most: number) {
    this.sandboxes = new CheckerSandboxes(take, most);
  }

  session(plan: CheckerPlan): CheckerSession {
    return new Session(this, plan);
  }

  isProven(test: string): boolean {
    return this.#proven.has(test);
  }

  prove(test: string): void {
    if (this.#proven.size >= MAX_PROVEN) this.#proven.clear();
    this.#proven.add(test);
  }
}

class Session implements CheckerSession {
  readonly #all: Checkers;
  readonly #plan: CheckerPlan;
  readonly #key: string;
  #open: OpenChecker | null = null;
  #mayRetry = true;

  constructor(all: Checkers, plan: CheckerPlan) {
    this.#all = all;
    this.#plan = plan;
    this.#key = digest([JSON.stringify(plan)]);
  }

  async check(test: CheckedTest, output: Buffer): Promise<Check> {
    if (output.length > this.#room(test)) return { status: "wrong_answer", message: TOO_LONG };
    let report = await this.#run(test, output);
    if (!hasAnswered(report) && this.#mayRetry) {
      this.#mayRetry = false; // an output made to hang its checker costs two time limits, not two a test
      report = await this.#run(test, output);
    }
    if (hasAccepted(report)) return { status: "accepted", message: message(report, this.#plan) };
    await this.#mustWork(test);
    if (hasAnswered(report)) return { status: "wrong_answer", message: message(report, this.#plan) };
    return { status: "wrong_answer", message: `The checker failed on this output: ${how(report)}.` };
  }

  /** Bytes that an output may have. */
  #room({ index, input, answer }: CheckedTest): number {
    const room = MAX_FILES_BYTES - input.length - 2 * answer.length;
    if (room >= 0) return room;
    throw new CheckerFailure(`test ${index + 1} is too large for a checker: 112 MiB of files at most`);
  }

  /**
   * A checker that refuses an output, or fails on it, counts only when it works on the expected output: else no program
   * could pass, and none is to blame. An output that breaks a checker which works is a wrong answer: a policy must not
   * learn that such outputs go unpunished.
   */
  async #mustWork(test: CheckedTest): Promise<void> {
    const key = digest([this.#key, String(test.input.length), test.input, test.answer]);
    if (this.#all.isProven(key)) return;
    const report = await this.#run(test, test.answer);
    const mustAccept = this.#plan.acceptsAnswer && !isBlank(test.answer);
    const works = mustAccept ? hasAccepted(report) : hasAnswered(report);
    if (works) return this.#all.prove(key);
    const verb = hasAnswered(report) ? "refuses" : "fails on";
    const place = `the expected output of test ${test.index + 1}`;
    throw new CheckerFailure(`${nameOf(this.#plan)} ${verb} ${place}: ${failureOf(report, this.#plan)}`);
  }

  async #run(test: CheckedTest, output: Buffer): Promise<RunReport> {
    const bytes = [test.input, output, test.answer];
    this.#open ??= await this.#all.sandboxes.open(this.#key, this.#plan);
    const checker = this.#open;
    const { execute: command, env, limits } = this.#plan;
    try {
      checker.sandbox.load(FILES.map((name, i) => ({ name, bytes: bytes[i]! })));
      const report = await checker.sandbox.run({
        phase: "run",
        command,
        args: FILES,
        env,
        stdin: NO_INPUT,
        limits,
      });
      if (report.kind === "broken") await this.#discard();
      if (statusOf(report, limits, null, "exit") === "infrastructure")
        throw new CheckerFailure(`${nameOf(this.#plan)} did not run: ${report.message || report.kind}`);
      return report;
    } catch (error) {
      await this.#discard();
      throw error;
    }
  }

  async #discard(): Promise<void> {
    const checker = this.#open;
    this.#open = null;
    if (checker !== null) await this.#all.sandboxes.discard(checker);
  }

  release(): void {
    if (this.#open !== null) this.#all.sandboxes.keep(this.#open);
    this.#open = null;
  }
}

const isBlank = (text: Buffer): boolean => text.every((byte) => byte === 32 || (byte >= 9 && byte <= 13));

function digest(parts: readonly (string | Buffer)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("base64");
}
