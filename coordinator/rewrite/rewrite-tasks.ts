/** `retort tasks rewrite`: files of exercises in, tasks that have run out; asked again, only what is missing. */
import { dirname } from "node:path";
import PQueue from "p-queue";
import { replaceFile } from "../../checkpoints/index.js";
import { ConfigError, InfrastructureError, makeFolder } from "../../core/index.js";
import {
  type FunctionProblem,
  functionProblem,
  type Reason,
  RowRefused,
  sourceRows,
} from "../../tasks/index.js";
import { createLocalPool, type LanguageSet } from "../../verifiers/index.js";
import { createProgress, type Progress } from "../progress.js";
import { createEndpoint, type Endpoint, EndpointError, type EndpointOptions } from "./endpoint.js";
import { type ProofOptions, Prover } from "./prove.js";
import { type Rewriter, rewriteOne } from "./rewrite-one.js";
import { openRewritten, type RewrittenFile } from "./rewritten-file.js";
import { type Prices, type RewriteResult, RewriteTally, summaryLines } from "./summary.js";

export interface TaskRewriting extends ProofOptions {
  readonly files: readonly string[];
  readonly out: string;
  readonly report?: string;
  readonly endpoint: EndpointOptions;
  /** Exercises under way at a time. */
  readonly concurrency: number;
  readonly attempts: number;
  readonly languages: LanguageSet;
  readonly workers?: number;
  readonly prices: Prices;
  readonly stream: NodeJS.WriteStream;
}

/** Exercises in a row that got no answer, beside those under way together, before the endpoint is taken for down. */
const UNANSWERED_BEFORE_GIVING_UP = 5;

/** An exercise with its place; or why its row is none. */
type Exercise =
  | { readonly at: string; readonly problem: FunctionProblem }
  | { readonly at: string; readonly id?: string; readonly reason: Reason; readonly message: string };

async function* exercisesOf(files: readonly string[]): AsyncGenerator<Exercise> {
  const seen = new Map<string, string>();
  for (const file of files) {
    for await (const row of sourceRows(file)) {
      if ("reason" in row) {
        yield row;
        continue;
      }
      try {
        const problem = functionProblem(JSON.parse(row.text));
        const earlier = seen.get(problem.id);
        if (earlier !== undefined) throw new RowRefused("duplicate_id", `${earlier} has ${problem.id}`);
        seen.set(problem.id, row.at);
        yield { at: row.at, problem };
      } catch (error) {
        if (error instanceof SyntaxError)
          yield { at: row.at, reason: "not_json", message: error.message.slice(0, 200) };
        else if (error instanceof RowRefused)
          yield { at: row.at, reason: error.reason, message: error.message };
        else throw error;
      }
    }
  }
}

/** Everything of one run of the command. */
interface Run {
  readonly rewriter: Rewriter;
  readonly out: RewrittenFile;
  readonly tally: RewriteTally;
  readonly progress: Progress;
  /** Set by the first failure that no other exercise would survive. */
  fatal: unknown;
  unansweredInARow: number;
}

async function rewriteInto(run: Run, at: string, problem: FunctionProblem, most: number): Promise<void> {
  if (run.fatal !== undefined) return;
  const { tally, out } = run;
  try {
    const result = await rewriteOne(run.rewriter, problem);
    run.unansweredInARow = 0;
    if ("task" in result) out.append(result.task);
    tally.add(at, problem.id, result);
  } catch (error) {
    if (!(error instanceof EndpointError) && !(error instanceof InfrastructureError)) {
      run.fatal ??= error;
      return;
    }
    tally.addFailure(at, problem.id, error.message);
    run.unansweredInARow++;
    if (run.unansweredInARow < most) return;
    run.fatal ??= new InfrastructureError(
      `Nothing came back for ${run.unansweredInARow} exercises in a row (${error.message}). The same command goes on from here: what was kept is in the file.`,
      { cause: error },
    );
  } finally {
    run.progress.update({ done: tally.done });
  }
}

/** Every exercise that the output lacks, some at a time. @returns ids in the order of the files */
async function rewriteAll(rewriting: TaskRewriting, run: Run): Promise<string[]> {
  const { files, concurrency } = rewriting;
  let total = 0;
  for await (const _exercise of exercisesOf(files)) total++;
  run.progress.stage("rewriting", total);
  const ids: string[] = [];
  const queue = new PQueue({ concurrency });
  for await (const exercise of exercisesOf(files)) {
    if (run.fatal !== undefined) break;
    if (!("problem" in exercise)) run.tally.addRefusedRow(exercise);
    else {
      const { at, problem } = exercise;
      ids.push(problem.id);
      if (run.out.ids.has(problem.id)) run.tally.addKnown();
      else {
        await queue.onSizeLessThan(concurrency);
        void queue.add(() => rewriteInto(run, at, problem, concurrency + UNANSWERED_BEFORE_GIVING_UP));
      }
    }
    run.progress.update({ done: run.tally.done });
  }
  await queue.onIdle();
  return ids;
}

async function writeReport(file: string | undefined, result: RewriteResult): Promise<void> {
  if (file === undefined) return;
  makeFolder(dirname(file));
  await replaceFile(file, `${JSON.stringify(result, null, 2)}\n`);
}

function openRun(rewriting: TaskRewriting, prover: Prover, endpoint: Endpoint, out: RewrittenFile): Run {
  const { attempts, minTests, prices, stream } = rewriting;
  const tally = new RewriteTally(prices);
  const rewriter: Rewriter = {
    endpoint,
    prover,
    attempts,
    minTests,
    onReply: (reply) => tally.addReply(reply),
  };
  return {
    rewriter,
    out,
    tally,
    progress: createProgress({ stream }),
    fatal: undefined,
    unansweredInARow: 0,
  };
}

/**
 * Rewrites the exercises of files that the output does not have yet. What was kept stays kept, whatever happens after.
 * @throws ConfigError for files that cannot be read, a wrong key or model, and where the output holds no task at the end
 * @throws InfrastructureError where the endpoint, or the sandbox, answers nothing any more
 */
export async function rewriteTasks(rewriting: TaskRewriting): Promise<RewriteResult> {
  const { languages, workers, report } = rewriting;
  const endpoint = createEndpoint(rewriting.endpoint);
  makeFolder(dirname(rewriting.out));
  const out = await openRewritten(rewriting.out);
  try {
    const pool = await createLocalPool({ languages, ...(workers === undefined ? {} : { workers }) });
    try {
      const run = openRun(rewriting, new Prover(pool, rewriting), endpoint, out);
      const ids = await rewriteAll(rewriting, run).finally(() => run.progress.end());
      const result = { summary: run.tally.summary(endpoint.requests()), rows: run.tally.rows };
      await out.sort(ids);
      await writeReport(report, result);
      if (run.fatal !== undefined) throw run.fatal;
      if (out.ids.size > 0) return result;
      if (result.summary.unanswered > 0) throw new InfrastructureError(summaryLines(result).join("\n"));
      throw new ConfigError({
        at: rewriting.files.join(", "),
        need: `an exercise that can be rewritten.\n${summaryLines(result).join("\n")}`,
      });
    } finally {
      await pool.close();
    }
  } finally {
    out.close();
  }
}
