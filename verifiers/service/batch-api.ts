/** Our own API: POST /v1/verify judges a batch of programs, GET /v1/languages tells what can be judged. */
import { Readable } from "node:stream";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { comparatorName, Task, type Verdict } from "../../core/index.js";
import { extractProgram } from "../extract.js";
import type { Submission } from "../pool.js";
import { FLAGS, tightened } from "./ceilings.js";
import type { Programs } from "./programs.js";
import { RequestError } from "./request-error.js";
import type { RequestLife } from "./request-life.js";
import type { Lane } from "./run-queue.js";
import { languageRow, type Runtimes } from "./runtimes.js";
import type { ServiceParts } from "./service-parts.js";

/** Results hold what each test printed: ten thousand of them are a hundred megabytes. */
const MAX_TESTS = 20_000;

const SubmissionBody = z
  .strictObject({
    id: z.string().optional(),
    task: Task,
    language: z.string().optional(),
    sample: z.int().nonnegative().optional(),
    program: z.string().optional(),
    completion: z.string().optional(),
    stop_after_failures: z.int().positive().optional(),
  })
  .refine(({ program, completion }) => (program === undefined) !== (completion === undefined), {
    message: "either program or completion is needed",
  });
const BatchBody = z.strictObject({ submissions: z.array(SubmissionBody).min(1) });

/** A submission with what its result row repeats. */
interface Asked {
  readonly id: string | undefined;
  readonly sample: number;
  readonly submission: Submission;
}

export function batchApi(app: FastifyInstance, parts: ServiceParts): void {
  const { runtimes } = parts;
  app.post("/v1/verify", (request, reply) => verify(parts, request, reply));
  app.get("/v1/languages", () => languages(runtimes));
}

async function languages(runtimes: Runtimes) {
  return (await runtimes.all()).map(languageRow);
}

async function verify(parts: ServiceParts, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const { programs } = parts;
  const asked = readBatch(request.body, programs);
  const lane = programs.queue.open(asked.length);
  const life = parts.life(lane, reply, parts.deadlineS);
  const rows = asked.map((each) => row(programs, lane, each));
  if ((request.headers.accept ?? "").includes("application/x-ndjson")) {
    reply.header("content-type", "application/x-ndjson");
    return reply.send(Readable.from(linesAsTheyFinish(rows, life), { objectMode: false }));
  }
  try {
    return await reply.send({ results: await Promise.all(rows) });
  } finally {
    life.over();
  }
}

/** @throws RequestError 400, naming the place: nothing of a batch runs unless all of it can */
function readBatch(body: unknown, programs: Programs): Asked[] {
  const parsed = BatchBody.safeParse(body);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const at = issue!.path.map(String).join(".") || "the body";
    throw new RequestError(400, "invalid", `${at}: ${issue!.message}`);
  }
  const { submissions } = parsed.data;
  const tests = submissions.reduce((sum, { task }) => sum + task.tests.length, 0);
  if (tests > MAX_TESTS)
    throw new RequestError(413, "too_large", `${tests} tests in one request: ${MAX_TESTS} are the most`);
  return submissions.map((each, i) => readSubmission(each, `submissions.${i}`, programs));
}

function readSubmission(
  each: z.infer<typeof SubmissionBody>,
  at: string,
  { pool, operator }: Programs,
): Asked {
  const { id, task, sample = 0, program, completion, stop_after_failures } = each;
  const named = each.language ?? task.language;
  if (named === undefined)
    throw new RequestError(400, "invalid", `${at}.language: the task names none either`);
  const language = pool.languages.find(named);
  if (language === undefined) {
    const known = pool.languages.names.join(", ");
    throw new RequestError(400, "invalid", `${at}.language: ${JSON.stringify(named)} is none of ${known}`);
  }
  const { comparator } = task;
  const checker = typeof comparator === "string" ? undefined : comparator.checker.language;
  if (checker !== undefined && pool.languages.find(checker) === undefined)
    throw new RequestError(
      400,
      "invalid",
      `${at}.task.comparator.checker.language: ${JSON.stringify(checker)} is unknown`,
    );
  const { limits, excess } = tightened(language, operator, task.limits);
  const [first] = excess;
  if (first !== undefined) {
    const fix = `ask for ${first.most} or less, or start the service with a larger ${FLAGS[first.key]}`;
    throw new RequestError(
      400,
      "limits",
      `${at}.task.limits.${first.key}: ${first.asked} is beyond this service's ${first.most}; ${fix}`,
    );
  }
  const source = program ?? extractProgram(completion!, "fenced");
  const stop = stop_after_failures === undefined ? {} : { stopAfterFailures: stop_after_failures };
  const submission = {
    id: id ?? at,
    task: { ...task, limits },
    language: language.name,
    program: source,
    ...stop,
  };
  return { id, sample, submission };
}

/** Never rejects: what was called off is a row without a verdict. */
async function row(programs: Programs, lane: Lane, asked: Asked): Promise<Record<string, unknown>> {
  const { id, sample, submission } = asked;
  const verdict = await programs
    .verify(lane, submission)
    .catch((error: unknown) => calledOff(submission.task, error));
  return {
    ...(id === undefined ? {} : { id }),
    task_id: submission.task.id,
    sample,
    language: submission.language,
    status: verdict.status,
    reward: verdict.reward,
    passed: verdict.passed,
    total: verdict.total,
    feedback: verdict.feedback,
    tests: verdict.tests,
    comparator: verdict.comparator,
    isolation: programs.pool.isolation,
    cached: verdict.cached,
    ...(verdict.reason === undefined ? {} : { reason: verdict.reason }),
  };
}

function calledOff(task: Task, error: unknown): Verdict {
  return {
    status: "infrastructure",
    reward: null,
    passed: 0,
    total: task.tests.length,
    tests: [],
    feedback: "",
    comparator: comparatorName(task.comparator),
    reason: `not run: ${error instanceof Error ? error.message : String(error)}`,
    cached: false,
  };
}

/** One line a result, each with its place in the batch, in the order in which they come. */
async function* linesAsTheyFinish(
  rows: readonly Promise<Record<string, unknown>>[],
  life: RequestLife,
): AsyncGenerator<string> {
  try {
    const left = new Map(rows.map((each, index) => [index, each.then((result) => ({ index, result }))]));
    const finished: { index: number; result: Record<string, unknown> }[] = [];
    let wake = (): void => {};
    for (const each of left.values())
      void each.then((one) => {
        finished.push(one);
        wake();
      });
    for (let sent = 0; sent < rows.length; sent++) {
      if (finished.length === 0)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      const { index, result } = finished.shift()!;
      yield `${JSON.stringify({ index, ...result })}\n`;
    }
  } finally {
    life.over();
  }
}
