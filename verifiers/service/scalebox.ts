/**
 * ScaleBox's POST /common_evaluate_batch, for problems of the type stdin_stdout: one completion against many tests, compiled
 * once, compared by SandboxFusion's rules. Its other types build programs out of function calls, which we leave to tasks
 * with a harness.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { Task, TestOutcome, Verdict } from "../../core/index.js";
import { extractProgram } from "../extract.js";
import { tightened } from "./ceilings.js";
import { RequestError } from "./request-error.js";
import { commandResult, languageOf, type RunCodeAnswer, sandboxError } from "./sandbox-fusion-answer.js";
import type { ServiceParts } from "./service-parts.js";

const DEFAULT_TIMEOUT_S = 10;
const DEFAULT_TOTAL_S = 300;

const Cases = z.object({
  type: z.string().nullish(),
  fn_name: z.string().nullish(),
  input: z.array(z.string()),
  output: z.array(z.string()),
});
const Body = z.object({
  id: z.union([z.number(), z.string()]).default(0),
  completion: z.string(),
  config: z.object({
    language: z.string(),
    run_timeout: z.number().positive().nullish(),
    memory_limit_MB: z.int().nullish(),
    custom_extract_logic: z.string().nullish(),
    provided_data: z.object({ test_cases: Cases }),
    extra: z
      .object({
        run_all_cases: z.boolean().default(false),
        total_timeout: z.number().positive().default(DEFAULT_TOTAL_S),
      })
      .default({ run_all_cases: false, total_timeout: DEFAULT_TOTAL_S }),
  }),
});
type Body = z.infer<typeof Body>;

export function scaleboxApi(app: FastifyInstance, parts: ServiceParts): void {
  app.post("/common_evaluate_batch", (request, reply) => evaluate(parts, request, reply));
}

async function evaluate(parts: ServiceParts, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const { programs } = parts;
  const body = readBody(request.body);
  const language = languageOf(body.config.language, programs.pool.languages);
  if (language === null || typeof language === "string")
    throw new RequestError(
      400,
      "invalid",
      language ?? `language ${JSON.stringify(body.config.language)} is unknown`,
    );
  const { limits } = tightened(language, programs.operator, askedLimits(body));
  const task = { ...taskOf(body), limits };
  const code = extractProgram(body.completion, "fenced") ?? body.completion.trim();
  const lane = programs.queue.open(1);
  const life = parts.life(lane, reply, Math.min(parts.deadlineS, body.config.extra.total_timeout));
  const stop = body.config.extra.run_all_cases ? {} : { stopAfterFailures: 1 };
  try {
    const submission = { id: String(body.id), task, language: language.name, program: code, ...stop };
    return resultOf(body, code, task, await life.inTime(programs.verify(lane, submission)));
  } finally {
    life.over();
  }
}

function askedLimits({ config }: Body) {
  const memory = config.memory_limit_MB ?? -1;
  return { time_s: config.run_timeout ?? DEFAULT_TIMEOUT_S, ...(memory > 0 ? { memory_mb: memory } : {}) };
}

/** @throws RequestError 400 for what is not a problem of the type stdin_stdout */
function readBody(raw: unknown): Body {
  const refuse = (message: string): never => {
    throw new RequestError(400, "invalid", message);
  };
  const parsed = Body.safeParse(raw);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return refuse(`${issue!.path.map(String).join(".")}: ${issue!.message}`);
  }
  const { config } = parsed.data;
  const { type, fn_name, input, output } = config.provided_data.test_cases;
  const kind = type ?? (fn_name ? "function_call" : "stdin_stdout");
  if (kind !== "stdin_stdout")
    return refuse(`test_cases of type ${kind} are not offered here, only stdin_stdout`);
  if (config.custom_extract_logic)
    return refuse("custom_extract_logic is not run here: send the program in a fenced block");
  if (input.length !== output.length || input.length === 0)
    return refuse(`test_cases: ${input.length} inputs and ${output.length} outputs`);
  return parsed.data;
}

function taskOf({ id, config }: Body): Task {
  const { input, output } = config.provided_data.test_cases;
  const tests = input.map((text, i) => ({ input: text, output: output[i]!, visible: true }));
  return { id: String(id), prompt: "", tests, comparator: "sandboxfusion", limits: {} };
}

function resultOf({ id }: Body, code: string, task: Task, verdict: Verdict): unknown {
  return {
    id,
    accepted: verdict.status === "accepted",
    extracted_code: code,
    tests: answers(verdict).map((each, i) => ({
      passed: each.passed,
      exec_info: each.info,
      test_info: { input: { stdin: task.tests[i]!.input }, output: { stdout: task.tests[i]!.output } },
    })),
  };
}

function answers(verdict: Verdict): { readonly passed: boolean; readonly info: RunCodeAnswer }[] {
  if (verdict.status === "infrastructure")
    return [{ passed: false, info: sandboxError(verdict.reason ?? "the sandbox failed") }];
  if (verdict.status === "compile_error") {
    const stderr = verdict.feedback;
    const compile = { status: "Finished" as const, execution_time: 0, return_code: 1, stdout: "", stderr };
    return [{ passed: false, info: { ...ran("Failed"), compile_result: compile } }];
  }
  return verdict.tests.map((test) => ({ passed: test.status === "accepted", info: runInfo(test) }));
}

const ran = (status: RunCodeAnswer["status"]): RunCodeAnswer => ({ ...sandboxError(""), status });

/** A wrong answer is a program that ran well: what it printed is told apart by `passed`. */
function runInfo(test: TestOutcome): RunCodeAnswer {
  const hasRun = test.status === "accepted" || test.status === "wrong_answer";
  const outcome: TestOutcome = hasRun ? { ...test, status: "accepted" } : test;
  return { ...ran(hasRun ? "Success" : "Failed"), run_result: commandResult(outcome) };
}
