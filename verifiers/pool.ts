/** The pool: programs as they come, sandboxes from the broker, our own failures tried again and never scored. */
import { availableParallelism } from "node:os";
import type { Limits, Task, Verdict } from "../core/index.js";
import { ConfigError, InfrastructureError } from "../core/index.js";
import type { Backend } from "./backend.js";
import { type BrokerLine, openBrokerLine, type Streams } from "./broker-line.js";
import { checkerPlan } from "./checker-plan.js";
import type { FeedbackOptions } from "./feedback.js";
import type { BrokerOptions, Isolation, Job, JobResult } from "./job.js";
import type { LanguageSet } from "./language-set.js";
import { imageOf, type Language } from "./languages.js";
import { compileLimits, testLimits } from "./limits.js";
import { mayLackTool, missingTool } from "./missing-tool.js";
import { argumentsProblem, filesProblem, type ProgramFile } from "./program-files.js";
import type { Requirements } from "./requirements.js";
import { supervisorsFor } from "./supervisor-build.js";
import { noProgramVerdict, verdictOf, withHarness, withInstall } from "./verdict.js";
import { VerdictCache } from "./verdict-cache.js";
import { verdictKey } from "./verdict-key.js";

/** A program to judge; `program` null where the completion held none. */
export interface Submission {
  readonly id: string;
  readonly task: Task;
  readonly language: string;
  readonly program: string | null;
  /** The completion ran out of room: feedback on a missing program then says so. */
  readonly isTruncated?: boolean;
  /** Of this program instead of the pool's: 1 where only the verdict counts. */
  readonly stopAfterFailures?: number;
}

export interface PoolStats {
  readonly waiting: number;
  readonly running: number;
  readonly done: number;
  readonly cached: number;
}

export interface VerifierPool {
  /** Never rejects for what a program does; rejects with ConfigError for a language that no file defines. */
  verify(submission: Submission): Promise<Verdict>;
  /** Of this machine; null where others judge: then each verdict says it of the machine it came from. */
  readonly isolation: Isolation | null;
  readonly stats: () => PoolStats;
  close(): Promise<void>;
}

/** A run without expected outputs. */
export interface ProgramRun {
  readonly language: Language;
  readonly program: string;
  readonly inputs: readonly string[];
  readonly limits?: Limits;
  /** Stricter limits of the compiler; never wider than the language's. */
  readonly compileLimits?: Limits;
  /** Words after the language's own command. */
  readonly args?: readonly string[];
  /** Written beside the program. */
  readonly files?: readonly ProgramFile[];
  /** Characters kept of each output; all by default. */
  readonly keepChars?: number;
  /** Replaces the language's commands: a version probe. */
  readonly execute?: string;
}

export interface LocalPool extends VerifierPool {
  readonly isolation: Isolation;
  readonly languages: LanguageSet;
  /** Programs at a time. */
  readonly workers: number;
  /** @throws InfrastructureError when our own machinery failed every time */
  run(program: ProgramRun): Promise<JobResult>;
  runStreamed(program: ProgramRun, streams: Streams): Promise<JobResult>;
  /** Host pids of processes that belong to any sandbox of this pool. */
  survivors(): Promise<readonly number[]>;
  readonly brokerPid: () => number;
}

export interface LocalPoolOptions {
  readonly languages: LanguageSet;
  /** Programs at a time. Default: twice the machine's cores, since a run waits more than it computes. */
  readonly workers?: number;
  /** Sandboxes kept ready while nothing waits. Default 0. */
  readonly prestart?: number;
  readonly limits?: Limits;
  /** Tests left when this many have failed are not run. Default: all are. */
  readonly stopAfterFailures?: number;
  readonly cache?: boolean;
  readonly feedback?: FeedbackOptions;
  /** Fresh sandboxes to try after one of ours failed. Default 2. */
  readonly retries?: number;
  /**
   * supervisor: in C, refused where it cannot be compiled. perl: in Perl. single: a bubblewrap for each test.
   * Default: the best that works, in this order.
   */
  readonly mode?: "auto" | "supervisor" | "perl" | "single";
  readonly useCgroups?: boolean;
  /** What the host must enforce, else there is no pool. */
  readonly require?: Requirements;
  /** The outer wall. podman, docker: a language runs in the image that its file names, `mode` is supervisor. Default bubblewrap. */
  readonly backend?: Backend;
  /** Of bwrap. */
  readonly bubblewrap?: string;
}

