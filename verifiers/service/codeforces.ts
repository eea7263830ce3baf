/**
 * Requests for the Codeforces package that open-r1 runs on its Piston: besides the program come input.txt,
 * correct_output.txt, grader_config and perhaps checker.py, and the package answers "1" or "0" on stdout. Here the program
 * gets the input and nothing else: the right answer is compared, or checked by a program of its own, outside its sandbox.
 * Facts of the package (fork guipenedo/piston, packages/codeforces): exit status 124 for time, 134 for memory; a checker is
 * called with input, right output and output, and prints 1 or 100; without one, white space and the case of yes/no are
 * all that may differ.
 */
import type { TestOutcome } from "../../core/index.js";
import type { JobResult } from "../job.js";
import type { Language } from "../languages.js";
import { tightened } from "./ceilings.js";
import type { PistonBody } from "./piston-body.js";
import { type PistonStage, stageOf } from "./piston-stage.js";
import type { Programs, SingleRun } from "./programs.js";
import { RequestError } from "./request-error.js";
import type { Lane } from "./run-queue.js";

/** The package's names, with or without cf_ before them. */
const LANGUAGES: Readonly<Record<string, string>> = {
  "c++": "cpp",
  "c++0x": "cpp",
  "c++11": "cpp",
  "c++14": "cpp",
  "c++17": "cpp",
  "c++20": "cpp",
  python3: "python",
  java: "java",
  kotlin: "kotlin",
};
const CHECKER_TIME_S = 10;
const [TIME_CODE, MEMORY_CODE] = [124, 134];

export interface CodeforcesJob {
  readonly language: Language;
  readonly run: SingleRun;
  readonly input: string;
  /** null: none came, and the program's own output is the answer. */
  readonly answer: string | null;
  readonly checker: string | null;
  readonly timeS: number;
  readonly memoryMb: number;
}

/** What the package would call this language, if the request is one of its; null: an ordinary request. */
export function codeforcesLanguage(body: PistonBody): string | null {
  if (!body.files.some(({ name }) => name === "grader_config")) return null;
  return LANGUAGES[body.language.toLowerCase().replace(/^cf_/, "")] ?? null;
}

/** @throws RequestError 400 for limits beyond the operator's, and for problems that read and write files */
export function codeforcesJob(body: PistonBody, language: Language, { operator }: Programs): CodeforcesJob {
  const file = (name: string): string | null =>
    body.files.find((each) => each.name === name)?.bytes.toString("utf8") ?? null;
  const config = readConfig(file("grader_config") ?? "");
  if ((config.INPUT_MODE ?? "stdio") === "file")
    throw new RequestError(
      400,
      "invalid",
      "INPUT_MODE=file is not offered here: what a program writes to files ends with its sandbox",
    );
  const time = numberOf(config.TIME_LIMIT) ?? (body.limits.run_timeout ?? 0) / 1000;
  const memory = numberOf(config.MEMORY_LIMIT);
  const asked = {
    ...(time > 0 ? { time_s: time } : {}),
    ...(memory === null ? {} : { memory_mb: Math.ceil(memory) }),
  };
  const { limits, excess } = tightened(language, operator, asked);
  const [first] = excess;
  if (first !== undefined) {
    const name = first.key === "memory_mb" ? "MEMORY_LIMIT" : "TIME_LIMIT";
    throw new RequestError(400, "limits", `${name} cannot exceed the configured limit of ${first.most}`);
  }
  const input = withoutCarriageReturns(file("input.txt") ?? "");
  const program = body.files[0]!.bytes.toString("utf8");
  return {
    language,
    run: { language, program, input, limits },
    input,
    answer: file("correct_output.txt"),
    checker: file("checker.py"),
    timeS: limits.time_s,
    memoryMb: limits.memory_mb,
  };
}

/** KEY=VALUE a line. */
const readConfig = (text: string): Readonly<Record<string, string>> =>
  Object.fromEntries(
    text.split("\n").flatMap((line) => (line.includes("=") ? [line.trim().split(/=(.*)/s, 2)] : [])),
  );

function numberOf(text: string | undefined): number | null {
  const value = Number(text);
  return text === undefined || text.trim() === "" || !(value > 0) ? null : value;
}

