/**
 * The records that flow through a run, in order:
 * Task -> Rollout -> Verdict (with feedback) -> Sample; the trainer packs samples into the batches of its graphs.
 * Readonly, no methods; every record names its parent. What crosses a file is snake_case.
 */
import { z } from "zod";
import { nearest } from "./nearest.js";

/** JSON can hold half a character (a lone surrogate); a file or a pipe cannot. */
const Utf8Text = z
  .string()
  .refine((text) => !/\p{Surrogate}/u.test(text), "text with a lone surrogate, which has no UTF-8 bytes");

/** One input/output test. `visible: false` keeps it out of feedback; it still decides the verdict. */
export const IoTest = z.strictObject({
  input: Utf8Text,
  output: Utf8Text,
  visible: z.boolean().default(true),
});
export type IoTest = z.infer<typeof IoTest>;

export const COMPARATORS = [
  "tokens",
  "exact",
  "trailing",
  "lines",
  "unordered",
  "float",
  "exit",
  "sandboxfusion",
] as const;

/** Rules that compare two texts, by name. */
export const ComparatorName = z.enum(COMPARATORS);
export type ComparatorName = z.infer<typeof ComparatorName>;

/** A program that reads stdin.txt, stdout.txt and answer.txt and says by its exit status whether the output is right. */
export const Checker = z.strictObject({
  language: z.string().min(1).describe("Language of the checker; it need not be the judged program's."),
  program: z
    .string()
    .min(1)
    .describe("Its source. Exit 0: accepted; 1: wrong answer; what it prints becomes feedback."),
  accepts_answer: z
    .boolean()
    .default(true)
    .describe("false: a test's `output` only helps the checker and is no right output itself."),
});
export type Checker = z.infer<typeof Checker>;

/** How a program's output is judged: by named rules, or by a checker program. */
export const Comparator = z.union(
  [ComparatorName, z.strictObject({ checker: Checker.describe("A program that judges each output.") })],
  { error: ({ input, errors }) => comparatorMistake(input, errors) },
);
export type Comparator = z.infer<typeof Comparator>;

/** What stands in results. */
export function comparatorName(comparator: Comparator): string {
  return typeof comparator === "string" ? comparator : "checker";
}

function comparatorMistake(input: unknown, errors: unknown): string {
  const names = COMPARATORS.join(", ");
  if (typeof input !== "object" || input === null) {
    const guess = typeof input === "string" ? nearest(input, COMPARATORS) : null;
    return `one of ${names}, or {"checker": {"language", "program"}}${guess ? `; did you mean ${guess}?` : ""}`;
  }
  const [, issues = []] = errors as readonly (readonly z.core.$ZodIssue[])[];
  const reasons = issues.map(({ path, message }) => [...path.map(String), message].join(": "));
  return `a checker is {"checker": {"language": ..., "program": ...}}; ${reasons.join("; ")}`;
}

/** Limits of one test run. `cpu_s` (whole process tree) defaults to `time_s` (wall). */
export const Limits = z.strictObject({
  time_s: z.number().positive().optional().describe("Wall time of one test, seconds."),
  cpu_s: z
    .number()
    .positive()
    .optional()
    .describe("CPU time of one test's process tree, seconds; default: time_s."),
  memory_mb: z.int().positive().optional().describe("Memory of the whole process tree, MiB."),
  output_kb: z.int().positive().optional().describe("Most that a test may print on stdout, KiB."),
});
export type Limits = z.infer<typeof Limits>;

/**
 * A problem with its tests; one line of a task file.
 * @example { "id": "add/1", "prompt": "Read two integers, print their sum.",
 *            "tests": [{ "input": "1 2\n", "output": "3\n" }] }
 */
export const Task = z.strictObject({
  id: z.string().min(1),
  prompt: z.string(),
  tests: z.array(IoTest).min(1, "a task without tests would pass every program"),
  language: z.string().optional(),
  comparator: Comparator.default("tokens"),
  limits: Limits.default({}),
  harness: z
    .record(z.string(), z.strictObject({ before: z.string().default(""), after: z.string().default("") }))
    .optional(),
  reference: z.record(z.string(), z.string()).optional(),
});
export type Task = z.infer<typeof Task>;

/** Why the sampler stopped: the policy ended its turn, or ran out of room. */
export type FinishReason = "stop" | "length";

/**
 * One attempt at a task: what the policy wrote, and how likely each token was when it wrote it.
 * `rolloutLogProbs[t]` is the natural log-probability of `completionIds[t]` at the sampling temperature, before
 * top-p/top-k cut the distribution; `cutLogProbs` is after the cut, present only where there was one.
 */
export interface Rollout {
  readonly id: string;
  readonly taskId: string;
  /** Position in the draw order of the run; rollouts of one group share it. */
  readonly group: number;
  /** Index within the group, 0 to G - 1. */
  readonly sample: number;
  readonly promptIds: readonly number[];
  /** Ends with the stop token when `finishReason` is "stop". */
  readonly completionIds: readonly number[];
  readonly completion: string;
  readonly rolloutLogProbs: readonly number[];
  readonly cutLogProbs?: readonly number[];
  readonly finishReason: FinishReason;
  readonly policyVersion: number;
}

/** Every way a program can end, exhaustive. `infrastructure` is our fault and never becomes a reward. */
export const STATUSES = [
  "accepted",
  "wrong_answer",
  "runtime_error",
  "time_limit",
  "memory_limit",
  "output_limit",
  "compile_error",
  "no_program",
  "infrastructure",
] as const;
export type Status = (typeof STATUSES)[number];

/** What one test showed. Times in milliseconds, memory in KiB; null where the host cannot measure it. */
export interface TestOutcome {
  readonly status: Status;
  readonly time_ms: number;
  readonly memory_kb: number | null;
  readonly exit_code: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  /** What the task's checker program said of the output. */
  readonly message?: string;
}

/** The machine that judged, where it was another one. */
export interface JudgedBy {
  readonly worker: string;
  /** First line of the language's probe there. */
  readonly tool_version: string | null;
  /** What that machine enforced. */
  readonly isolation: Readonly<Record<string, unknown>>;
}

/** What execution showed of one program. `reward` is 1 accepted, 0 failed, null for infrastructure. */
export interface Verdict {
  readonly status: Status;
  readonly reward: number | null;
  readonly passed: number;
  readonly total: number;
  readonly tests: readonly TestOutcome[];
  /** Text that a self-teacher may read: visible tests only; "" when there is nothing to say. */
  readonly feedback: string;
  /** Its name; "checker" for a checker program. */
  readonly comparator: string;
  /** Set for `infrastructure` only: what went wrong on our side. */
  readonly reason?: string;
  readonly cached: boolean;
  /** Absent for this machine, of which the pool knows what it enforces. */
  readonly judgedBy?: JudgedBy;
}

/** A rollout with everything the objective needs. `teacherPromptIds` is null where the self-teacher has nothing to show. */
export interface Sample {
  readonly rolloutId: string;
  readonly promptIds: readonly number[];
  readonly completionIds: readonly number[];
  readonly rolloutLogProbs: readonly number[];
  /** null: infrastructure, masked out of the update. */
  readonly reward: number | null;
  readonly advantage: number;
  readonly teacherPromptIds: readonly number[] | null;
}
