/**
 * Piston's GET /api/v2/runtimes and POST /api/v2/execute, as its clients use them. They read `run` (and, where the language
 * compiles, `compile`): `code`, `signal`, `stdout`, `stderr`; a status other than 200 is tried again by open-r1's client.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { InfrastructureError, type Limits } from "../../core/index.js";
import type { LanguageSet } from "../language-set.js";
import type { Language } from "../languages.js";
import { argumentsProblem, filesProblem, type ProgramFile } from "../program-files.js";
import { ceilings, compileCeilings, tightened } from "./ceilings.js";
import { codeforcesJob, codeforcesLanguage, runCodeforces } from "./codeforces.js";
import { type PistonBody, readPistonBody } from "./piston-body.js";
import { stageOf } from "./piston-stage.js";
import type { Programs, SingleRun } from "./programs.js";
import { RequestError } from "./request-error.js";
import type { Lane } from "./run-queue.js";
import { type Runtime, threeNumbers } from "./runtimes.js";
import type { ServiceParts } from "./service-parts.js";

/** Piston's names of languages that go by another name here. */
const PISTON_NAMES: Readonly<Record<string, string>> = {
  "c++": "cpp",
  "g++": "cpp",
  gcc: "c",
  node: "javascript",
  "node-js": "javascript",
  "node-javascript": "javascript",
  rscript: "r",
  sqlite3: "sql",
  commonlisp: "common-lisp",
  lisp: "common-lisp",
  freepascal: "pascal",
  gawk: "awk",
};

const MIB = 1024 * 1024;

export function pistonApi(app: FastifyInstance, parts: ServiceParts): void {
  app.get("/api/v2/runtimes", () => runtimeRows(parts));
  app.post("/api/v2/execute", (request, reply) => execute(parts, request, reply));
}

async function runtimeRows({ runtimes }: ServiceParts): Promise<unknown> {
  const there = (await runtimes.all()).filter(({ status }) => status !== "missing");
  return there.map(({ language, version }) => ({
    language: language.name,
    version: threeNumbers(version),
    aliases: [...new Set([...language.aliases, ...namesOf(language)])],
  }));
}

const namesOf = ({ name }: Language): string[] =>
  Object.entries(PISTON_NAMES).flatMap(([theirs, ours]) => (ours === name ? [theirs] : []));

async function execute(parts: ServiceParts, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  const { programs } = parts;
  const body = readPistonBody(request.body);
  const lane = programs.queue.open(1);
  const life = parts.life(lane, reply, parts.deadlineS);
  try {
    const runtime = await life.inTime(runtimeFor(body, programs.pool.languages, parts));
    const ran = await life.inTime(stages(programs, lane, body, runtime.language));
    return { ...ran, language: runtime.language.name, version: threeNumbers(runtime.version) };
  } catch (error) {
    if (!(error instanceof InfrastructureError)) throw error;
    reply.code(500); // what Piston answers when its own machinery fails; clients try again
    return { message: error.message };
  } finally {
    life.over();
  }
}

/** @throws RequestError 400 for a language, or a version of it, that is not here */
async function runtimeFor(
  body: PistonBody,
  languages: LanguageSet,
  { runtimes }: ServiceParts,
): Promise<Runtime> {
  const { language: name, version } = body;
  const other = codeforcesLanguage(body) ?? PISTON_NAMES[name.toLowerCase()] ?? "";
  const language = languages.find(name) ?? languages.find(other);
  const runtime = language === undefined ? null : await runtimes.of(language);
  if (runtime === null || runtime.status === "missing" || !isVersion(version, threeNumbers(runtime.version)))
    throw new RequestError(400, "invalid", `${name}-${version} runtime is unknown`);
  return runtime;
}

/** "*", "3", "3.11", "3.x" or all three numbers. */
function isVersion(asked: string, have: string): boolean {
  const given = have.split(".");
  return asked.split(".").every((part, i) => ["*", "x", "X"].includes(part) || part === given[i]);
}

/** @throws RequestError 400 for limits beyond the operator's, and for files or arguments that do not fit */
function runOf(body: PistonBody, language: Language, programs: Programs): SingleRun {
  const [first, ...rest] = body.files;
  const files = rest.map(({ name, bytes }, i): ProgramFile => ({ name: name || `file${i + 1}.code`, bytes }));
  const problem = filesProblem(files, language.filename) ?? argumentsProblem(body.args, language.execute);
  if (problem !== null) throw new RequestError(400, "invalid", problem);
  const { run, compile } = limitsOf(body, language, programs);
  return {
    language,
    program: Buffer.from(first!.bytes).toString("utf8"),
    input: body.stdin.endsWith("\n") ? body.stdin : `${body.stdin}\n`, // as Piston does
    files,
    args: body.args,
    limits: tightened(language, programs.operator, run).limits,
    compileLimits: compile,
  };
}

/** Milliseconds and bytes into seconds and MiB. Piston refuses what is beyond its configuration, so do we. */
function limitsOf(
  body: PistonBody,
  language: Language,
  { operator }: Programs,
): { run: Limits; compile: Limits } {
  const run = ceilings(language, operator);
  const compile = compileCeilings(language, operator);
  const read = (key: keyof PistonBody["limits"], most: number, unit: number): number | undefined => {
    const asked = body.limits[key];
    if (asked === undefined) return undefined;
    if (asked > most * unit)
      throw new RequestError(400, "limits", `${key} cannot exceed the configured limit of ${most * unit}`);
    return asked / unit;
  };
  const mebibytes = (value: number | undefined): number | undefined =>
    value === undefined ? undefined : Math.max(1, Math.floor(value));
  const limits = (time?: number, cpu?: number, memory?: number): Limits => ({
    ...(time === undefined ? {} : { time_s: time }),
    ...(cpu === undefined ? {} : { cpu_s: cpu }),
    ...(memory === undefined ? {} : { memory_mb: memory }),
  });
  return {
    run: limits(
      read("run_timeout", run.time_s, 1000),
      read("run_cpu_time", run.cpu_s, 1000),
      mebibytes(read("run_memory_limit", run.memory_mb, MIB)),
    ),
    compile: limits(
      read("compile_timeout", compile.time_s, 1000) ?? compile.time_s,
      read("compile_cpu_time", compile.cpu_s, 1000),
      mebibytes(read("compile_memory_limit", compile.memory_mb, MIB)),
    ),
  };
}

/** Where compiling failed there was no run; Piston repeats the compiler's stage there. */
async function stages(
  programs: Programs,
  lane: Lane,
  body: PistonBody,
  language: Language,
): Promise<Record<string, unknown>> {
  if (codeforcesLanguage(body) !== null)
    return { ...(await runCodeforces(programs, lane, codeforcesJob(body, language, programs))) };
  const result = await programs.run(lane, "piston", runOf(body, language, programs));
  const compiler = result.compiler ?? result.compile ?? undefined;
  const [test] = result.tests;
  const compile = compiler === undefined ? {} : { compile: stageOf(compiler) };
  return { ...compile, run: stageOf(test ?? compiler!) };
}
