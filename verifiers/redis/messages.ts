/** What crosses Redis, checked by whoever reads it: a foreign or broken message must harm nobody. */
import { z } from "zod";
import { STATUSES, Task, type Verdict } from "../../core/index.js";

/** Changes when a worker of the version before could not judge rightly; it then refuses the job. */
export const PROTOCOL = 1;

/** A program to judge. No command ever crosses: a worker runs only the languages of its own files. */
export const JudgeJob = z.strictObject({
  protocol: z.literal(PROTOCOL),
  language: z.string().min(1),
  program: z.string(),
  /** Without prompt and references, with the run's limits merged into its own. */
  task: Task,
  stop_after_failures: z.int().positive().nullable(),
  /** Of the definition of the checker's language; null: no checker. */
  checker_digest: z.string().nullable(),
});
export type JudgeJob = z.infer<typeof JudgeJob>;

/** BullMQ's progress of a job: the workers that began to judge it, in order. */
export const JudgeProgress = z.object({ starts: z.array(z.string()) });

const Outcome = z.looseObject({
  status: z.enum(STATUSES),
  time_ms: z.number(),
  memory_kb: z.number().nullable(),
  exit_code: z.number().nullable(),
  signal: z.string().nullable(),
  stdout: z.string(),
  stderr: z.string(),
});

const VerdictMessage = z.looseObject({
  status: z.enum(STATUSES),
  reward: z.number().nullable(),
  passed: z.int().nonnegative(),
  total: z.int().nonnegative(),
  tests: z.array(Outcome),
  feedback: z.string(),
  reason: z.string().optional(),
  cached: z.boolean(),
});

/** Who judged: it stands in the result. */
const By = z.object({
  worker: z.string(),
  tool_version: z.string().nullable(),
  isolation: z.record(z.string(), z.unknown()),
});

/** What a worker tells the client of a job. `id` is the job's. */
export const Reply = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("started"), id: z.string(), by: By }),
  z.object({ kind: z.literal("verdict"), id: z.string(), by: By, verdict: VerdictMessage }),
  /** It will not be judged: malformed, beyond the worker's limits, or set aside. */
  z.object({ kind: z.literal("refused"), id: z.string(), by: By, reason: z.string() }),
]);
export type Reply = z.infer<typeof Reply>;

/** @returns null for text that is no reply of ours */
export function parseReply(text: string): Reply | null {
  const parsed = Reply.safeParse(parseJson(text));
  return parsed.success ? parsed.data : null;
}

/** The fields were checked above; what newer workers add is carried along. */
export const verdictIn = (reply: Extract<Reply, { kind: "verdict" }>): Verdict =>
  reply.verdict as unknown as Verdict;

/** What a worker says of itself for as long as it lives. */
export const Announcement = z.object({
  protocol: z.literal(PROTOCOL),
  id: z.string(),
  name: z.string(),
  retort: z.string(),
  /** Programs that it judges at a time. */
  capacity: z.int().positive(),
  isolation: z.record(z.string(), z.unknown()),
  /** By name: digest of its definition, first line of its probe. */
  languages: z.record(z.string(), z.object({ digest: z.string(), version: z.string().nullable() })),
});
export type Announcement = z.infer<typeof Announcement>;

/** A program whose workers died, as `retort worker --poisoned` shows it. */
export const Poisoned = z.object({
  /** Seconds since 1970 by the clock of Redis. */
  at: z.int(),
  id: z.string(),
  task_id: z.string(),
  language: z.string(),
  program: z.string(),
  workers: z.array(z.string()),
});
export type Poisoned = z.infer<typeof Poisoned>;

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