/** Of each output; less where tests are many, so that their results stay small together, and never less than feedback shows. */
const keptChars = ({ tests }: Task): number =>
  Math.max(1024, Math.min(8192, Math.floor(8_000_000 / tests.length)));

/** @throws ConfigError where programs cannot be isolated, or not as demanded, naming the fix */
export async function createLocalPool(options: LocalPoolOptions): Promise<LocalPool> {
  const workers = options.workers ?? 2 * availableParallelism();
  const brokerOptions: BrokerOptions = {
    workers,
    backend: options.backend ?? "bubblewrap",
    images: options.languages.all.flatMap((language) => imageOf(language) ?? []),
    prestart: options.prestart ?? 0,
    bubblewrap: options.bubblewrap ?? "bwrap",
    ...supervisorsFor(options.mode ?? "auto"),
    useCgroups: options.useCgroups ?? true,
  };
  const line = await openBrokerLine(brokerOptions, options.require ?? {});
  return new BrokeredPool(options, brokerOptions, line);
}

class BrokeredPool implements LocalPool {
  readonly languages: LanguageSet;
  readonly workers: number;
  readonly isolation: Isolation;
  readonly #options: LocalPoolOptions;
  readonly #brokerOptions: BrokerOptions;
  readonly #cache = new VerdictCache();
  readonly #versions = new Map<string, Promise<string | null>>();
  readonly #missingTools = new Map<string, Promise<string | null>>();
  readonly #line: BrokerLine;
  #done = 0;
  #cached = 0;

  constructor(options: LocalPoolOptions, brokerOptions: BrokerOptions, line: BrokerLine) {
    this.#options = options;
    this.#brokerOptions = brokerOptions;
    this.#line = line;
    this.workers = brokerOptions.workers;
    this.languages = options.languages;
    this.isolation = line.isolation;
  }

  readonly stats = (): PoolStats => ({
    ...this.#line.stats(),
    done: this.#done,
    cached: this.#cached,
  });

  readonly brokerPid = (): number => this.#line.pid();
  survivors = (): Promise<readonly number[]> => this.#line.survivors();

  async verify(submission: Submission): Promise<Verdict> {
    const { task, program } = submission;
    const language = this.languages.get(submission.language);
    if (program === null) return noProgramVerdict(task, language, submission.isTruncated ?? false);
    const stopAfter = submission.stopAfterFailures ?? this.#options.stopAfterFailures ?? null;
    const judge = () => this.#judge(task, language, withHarness(program, task, language), stopAfter);
    if (this.#options.cache === false) return judge();
    const verdict = await this.#cache.get(await this.#key(task, language, program, stopAfter), judge);
    if (verdict.cached) this.#cached++;
    return verdict;
  }

  async #key(
    task: Task,
    language: Language,
    program: string,
    stopAfterFailures: number | null,
  ): Promise<string> {
    const checker = this.#checkerLanguage(task);
    return verdictKey({
      program,
      tool: { language, version: await this.#version(language) },
      task,
      checkerTool: checker && { language: checker, version: await this.#version(checker) },
      limits: this.#options.limits ?? {},
      stopAfterFailures,
      keepChars: keptChars(task),
      feedback: this.#options.feedback ?? {},
      isolation: this.isolation,
    });
  }

  async #judge(
    task: Task,
    language: Language,
    program: string,
    stopAfterFailures: number | null,
  ): Promise<Verdict> {
    const { comparator } = task;
    const checkerLanguage = this.#checkerLanguage(task);
    const result = await this.#untilItWorks({
      ...this.#plainJob({ language, program, inputs: [], limits: task.limits }),
      tests: task.tests.map(({ input, output }) => ({ input, expected: output })),
      comparator: typeof comparator === "string" ? comparator : "exit",
      checker:
        typeof comparator === "string"
          ? null
          : checkerPlan(comparator.checker, checkerLanguage!, this.#image(checkerLanguage!)),
      stopAfterFailures,
      keepChars: keptChars(task),
    });
    this.#done++;
    const missing = await this.#missingTool(language, result);
    if (missing !== null) return verdictOf(task, language, { ...result, infrastructure: missing });
    const tools = result.isCheckerFailure ? checkerLanguage! : language;
    return verdictOf(task, language, result, tools, this.#options.feedback);
  }

  /** null: no checker. @throws ConfigError for a language that no file defines */
  #checkerLanguage(task: Task): Language | null {
    if (typeof task.comparator === "string") return null;
    const { language } = task.comparator.checker;
    const found = this.languages.find(language);
    if (found) return found;
    const at = `task ${task.id}: comparator.checker.language`;
    throw new ConfigError({ at, got: language, need: `one of ${this.languages.names.join(", ")}` });
  }

