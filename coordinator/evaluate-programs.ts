/** Evaluation of programs from anywhere: files, references, a policy, an endpoint. */
import { createHash } from "node:crypto";
import { accessSync, constants, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { ConfigError, makeFolder, type Task } from "../core/index.js";
import type { LanguageSet, VerifierConfig, VerifierPool } from "../verifiers/index.js";
import {
  type Assignment,
  type CompletionSource,
  completionRequests,
  type DrawnPrograms,
  drawnPrograms,
} from "./draw-completions.js";
import type { EndpointOptions } from "./endpoint.js";
import { type Evaluated, evaluateSolutions } from "./evaluate-solutions.js";
import { evaluationReport } from "./evaluation-report.js";
import type { PolicyOptions } from "./policy-source.js";
import { createProgress, type Progress } from "./progress.js";
import type { ServerOptions } from "./server-source.js";
import { readSolutions, referenceSolutions, type Solution } from "./solutions.js";
import { checkReportName, writeReport } from "./write-report.js";

/** What of a `verifier` section decides verdicts: not how many run at once, nor where. */
export const judgingOf = ({ limits, backend, stop_after_failures }: VerifierConfig): unknown => [
  limits,
  backend,
  stop_after_failures,
];

/** Where the programs come from. */
export type Programs =
  | { readonly from: "solutions"; readonly file: string; readonly programIn: Assignment["programIn"] }
  | { readonly from: "references" }
  | ({ readonly from: "policy"; readonly policy: PolicyOptions } & Sampled)
  | ({ readonly from: "server"; readonly server: ServerOptions } & Sampled)
  | ({ readonly from: "endpoint"; readonly endpoint: EndpointOptions } & Sampled);

interface Sampled {
  readonly assignment: Assignment;
  /** Default: beside the result file. */
  readonly completions?: string;
}

export interface ProgramEvaluation {
  readonly tasks: readonly Task[];
  /** What messages call the tasks. */
  readonly tasksName: string;
  readonly programs: Programs;
  readonly out: string;
  readonly languages: LanguageSet;
  /** What of the pool decides verdicts, besides languages and tasks: its limits, what programs run in. */
  readonly judging: unknown;
  readonly stopAfterFailures?: number;
  readonly ks?: readonly number[];
  /** Reports to write: .html, .json. */
  readonly reports: readonly string[];
  /** Opened once all input is known to be right, and closed here; `note` tells what a person should know of it. */
  readonly openPool: (note: (text: string) => void) => Promise<VerifierPool>;
  /** Where progress goes. */
  readonly stream: NodeJS.WriteStream;
  readonly signal?: AbortSignal;
}

/** Everything but task and program that decides verdicts, for every language in question. */
function judgingKey(evaluation: ProgramEvaluation, used: Iterable<string>): string {
  const definitions = [...new Set(used)].sort().map((name) => {
    const { source: _where, ...definition } = evaluation.languages.get(name);
    return definition;
  });
  const { judging, stopAfterFailures = null } = evaluation;
  return createHash("sha256")
    .update(JSON.stringify([definitions, judging, stopAfterFailures]))
    .digest("hex");
}

/** @throws ConfigError where the results could not be written, before any program has run */
function checkWritable(at: string, file: string): void {
  try {
    makeFolder(dirname(file));
    accessSync(dirname(file), constants.W_OK);
    if (statSync(file, { throwIfNoEntry: false })?.isDirectory())
      throw Object.assign(new Error(`${file} is a folder`), { code: "EISDIR" });
  } catch (cause) {
    const reason = (cause as NodeJS.ErrnoException).code;
    throw new ConfigError({
      at,
      got: file,
      need: `a file in a folder that can be written (${reason})`,
      cause,
    });
  }
}

/** `results.jsonl` -> `results.completions.jsonl` */
export const completionsBeside = (out: string): string => `${out.replace(/\.jsonl$/, "")}.completions.jsonl`;

type Input = Pick<DrawnPrograms, "planned" | "solutions"> & Partial<DrawnPrograms>;

/** Loads only what it needs: a policy brings ONNX Runtime along. */
async function openSource(
  programs: Extract<Programs, { from: "policy" | "server" | "endpoint" }>,
  note: (line: string) => void,
): Promise<CompletionSource> {
  if (programs.from === "endpoint") return (await import("./endpoint.js")).createEndpoint(programs.endpoint);
  if (programs.from === "server")
    return (await import("./server-source.js")).createServerSource(programs.server, note);
  return (await import("./policy-source.js")).createPolicySource(programs.policy);
}

/** Reads what is there, or prepares to draw it; nothing has run yet. */
async function openPrograms(
  evaluation: ProgramEvaluation,
  progress: Progress,
): Promise<{ input: Input; source: CompletionSource | null }> {
  const { programs, tasks, tasksName, languages } = evaluation;
  if (programs.from === "solutions" || programs.from === "references") {
    const solutions: Solution[] =
      programs.from === "references"
        ? referenceSolutions(tasksName, tasks)
        : readSolutions(programs.file, tasks, programs.programIn);
    if (solutions.length === 0 && programs.from === "solutions")
      throw new ConfigError({ at: programs.file, need: "at least one solution" });
    return { input: { planned: solutions, solutions }, source: null };
  }
  const requests = completionRequests(tasks, programs.assignment, languages);
  const source = await openSource(programs, progress.note);
  try {
    const file = programs.completions ?? completionsBeside(evaluation.out);
    const { programIn } = programs.assignment;
    return { input: await drawnPrograms(requests, source, programIn, file, progress.note), source };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/**
 * Evaluates, and closes everything it opened.
 * @throws ConfigError before anything runs for input that is wrong: a malformed line, an unknown task or language
 * @throws StoppedError after `signal`; what is done is kept
 */
export async function evaluatePrograms(evaluation: ProgramEvaluation): Promise<Evaluated> {
  const { tasks, out, signal, ks, stopAfterFailures, reports } = evaluation;
  checkWritable("--out", out);
  for (const file of reports) {
    checkReportName(file);
    checkWritable("--report", file);
  }
  const progress = createProgress({ stream: evaluation.stream });
  // The judge before a policy is read: its broker is a fork of this process, and forks of large ones are slow.
  const pool = evaluation.programs.from === "policy" ? await evaluation.openPool(progress.note) : null;
  let opened: Awaited<ReturnType<typeof openPrograms>> | null = null;
  let judge: VerifierPool | null = pool;
  try {
    opened = await openPrograms(evaluation, progress);
    const { planned, solutions, drawing } = opened.input;
    const judging = judgingKey(
      evaluation,
      planned.map(({ language }) => language),
    );
    noteMissing(tasks, planned, progress);
    judge ??= await evaluation.openPool(progress.note);
    let isBegun = false;
    const evaluated = await evaluateSolutions({
      solutions,
      planned,
      ...(drawing === undefined ? {} : { drawing }),
      out,
      pool: judge,
      judging,
      note: progress.note,
      ...(ks === undefined ? {} : { ks }),
      ...(stopAfterFailures === undefined ? {} : { stopAfterFailures }),
      ...(signal === undefined ? {} : { signal }),
      onProgress: ({ total, ...state }) => {
        if (!isBegun) progress.stage("judging", total);
        isBegun = true;
        progress.update(state);
      },
    });
    const report = reports.length === 0 ? null : evaluationReport(evaluated, out, titleOf(evaluation));
    for (const file of reports) await writeReport(file, report!);
    return evaluated;
  } finally {
    progress.end();
    opened?.input.close?.();
    await opened?.source?.close();
    await judge?.close();
  }
}

/** "tasks.jsonl: m, at http://localhost:8000/v1" */
function titleOf({ programs, tasksName }: ProgramEvaluation): string {
  const name = basename(tasksName);
  if (programs.from === "references") return `${name}: references`;
  if (programs.from === "solutions") return `${name}: ${basename(programs.file)}`;
  if (programs.from === "policy") return `${name}: ${programs.policy.folder}`;
  if (programs.from === "server")
    return `${name}: ${programs.server.folder}, at ${programs.server.engine.base_url}`;
  return `${name}: ${programs.endpoint.model}, at ${programs.endpoint.url}`;
}

function noteMissing(tasks: readonly Task[], planned: Input["planned"], progress: Progress): void {
  const attempted = new Set(planned.map(({ task }) => task.id)).size;
  if (attempted === tasks.length) return;
  const missing = tasks.length - attempted;
  progress.note(
    `${missing} of ${tasks.length} tasks have no program here; pass@k is over the other ${attempted}.`,
  );
}
