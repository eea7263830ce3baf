/** A rewritten exercise is believed only after it has run: nothing here trusts a word of the model that wrote it. */
import type { ComparatorName, Task, TestOutcome } from "../../core/index.js";
import { checkedTask, excerpt, type FunctionProblem, ioPrompt, RowRefused } from "../../tasks/index.js";
import { cleanMessage, type Language, type LocalPool, sameOutput } from "../../verifiers/index.js";
import type { Proposal } from "./conversation.js";

/** Why a rewriting is refused, in the words of a report. */
export const REWRITE_REASONS = {
  original_fails: "the exercise's own solution fails its own assertions",
  malformed_reply: "the model's reply is not the object asked for",
  bad_tests: "the tests are empty, too few or contradict each other",
  program_fails: "the program fails on a test's input",
  not_deterministic: "the program prints something else the second time",
  wrong_outputs: "the program prints something else than the test says",
  assertions_fail: "the function within the program fails the exercise's assertions",
} as const;
export type RewriteReason = keyof typeof REWRITE_REASONS;

/** What keeps a proposal from being a task; the message is for its author too. */
export class ProposalRefused extends Error {
  override readonly name = "ProposalRefused";
  readonly reason: RewriteReason;
  constructor(reason: RewriteReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

export interface ProofOptions {
  readonly minTests: number;
  readonly comparator: ComparatorName;
  /** refuse: a test whose output the program does not print refuses the proposal. replace: what it prints counts. */
  readonly wrongOutputs: "refuse" | "replace";
}

const LANGUAGE = "python";
/** A reference that needs longer makes no exercise: programs in other languages are judged beside it. */
const TIME_S = 5;
/** Printed behind the assertions, so that a program which leaves early has not passed them. */
const DONE = "every assertion holds";

const indexed = (index: number, input: string): string => `test ${index + 1} (input ${excerpt(input)})`;

/** The assertions run on a program that is imported, so that it does not read stdin. */
function assertionProgram(program: string, problem: FunctionProblem): string {
  const tests = [problem.setup, ...problem.assertions].filter((part) => part !== "").join("\n");
  // JSON's texts are Python's too.
  return [
    'space = {"__name__": "exercise"}',
    `exec(compile(${JSON.stringify(program)}, "program", "exec"), space)`,
    `exec(compile(${JSON.stringify(tests)}, "assertions", "exec"), space)`,
    `print(${JSON.stringify(`\n${DONE}`)})`,
  ].join("\n");
}

function saidBy({ status, stderr, exit_code }: TestOutcome, language: Language): string {
  const message = cleanMessage(stderr, language).split("\n").slice(-6).join("\n");
  return message === ""
    ? `${status}${exit_code === null ? "" : ` (exit status ${exit_code})`}`
    : `${status}\n${message}`;
}

/** Programs of one exercise, in the sandbox. */
export class Prover {
  readonly #pool: LocalPool;
  readonly #language: Language;
  readonly #options: ProofOptions;
  constructor(pool: LocalPool, options: ProofOptions) {
    this.#pool = pool;
    this.#language = pool.languages.get(LANGUAGE);
    this.#options = options;
  }

  /** @throws InfrastructureError; never for what the program does */
  async #run(program: string, inputs: readonly string[], seed = "0"): Promise<readonly TestOutcome[]> {
    // Another hash seed gives sets of texts another order: a program that prints one is found out.
    const language = { ...this.#language, env: { ...this.#language.env, PYTHONHASHSEED: seed } };
    const { compile, tests } = await this.#pool.run({
      language,
      program,
      inputs,
      limits: { time_s: TIME_S },
    });
    return compile === null ? tests : inputs.map(() => compile);
  }

  /** What is wrong when a function is put to the exercise's assertions; null: nothing. */
  async #assertionFault(program: string, problem: FunctionProblem): Promise<string | null> {
    const [outcome] = await this.#run(assertionProgram(program, problem), [""]);
    const isDone = outcome!.stdout.trimEnd().endsWith(`\n${DONE}`) || outcome!.stdout.trim() === DONE;
    if (outcome!.status === "accepted" && isDone) return null;
    return outcome!.status === "accepted"
      ? "it ends before the assertions"
      : saidBy(outcome!, this.#language);
  }