  /** What a shell said about a tool that is not there; asked with an empty program, once a language. */
  async #missingTool(language: Language, result: JobResult): Promise<string | null> {
    if (!mayLackTool(language, result)) return null;
    const known = this.#missingTools.get(language.name);
    if (known) return known;
    const asked = this.#line
      .run(this.#plainJob({ language, program: "", inputs: [""] }), null)
      .then(missingTool);
    this.#missingTools.set(language.name, asked);
    return asked;
  }

  /** @throws ConfigError for a file or an argument that may not go into a sandbox */
  #plainJob(run: ProgramRun): Omit<Job, "id"> {
    const { language, files = [], args = [] } = run;
    const execute = run.execute ?? language.execute;
    const problem = filesProblem(files, language.filename) ?? argumentsProblem(args, execute);
    if (problem !== null)
      throw new ConfigError({ at: language.name, need: `files and arguments that fit; ${problem}` });
    return {
      fileName: language.filename,
      program: run.program,
      compile: run.execute === undefined ? (language.compile ?? null) : null,
      execute,
      ...(args.length === 0 ? {} : { args }),
      ...(files.length === 0 ? {} : { files }),
      env: language.env,
      mounts: language.mounts,
      image: this.#image(language),
      compileLimits: compileLimits(language, run.compileLimits),
      limits: testLimits(language, this.#options.limits ?? {}, run.limits ?? {}),
      tests: run.inputs.map((input) => ({ input, expected: null })),
      comparator: "exit",
      checker: null,
      stopAfterFailures: null,
      keepChars: run.keepChars ?? Number.MAX_SAFE_INTEGER,
      isStreamed: false,
    };
  }

  /** @throws ConfigError for a language without an image where programs run in containers */
  #image(language: Language): string | null {
    const { backend } = this.#brokerOptions;
    if (backend === "bubblewrap") return null;
    const image = imageOf(language);
    if (image !== null) return image;
    throw new ConfigError({
      at: `${language.source}: container.image`,
      need: `an image for the backend ${backend}`,
      fix: "Name one that holds the language's tools, as container: {image: NAME}.",
    });
  }

  async run(run: ProgramRun): Promise<JobResult> {
    const result = await this.#untilItWorks(this.#plainJob(run));
    const missing = run.execute === undefined ? await this.#missingTool(run.language, result) : null;
    const reason = result.infrastructure ?? missing;
    if (reason !== null) throw new InfrastructureError(withInstall(reason, run.language));
    return result;
  }

  async runStreamed(run: ProgramRun, streams: Streams): Promise<JobResult> {
    const result = await this.#line.run(
      { ...this.#plainJob({ ...run, inputs: [""] }), isStreamed: true },
      streams,
    );
    if (result.infrastructure !== null)
      throw new InfrastructureError(withInstall(result.infrastructure, run.language));
    return result;
  }

  /** What the language's probe prints, asked once; part of the cache's key. */
  #version(language: Language): Promise<string | null> {
    const known = this.#versions.get(language.name);
    if (known) return known;
    const asked = this.#probe(language);
    this.#versions.set(language.name, asked);
    return asked;
  }

  async #probe(language: Language): Promise<string | null> {
    if (language.probe === undefined) return null;
    const job = this.#plainJob({ language, program: "", inputs: [""], execute: language.probe });
    const [test] = (await this.#line.run(job, null)).tests;
    return test?.status === "accepted" ? test.stdout.trim() || test.stderr.trim() : null;
  }

  async #untilItWorks(job: Omit<Job, "id">): Promise<JobResult> {
    let result = await this.#line.run(job, null);
    for (
      let retry = 0;
      retry < (this.#options.retries ?? 2) && result.infrastructure !== null && this.#line.isOpen();
      retry++
    ) {
      result = await this.#line.run(job, null);
    }
    return result;
  }

  close(): Promise<void> {
    return this.#line.close();
  }
}
