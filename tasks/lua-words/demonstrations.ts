/**
 * The warm start's corpus: instructions with programs in which vague words mean each of their senses equally often, and
 * the same after a solution or after feedback, so that the policy learns to read what a self-teacher is shown.
 */
import { type IoTest, type Random, randomStream, type TestOutcome } from "../../core/index.js";
import { createBatchRunner, type RunLua } from "./batch.js";
import { drawInputs, TRAINING_LENGTHS } from "./inputs.js";
import { type Instruction, KINDS, type Kind, type Ops } from "./instructions.js";
import { programOf } from "./programs.js";
import { drawOps } from "./senses.js";
import { demonstrated, FAMILY_SEED } from "./splits.js";
import { OPS } from "./vocabulary.js";
import { wrongProgram } from "./wrong-programs.js";

/** What an example's prompt shows besides the task. */
export type ExampleKind = "plain" | "solution" | "feedback" | "both";

/** One supervised example: the user message, and the program that answers it. */
export interface WarmStartExample {
  readonly kind: ExampleKind;
  readonly prompt: string;
  readonly response: string;
}

/** The feedback text of a failed program, as the verifier of the run writes it; "" when every test passed. */
export type WriteFeedback = (tests: readonly IoTest[], outcomes: readonly TestOutcome[]) => string;

/** The user message shown to a self-teacher, as the trainer of the run lays it out. */
export type WriteTeacherPrompt = (parts: {
  readonly prompt: string;
  readonly solution?: string;
  readonly feedback?: string;
}) => string;

export interface WarmStartRequest {
  readonly count: number;
  readonly runLua: RunLua;
  readonly feedback: WriteFeedback;
  readonly teacherPrompt: WriteTeacherPrompt;
  /** Draws examples; the demonstrated instructions do not depend on it. Default: the family's own seed. */
  readonly seed?: number;
  /** How many examples come first that are all plain. Default 3200: a hundred batches of 32. */
  readonly plainFirst?: number;
  /** Shares of examples with a context, after those; the rest is plain. */
  readonly shares?: Partial<Shares>;
}

interface Shares {
  readonly solution: number;
  readonly feedback: number;
  readonly both: number;
}

const SHARES: Shares = { solution: 0.45, feedback: 0.4, both: 0 };
const PLAIN_FIRST = 3200;

let byKind: Record<Kind, Instruction[]> | undefined;
function demonstratedOf(kind: Kind): Instruction[] {
  byKind ??= Object.fromEntries(
    KINDS.map((each) => [each, demonstrated().filter((one) => one.kind === each)]),
  ) as Record<Kind, Instruction[]>;
  return byKind[kind];
}

/**
 * Without random programs the words alone would tell the program, and the policy would not learn to copy a solution:
 * 0.9 of the solutions have each op replaced with probability 0.7 by any op of its slot.
 */
const RANDOM_SOLUTION = 0.9;
const RANDOM_OP = 0.7;

/** An example before its programs have run. */
interface Draft {
  readonly kind: ExampleKind;
  readonly instruction: Instruction;
  readonly program: string;
  readonly wrong: string | null;
  readonly inputs: readonly string[];
}

function randomised(ops: Ops, random: Random): Ops {
  if (random.next() >= RANDOM_SOLUTION) return ops;
  return ops.map((op) => (random.next() < RANDOM_OP ? random.pick(OPS[op.slot]) : op));
}

function drawKind(random: Random, shares: Shares): ExampleKind {
  const ticket = random.next();
  if (ticket < shares.solution) return "solution";
  if (ticket < shares.solution + shares.feedback) return "feedback";
  return ticket < shares.solution + shares.feedback + shares.both ? "both" : "plain";
}

function draftOf(random: Random, isPlain: boolean, shares: Shares): Draft {
  // A third each, as in the tasks: with fewer words the policy mistakes the order of two edits, and later learns them slowest.
  const instruction = random.pick(demonstratedOf(random.pick(KINDS)));
  const kind = isPlain ? "plain" : drawKind(random, shares);
  const meant = drawOps(instruction, random);
  const ops = kind === "solution" || kind === "both" ? randomised(meant, random) : meant;
  const program = programOf(instruction.kind, ops);
  if (kind === "plain" || kind === "solution") return { kind, instruction, program, wrong: null, inputs: [] };
  const wrong = wrongProgram(instruction, ops, random);
  return {
    kind,
    instruction,
    program,
    wrong,
    inputs: drawInputs(instruction.kind, TRAINING_LENGTHS, random),
  };
}

/** A wrong program's outcomes against what the right one printed, trailing white space aside. */
function judged(right: readonly TestOutcome[], wrong: readonly TestOutcome[]): TestOutcome[] {
  return wrong.map((outcome, i) => {
    const isSame = outcome.stdout.trimEnd() === right[i]!.stdout.trimEnd();
    return outcome.status === "accepted" && !isSame ? { ...outcome, status: "wrong_answer" } : outcome;
  });
}

function exampleOf(draft: Draft, feedback: string, teacherPrompt: WriteTeacherPrompt): WarmStartExample {
  const { instruction, program: response } = draft;
  const prompt = instruction.text;
  // A wrong program that passed all tests by chance has no feedback to learn from.
  const kind = draft.kind === "feedback" && feedback === "" ? "plain" : draft.kind;
  switch (kind) {
    case "plain":
      return { kind, prompt, response };
    case "solution":
      return { kind, prompt: teacherPrompt({ prompt, solution: response }), response };
    case "feedback":
      return { kind, prompt: teacherPrompt({ prompt, feedback }), response };
    case "both":
      return { kind, prompt: teacherPrompt({ prompt, solution: response, feedback }), response };
  }
}

/**
 * The corpus in training order. Same request, same bytes; a longer one begins with the shorter one.
 * @throws InfrastructureError where Lua could not be run
 */
export async function warmStartExamples(request: WarmStartRequest): Promise<WarmStartExample[]> {
  const { count, runLua, feedback, teacherPrompt, seed = FAMILY_SEED, plainFirst = PLAIN_FIRST } = request;
  const shares = { ...SHARES, ...request.shares };
  const drafts = Array.from({ length: count }, (_, index) =>
    draftOf(randomStream(seed, "lua-words/demonstrations", index), index < plainFirst, shares),
  );
  const compared = drafts.filter(({ wrong }) => wrong !== null);
  const outcomes = await createBatchRunner(runLua)(
    compared.flatMap(({ program, wrong, inputs }) => [
      { program, inputs },
      { program: wrong!, inputs },
    ]),
  );
  const texts = new Map(
    compared.map((draft, i) => {
      const right = outcomes[2 * i]!;
      const tests = draft.inputs.map((input, test) => ({
        input,
        output: right[test]!.stdout,
        visible: true,
      }));
      return [draft, feedback(tests, judged(right, outcomes[2 * i + 1]!))];
    }),
  );
  return drafts.map((draft) => exampleOf(draft, texts.get(draft) ?? "", teacherPrompt));
}
