/** What a worker does with one job: check it, judge it, tell its client. It never throws for what a job holds. */
import { type Job, WaitingError } from "bullmq";
import type { Redis } from "ioredis";
import type { Verdict } from "../../core/index.js";
import type { Language } from "../languages.js";
import { testLimits } from "../limits.js";
import type { LocalPool } from "../pool.js";
import { JudgeJob, JudgeProgress, type Reply } from "./messages.js";
import { languageDigest, type Names, parseJobId } from "./names.js";
import { MOST_STARTS, setAside } from "./poisoned.js";
import { isAlive, reply } from "./roster.js";
import type { Slots } from "./slots.js";
import type { WorkerEvent } from "./worker-events.js";

/** The most that a program may ask of this machine; one that asks for more is refused, not judged under less. */
export interface Ceilings {
  readonly timeS: number;
  readonly memoryMb: number;
  readonly outputMb: number;
}

export interface JudgeContext {
  readonly name: string;
  readonly redis: Redis;
  readonly names: Names;
  readonly pool: LocalPool;
  /** Names of the languages that work here. */
  readonly offered: ReadonlySet<string>;
  readonly ceilings: Ceilings;
  /** Programs judged at a time. */
  readonly slots: Slots;
  /** A program that was begun before is judged with no other such beside it: so the one that kills is found. */
  readonly alone: Slots;
  readonly onEvent: (event: WorkerEvent) => void;
}

/** First line of each language's probe, by name. */
export type ToolVersions = Readonly<Record<string, string | null>>;

type Answer =
  | { readonly kind: "verdict"; readonly verdict: Verdict }
  | { readonly kind: "refused"; readonly reason: string };

/** @throws WaitingError for BullMQ, after the job was given back */
export async function judgeJob(
  context: JudgeContext,
  language: Language,
  version: string | null,
  job: Job,
): Promise<void> {
  const id = job.id ?? "";
  const { redis, names, onEvent } = context;
  const client = parseJobId(id)?.client;
  if (client === undefined) return onEvent({ event: "dropped", id, reason: "no client of ours made it" });
  if (!(await isAlive(redis, names, client)))
    return onEvent({ event: "dropped", id, reason: "its client is gone" });
  const by = { worker: context.name, tool_version: version, isolation: { ...context.pool.isolation } };
  const tell = (message: { readonly kind: "started" } | Answer) =>
    reply(redis, names, client, { ...message, id, by } satisfies Omit<Reply, "verdict">);

  const parsed = JudgeJob.safeParse(job.data);
  const starts = startsOf(job);
  const objection = !parsed.success
    ? `a job that this version of Retort cannot read: ${parsed.error.issues[0]?.path.join(".")}: ${parsed.error.issues[0]?.message}`
    : objectionTo(context, parsed.data, language);
  if (!parsed.success || objection !== null) {
    onEvent({ event: "refused", id, reason: objection ?? "" });
    await tell({ kind: "refused", reason: objection ?? "" });
    return;
  }
  if (starts.length >= MOST_STARTS) return poisoned(context, parsed.data, id, starts, tell);

  const isSuspect = starts.length > 0;
  if (isSuspect && !(await context.alone.enter())) return giveBack(context, job);
  try {
    if (!(await context.slots.enter())) return await giveBack(context, job);
    try {
      await judge(context, parsed.data, job, starts, tell);
    } finally {
      context.slots.leave();
    }
  } finally {
    if (isSuspect) context.alone.leave();
  }
}

type Tell = (message: { readonly kind: "started" } | Answer) => Promise<boolean>;

async function judge(
  context: JudgeContext,
  asked: JudgeJob,
  job: Job,
  starts: readonly string[],
  tell: Tell,
): Promise<void> {
  const { onEvent, pool } = context;
  const { task, language } = asked;
  const [id, task_id] = [job.id ?? "", task.id];
  try {
    await job.updateProgress({ starts: [...starts, context.name] });
  } catch {
    return onEvent({ event: "dropped", id, reason: "Redis has forgotten it" });
  }
  onEvent({ event: "taken", id, task_id, language });
  await tell({ kind: "started" });
  const since = performance.now();
  const answer = await verdictOn(pool, asked, id);
  const isHeard = await tell(answer);
  const seconds = (performance.now() - since) / 1000;
  if (answer.kind === "refused") return onEvent({ event: "refused", id, reason: answer.reason });
  onEvent({ event: "judged", id, task_id, language, status: answer.verdict.status, seconds });
  if (!isHeard) onEvent({ event: "dropped", id, reason: "its client is gone" });
}

async function verdictOn(pool: LocalPool, asked: JudgeJob, id: string): Promise<Answer> {
  const { task, language, program, stop_after_failures: stop } = asked;
  const submission = { id, task, language, program };
  try {
    const verdict = await pool.verify(
      stop === null ? submission : { ...submission, stopAfterFailures: stop },
    );
    return { kind: "verdict", verdict };
  } catch (error) {
    return { kind: "refused", reason: (error as Error).message }; // what the pool refuses before it runs anything
  }
}

/** The workers that began to judge it. */
function startsOf(job: Job): readonly string[] {
  const progress = JudgeProgress.safeParse(job.progress);
  return progress.success ? progress.data.starts : [];
}

/** Why this worker must not judge it; null where it may. */
function objectionTo(
  { ceilings, pool, offered }: JudgeContext,
  asked: JudgeJob,
  language: Language,
): string | null {
  const { comparator } = asked.task;
  if (typeof comparator !== "string") {
    const checker = pool.languages.find(comparator.checker.language);
    if (checker === undefined || !offered.has(checker.name))
      return `its checker is a ${comparator.checker.language} program, and that language does not work here`;
    if (languageDigest(checker) !== asked.checker_digest)
      return `its checker is a ${checker.name} program, and ${checker.name}.yaml differs here`;
  }
  if (asked.language !== language.name) return `a ${asked.language} program in the queue of ${language.name}`;
  const limits = testLimits(language, {}, asked.task.limits);
  const wants = [
    { what: "time_s", got: Math.max(limits.timeMs, limits.cpuMs) / 1000, most: ceilings.timeS },
    { what: "memory_mb", got: limits.memoryMb, most: ceilings.memoryMb },
    { what: "output_kb", got: limits.outputBytes / 1024, most: ceilings.outputMb * 1024 },
  ];
  const over = wants.find(({ got, most }) => got > most);
  return over === undefined
    ? null
    : `it asks for ${over.what} ${over.got}, and this worker allows ${over.most}`;
}

async function giveBack(context: JudgeContext, job: Job): Promise<never> {
  await job.moveToWait(job.token);
  context.onEvent({ event: "given_back", id: job.id ?? "" });
  throw new WaitingError();
}

async function poisoned(
  context: JudgeContext,
  asked: JudgeJob,
  id: string,
  workers: readonly string[],
  tell: Tell,
): Promise<void> {
  const { redis, names, onEvent } = context;
  const reason = `${workers.length} workers died or fell silent while they judged this program (${workers.join(", ")}); it was set aside, and retort worker --poisoned shows it`;
  const { language, program, task } = asked;
  await setAside(redis, names, { id, task_id: task.id, language, program, workers: [...workers] });
  onEvent({ event: "set_aside", id, reason });
  await tell({ kind: "refused", reason });
}
