/** One job in the broker: compile once, run each test, judge it at once, keep what the verdict needs. */

import { InfrastructureError } from "../core/errors.js";
import type { Status, TestOutcome } from "../core/index.js";
import type { CheckerSession } from "./checker.js";
import { CheckerFailure } from "./checker-report.js";
import type { JobResult, JobTest, SentJob } from "./job.js";
import { bytesOf } from "./job-tests.js";
import { outcomeOf, statusOf } from "./judge.js";
import type { RunReport } from "./protocol.js";
import type { Sandbox } from "./sandbox.js";

/** The first error may come after many warnings, and only one message is kept of a program. */
const COMPILER_CHARS = 64 * 1024;
const EMPTY = Buffer.alloc(0);

export interface StreamedInput {
  /** Called once the program runs; `send` takes its stdin, null ends it. */
  onReady(send: (bytes: Buffer | null) => void): void;
  onOutput(stream: "stdout" | "stderr", bytes: Buffer): void;
}

export interface JobContext {
  /** A sandbox that has run nothing; it is left open, and told through `onSandbox`. */
  take(): Promise<Sandbox>;
  /** One that did not come with the job. */
  test(index: number): Promise<JobTest>;
  readonly stream: StreamedInput | null;
  readonly checker: CheckerSession | null;
  onSandbox(sandbox: Sandbox): void;
}

/** Never throws: a failure of ours is the result's `infrastructure`. */
export async function runJob(job: SentJob, context: JobContext): Promise<JobResult> {
  const tests: TestOutcome[] = [];
  let compiler: TestOutcome | null = null;
  const withCompiler = () => (compiler === null ? {} : { compiler });
  try {
    while (tests.length < job.tests.length || job.tests.length === 0) {
      const sandbox = await context.take();
      context.onSandbox(sandbox);
      const { compile, isOver } = await inOneSandbox(sandbox, job, tests, context, (outcome) => {
        compiler = outcome;
      });
      if (!isOver) await sandbox.close();
      if (isOver) return { id: job.id, compile, ...withCompiler(), tests, infrastructure: null };
    }
    return { id: job.id, compile: null, ...withCompiler(), tests, infrastructure: null };
  } catch (error) {
    // Whatever it is, it must not take the broker down, and with it the programs that run beside this one.
    return {
      id: job.id,
      compile: null,
      tests: [],
      infrastructure:
        error instanceof InfrastructureError ? error.message : `the judge failed: ${String(error)}`,
      isCheckerFailure: error instanceof CheckerFailure,
    };
  }
}

/**
 * Runs the tests that have no outcome yet, as far as one sandbox goes: one that the kernel killed for want of memory is
 * replaced, and the program compiled anew, for the tests that remain.
 */
async function inOneSandbox(
  sandbox: Sandbox,
  job: SentJob,
  tests: TestOutcome[],
  { test: testOf, stream, checker }: JobContext,
  onCompiled: (compiler: TestOutcome | null) => void,
): Promise<{ compile: TestOutcome | null; isOver: boolean }> {
  const extra = (job.files ?? []).map(({ name, bytes }) => ({ name, bytes: Buffer.from(bytes) }));
  sandbox.load([{ name: job.fileName, bytes: Buffer.from(job.program, "utf8") }, ...extra]);
  const compiler = await compileWith(sandbox, job);
  onCompiled(compiler);
  if (compiler !== null && compiler.status !== "accepted")
    return { compile: { ...compiler, status: "compile_error" }, isOver: true };
  while (tests.length < job.tests.length) {
    const index = tests.length;
    const test = job.tests[index] ?? (await testOf(index));
    const report = await runTest(sandbox, job, bytesOf(test.input), stream);
    const expected = test.expected === null ? null : bytesOf(test.expected);
    const status = checked(statusOf(report, job.limits, expected, job.comparator), report);
    const outcome = outcomeOf(report, status, job.keepChars);
    const checkedTest = { index, input: bytesOf(test.input), answer: expected ?? EMPTY };
    const check = status === "accepted" ? await checker?.check(checkedTest, report.stdout) : undefined;
    tests.push({ ...outcome, ...check });
    if (hasFailedEnough(job, tests)) return { compile: null, isOver: true };
    if (report.kind === "broken") return { compile: null, isOver: tests.length === job.tests.length };
  }
  return { compile: null, isOver: true };
}

function hasFailedEnough({ stopAfterFailures }: SentJob, tests: readonly TestOutcome[]): boolean {
  if (stopAfterFailures === null) return false;
  return tests.filter(({ status }) => status !== "accepted").length >= stopAfterFailures;
}

function runTest(
  sandbox: Sandbox,
  job: SentJob,
  input: Buffer,
  stream: StreamedInput | null,
): Promise<RunReport> {
  const { execute: command, args = [], env, limits } = job;
  const base = { phase: "run", command, args, env, limits } as const;
  if (stream === null) return sandbox.run({ ...base, stdin: input });
  const running = sandbox.run({ ...base, stdin: EMPTY, onOutput: stream.onOutput });
  stream.onReady((bytes) => sandbox.sendInput(bytes));
  return running;
}

/** null when there is nothing to compile; whatever stops the compiler is a compile error to the caller. */
async function compileWith(sandbox: Sandbox, job: SentJob): Promise<TestOutcome | null> {
  if (job.compile === null) return null;
  const { compileLimits: limits } = job;
  const report = await sandbox.run({
    phase: "compile",
    command: job.compile,
    env: job.env,
    stdin: EMPTY,
    limits,
  });
  const status = checked(statusOf(report, limits, null, "exit"), report);
  return outcomeOf(report, status, Math.max(job.keepChars, COMPILER_CHARS));
}

/** @throws InfrastructureError when the run's status is our own failure */
function checked(status: Status, report: RunReport): Status {
  if (status === "infrastructure")
    throw new InfrastructureError(report.message || `the sandbox reported ${report.kind}`);
  return status;
}
