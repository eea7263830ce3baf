/**
 * SandboxFusion's POST /run_code, as its clients (verl, its own SDK) use it. What they read of an answer: `status`, then
 * `compile_result` and `run_result` with `status`, `return_code`, `stdout`, `stderr`, `execution_time`. verl tries again
 * after 504 alone, and takes SandboxError for its -1, which it keeps apart from what a program did.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { InfrastructureError } from "../../core/index.js";
import type { JobResult } from "../job.js";
import type { Language } from "../languages.js";
import { filesProblem, type ProgramFile } from "../program-files.js";
import { compileCeilings, type FullLimits, tightened } from "./ceilings.js";
import type { Programs } from "./programs.js";
import {
  commandResult,
  knownIds,
  languageOf,
  type RunCodeAnswer,
  sandboxError,
} from "./sandbox-fusion-answer.js";
import type { ServiceParts } from "./service-parts.js";

const DEFAULT_TIMEOUT_S = 10;
/** verl gives up 10 s after both timeouts; an answer of 504 before that makes it try again. */
const PATIENCE_S = 9;

const RunCodeBody = z.object({
  code: z.string(),
  language: z.string(),
  compile_timeout: z.number().positive().default(DEFAULT_TIMEOUT_S),
  run_timeout: z.number().positive().default(DEFAULT_TIMEOUT_S),
  memory_limit_MB: z.int().default(-1),
  stdin: z.string().nullish(),
  files: z.record(z.string(), z.string().nullable()).default({}),
  fetch_files: z.array(z.string()).default([]),
});
type RunCodeBody = z.infer<typeof RunCodeBody>;

export function sandboxFusionApi(app: FastifyInstance, parts: ServiceParts): void {
  app.post("/run_code", (request, reply) => runCode(parts, request, reply));
}

async function runCode(parts: ServiceParts, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const { programs } = parts;
  const parsed = RunCodeBody.safeParse(request.body);
  if (!parsed.success) return invalid(programs, reply, parsed.error.issues);
  const body = parsed.data;
  const language = languageOf(body.language, programs.pool.languages);
  if (language === null) {
    return invalid(programs, reply, [
      { path: ["language"], message: `Input should be one of ${knownIds()}` },
    ]);
  }
  if (typeof language === "string") return sandboxError(language);
  if (body.fetch_files.length > 0)
    return sandboxError("fetch_files is not offered here: a sandbox's files end with it");
  const files = filesOf(body.files);
  const problem = filesProblem(files, language.filename);
  if (problem !== null) return invalid(programs, reply, [{ path: ["files"], message: problem }]);
  return answerTo(parts, reply, body, language, files);
}

async function answerTo(
  parts: ServiceParts,
  reply: FastifyReply,
  body: RunCodeBody,
  language: Language,
  files: readonly ProgramFile[],
): Promise<RunCodeAnswer> {
  const { programs } = parts;
  const { limits, compileTimeS, notes } = effectiveLimits(body, language, programs);
  const lane = programs.queue.open(1);
  const deadlineS = Math.min(parts.deadlineS, body.compile_timeout + body.run_timeout + PATIENCE_S);
  const life = parts.life(lane, reply, deadlineS);
  try {
    const compileLimits = { time_s: compileTimeS };
    const program = withPhpTag(body.code, language);
    const run = { language, program, input: body.stdin ?? "", files, limits, compileLimits };
    const result = await life.inTime(programs.run(lane, "sandbox-fusion", run));
    return { ...answerOf(result), message: notes.join("; ") };
  } catch (error) {
    if (error instanceof InfrastructureError) return sandboxError(error.message);
    throw error;
  } finally {
    life.over();
  }
}

/** SandboxFusion takes what is asked for as it comes; we cut it to the operator's limits and say so. */
function effectiveLimits(
  body: RunCodeBody,
  language: Language,
  { operator }: Programs,
): { limits: FullLimits; compileTimeS: number; notes: string[] } {
  const memory = body.memory_limit_MB > 0 ? { memory_mb: body.memory_limit_MB } : {};
  const { limits, excess } = tightened(language, operator, { time_s: body.run_timeout, ...memory });
  const names = { time_s: "run_timeout", memory_mb: "memory_limit_MB", cpu_s: "", output_kb: "" };
  const notes = excess.map(
    ({ key, asked, most }) => `${names[key]} ${asked} is beyond this service's limit: ran with ${most}`,
  );
  const compileTimeS = Math.min(body.compile_timeout, compileCeilings(language, operator).time_s);
  if (language.compile !== undefined && compileTimeS < body.compile_timeout)
    notes.push(
      `compile_timeout ${body.compile_timeout} is beyond this service's limit: compiled with ${compileTimeS}`,
    );
  return { limits, compileTimeS, notes };
}

/** Only texts: null means no file there, as in SandboxFusion. */
function filesOf(files: RunCodeBody["files"]): ProgramFile[] {
  return Object.entries(files).flatMap(([name, content]) =>
    content === null ? [] : [{ name, bytes: Buffer.from(content, "base64") }],
  );
}

/** SandboxFusion adds the tag where a PHP program has none. */
const withPhpTag = (code: string, { name }: Language): string =>
  name === "php" && !code.includes("<?") ? `<?php\n${code}` : code;

function answerOf(result: JobResult): Omit<RunCodeAnswer, "message"> {
  const compiler = result.compiler ?? result.compile ?? undefined;
  const compile = compiler === undefined ? null : commandResult(compiler);
  const [test] = result.tests;
  const run = test === undefined ? null : commandResult(test);
  const isRight = [compile, run].every(
    (each) => each === null || (each.status === "Finished" && each.return_code === 0),
  );
  return {
    status: isRight ? "Success" : "Failed",
    compile_result: compile,
    run_result: run,
    executor_pod_name: null,
    files: {},
  };
}

/** The shape in which FastAPI refuses a body. */
function invalid(
  { metrics }: Programs,
  reply: FastifyReply,
  issues: readonly { readonly path: readonly PropertyKey[]; readonly message: string }[],
): unknown {
  metrics.rejected("invalid");
  const detail = issues.map(({ path, message }) => ({
    type: "value_error",
    loc: ["body", ...path.map(String)],
    msg: message,
  }));
  reply.code(422);
  return { detail };
}