  /** @throws ProposalRefused where the exercise contradicts itself: no rewriting of it could be right */
  async checkOriginal(problem: FunctionProblem): Promise<void> {
    if (problem.code === null) return;
    const fault = await this.#assertionFault(problem.code, problem);
    if (fault !== null) throw new ProposalRefused("original_fails", fault);
  }

  /**
   * The task of a proposal, with the outputs that its program really printed.
   * @throws ProposalRefused with the first reason against it
   */
  async prove(problem: FunctionProblem, proposal: Proposal): Promise<Task> {
    this.#checkBeforehand(problem, proposal);
    const inputs = proposal.tests.map(({ input }) => input);
    const outcomes = await this.#run(proposal.program, inputs);
    const failed = outcomes.findIndex(({ status }) => status !== "accepted");
    if (failed >= 0) {
      const why = saidBy(outcomes[failed]!, this.#language);
      throw new ProposalRefused(
        "program_fails",
        `the program fails on ${indexed(failed, inputs[failed]!)}: ${why}`,
      );
    }
    await this.#checkRepeats(proposal.program, inputs, outcomes);
    if (this.#options.wrongOutputs === "refuse") this.#checkOutputs(proposal, outcomes);
    const fault = await this.#assertionFault(proposal.program, problem);
    if (fault !== null) {
      throw new ProposalRefused(
        "assertions_fail",
        `imported, and put to the exercise's assertions, the program's function fails: ${fault}`,
      );
    }
    const tests = inputs.map((input, index) => ({ input, output: outcomes[index]!.stdout }));
    return this.#draft(problem, proposal, tests);
  }

  /** Before anything runs: cheap, and most slips are found here. Outputs that will be replaced do not count. */
  #checkBeforehand(problem: FunctionProblem, proposal: Proposal): void {
    const { tests } = proposal;
    const isReplaced = this.#options.wrongOutputs === "replace";
    this.#draft(problem, proposal, isReplaced ? tests.map(({ input }) => ({ input, output: "?" })) : tests);
  }

  async #checkRepeats(
    program: string,
    inputs: readonly string[],
    first: readonly TestOutcome[],
  ): Promise<void> {
    const second = await this.#run(program, inputs, "1");
    const other = second.findIndex(
      ({ stdout, status }, index) => status !== "accepted" || stdout !== first[index]!.stdout,
    );
    if (other < 0) return;
    const [a, b] = [first[other]!, second[other]!].map(({ stdout }) => excerpt(stdout));
    throw new ProposalRefused(
      "not_deterministic",
      `run twice on ${indexed(other, inputs[other]!)}, the program prints ${a} and ${b}`,
    );
  }

  #checkOutputs({ tests }: Proposal, outcomes: readonly TestOutcome[]): void {
    const { comparator } = this.#options;
    const wrong = tests.flatMap(({ input, output }, index) => {
      const { stdout } = outcomes[index]!;
      if (sameOutput(comparator, output, Buffer.from(stdout, "utf8"))) return [];
      return [`${indexed(index, input)} says ${excerpt(output)}, the program prints ${excerpt(stdout)}`];
    });
    if (wrong.length === 0) return;
    const shown = wrong.slice(0, 3).join("; ");
    throw new ProposalRefused(
      "wrong_outputs",
      `${wrong.length} of ${tests.length} tests: ${shown}. Find out which is wrong, the test or the program`,
    );
  }

  /** A task of these tests. @throws ProposalRefused where they are none that a task may have */
  #draft(problem: FunctionProblem, proposal: Proposal, tests: Proposal["tests"]): Task {
    const { description, input_format, output_format, program } = proposal;
    const [example] = tests;
    const prompt = ioPrompt(description, input_format, output_format, example);
    const { minTests, comparator } = this.#options;
    const draft = { id: problem.id, prompt, tests, comparator, reference: { [LANGUAGE]: program } };
    try {
      const options = { visible: "shown" as const, minTests, refusesBlanks: true, allowsControls: false };
      return checkedTask(draft, options, []);
    } catch (error) {
      if (!(error instanceof RowRefused)) throw error;
      throw new ProposalRefused("bad_tests", error.message);
    }
  }
}