const withoutCarriageReturns = (text: string): string => text.replace(/\r$/gm, "");
const withoutEmptyLines = (text: string): string =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => `${line}\n`)
    .join("");

/** @returns the stages as the package's clients read them: `compile` is always there. */
export async function runCodeforces(
  programs: Programs,
  lane: Lane,
  job: CodeforcesJob,
): Promise<{ compile: PistonStage; run: PistonStage }> {
  const result = await programs.run(lane, "piston", job.run);
  const compiler = result.compiler ?? result.compile;
  const compile = compiler === null || compiler === undefined ? NOTHING_TO_COMPILE : stageOf(compiler);
  if (result.compile !== null) return { compile, run: compile };
  const outcome = result.tests[0]!;
  const failed = failure(outcome, job);
  if (failed !== null) return { compile, run: { ...stageOf(outcome), ...ended, ...failed } };
  if (job.answer === null)
    return { compile, run: { ...stageOf(outcome), stdout: withoutEmptyLines(outcome.stdout) } };
  const verdict = await judged(programs, lane, job, outcome);
  return { compile, run: { ...stageOf(outcome), ...ended, ...verdict } };
}

/** The package's script ends by itself, whatever became of the program. */
const ended = { signal: null, status: null, message: null };
const said = (stdout: string, stderr: string, code: number) => ({
  stdout,
  stderr,
  output: stdout + stderr,
  code,
});

const NOTHING_TO_COMPILE: PistonStage = {
  ...said("", "", 0),
  ...ended,
  cpu_time: null,
  wall_time: 0,
  memory: null,
};

function failure({ status, exit_code, signal }: TestOutcome, { timeS, memoryMb }: CodeforcesJob) {
  if (status === "accepted") return null;
  if (status === "time_limit") return said("0\n", `Time limit exceeded (${timeS}s)\n`, TIME_CODE);
  if (status === "memory_limit") return said("0\n", `Memory limit exceeded (${memoryMb}MB)\n`, MEMORY_CODE);
  const code = exit_code === null || exit_code === 0 ? 1 : exit_code;
  return said("0\n", `Runtime error with ${signal ?? `exit code ${code}`}\n`, code);
}

async function judged(programs: Programs, lane: Lane, job: CodeforcesJob, { stdout }: TestOutcome) {
  const answer = withoutEmptyLines(withoutCarriageReturns(job.answer ?? ""));
  const output = withoutEmptyLines(stdout);
  if (job.checker === null) {
    const isRight = normal(answer) === normal(output);
    return said(isRight ? "1\n" : "0\n", `Output ${isRight ? "is" : "isn't"} correct (diff)\n`, 0);
  }
  const checked = await programs.run(lane, "piston", checkerRun(programs, job, answer, output));
  return said(...checkersWord(checked));
}

function checkerRun(
  { pool, operator }: Programs,
  job: CodeforcesJob,
  answer: string,
  output: string,
): SingleRun {
  const language = pool.languages.get("python");
  const { limits } = tightened(language, operator, { time_s: CHECKER_TIME_S });
  const texts = { "input.txt": job.input, "correct_output.txt": answer, "output.txt": output };
  const files = Object.entries(texts).map(([name, text]) => ({ name, bytes: Buffer.from(text) }));
  return { language, program: job.checker!, input: "", limits, files, args: Object.keys(texts) };
}

/** A checker that fails is the package's non-zero exit: no point, and not a verdict on its own. */
function checkersWord({ tests }: JobResult): [stdout: string, stderr: string, code: number] {
  const outcome = tests[0];
  const word = (outcome?.stdout ?? "").replace(/\s/g, "");
  const code = outcome?.status === "accepted" ? 0 : outcome?.exit_code || 1;
  const isRight = word === "1" || word === "100";
  return [
    isRight ? "1\n" : "0\n",
    `Output ${isRight ? "is" : "isn't"} correct (checker)\n${outcome?.stderr ?? ""}`,
    code,
  ];
}

const normal = (text: string): string =>
  text
    .replace(/\b(yes|no)\b/gi, (word) => word.toUpperCase())
    .split(/\s+/)
    .filter((word) => word !== "")
    .join(" ");
