/** The generated family as tasks: the parts of a seed, with tests whose outputs come from running the truth. */
import { InfrastructureError, type Task } from "../../core/index.js";
import { createBatchRunner, type RunLua } from "./batch.js";
import { outputOf } from "./evaluate.js";
import { HELDOUT_LENGTHS, TRAINING_LENGTHS } from "./inputs.js";
import type { Instruction } from "./instructions.js";
import { programOf } from "./programs.js";
import { drawSenses, opsOf, type Senses } from "./senses.js";
import { separatingInputs } from "./separating-inputs.js";
import { drawSplits } from "./splits.js";

/** The tasks of a seed; no instruction stands in two parts, nor among the demonstrations. */
export interface Family {
  /** 255 tasks to train on by reward: one to three vague words, 6 tests. */
  readonly rl: readonly Task[];
  /** 150 tasks to measure by: one to three vague words, 8 tests. */
  readonly heldout: readonly Task[];
  /** 49 tasks without vague words, 8 tests: what the policy can do before training, to watch for forgetting. */
  readonly probe: readonly Task[];
  /** 150 tasks like `heldout`, for choosing settings. */
  readonly tuning: readonly Task[];
  readonly senses: Senses;
  /** Wrong senses of one word that pass all tests of their task, over all tasks: false passes that are left. */
  readonly survivors: number;
}

/** A task before its outputs are known. */
interface Draft {
  readonly instruction: Instruction;
  readonly program: string;
  readonly inputs: readonly string[];
  /** What the twin says that the program prints. */
  readonly predicted: readonly string[];
  readonly survivors: number;
}

function draft(instruction: Instruction, senses: Senses, lengths: readonly number[], seed: number): Draft {
  const ops = opsOf(instruction, senses);
  const { inputs, survivors } = separatingInputs(instruction, ops, lengths, seed);
  const predicted = inputs.map((input) => outputOf(instruction.kind, ops, input));
  return { instruction, program: programOf(instruction.kind, ops), inputs, predicted, survivors };
}

function taskOf({ instruction, program, inputs }: Draft, outputs: readonly string[]): Task {
  return {
    id: instruction.id,
    prompt: instruction.text,
    tests: inputs.map((input, i) => ({ input, output: outputs[i]!, visible: true })),
    language: "lua",
    // Trailing white space aside, characters count: print styles differ by them.
    comparator: "trailing",
    limits: {},
    reference: { lua: program },
  };
}

/**
 * Makes the tasks of a seed. Same seed, same bytes.
 * @param runLua - runs Lua, isolated; the reference programs are really run, and tests keep what they printed
 * @throws InfrastructureError when a reference program fails or prints something else than the family's own semantics
 */
export async function prepareFamily(request: {
  readonly seed: number;
  readonly runLua: RunLua;
}): Promise<Family> {
  const { seed, runLua } = request;
  const senses = drawSenses(seed);
  const splits = drawSplits(seed);
  const drafts = {
    rl: splits.rl.map((each) => draft(each, senses, TRAINING_LENGTHS, seed)),
    heldout: splits.heldout.map((each) => draft(each, senses, HELDOUT_LENGTHS, seed)),
    probe: splits.probe.map((each) => draft(each, senses, HELDOUT_LENGTHS, seed)),
    tuning: splits.tuning.map((each) => draft(each, senses, HELDOUT_LENGTHS, seed)),
  };
  const all = Object.values(drafts).flat();
  const outcomes = await createBatchRunner(runLua)(all.map(({ program, inputs }) => ({ program, inputs })));
  const tasks = new Map(
    all.map((each, i) => {
      const outputs = outcomes[i]!.map(({ stdout }) => stdout);
      if (outputs.some((output, test) => output !== each.predicted[test])) {
        throw new InfrastructureError(
          `the reference program of ${each.instruction.id} printed ${JSON.stringify(outputs)}, not ${JSON.stringify(each.predicted)}`,
        );
      }
      return [each, taskOf(each, outputs)];
    }),
  );
  const part = (of: readonly Draft[]): Task[] => of.map((each) => tasks.get(each)!);
  return {
    rl: part(drafts.rl),
    heldout: part(drafts.heldout),
    probe: part(drafts.probe),
    tuning: part(drafts.tuning),
    senses,
    survivors: all.reduce((sum, { survivors }) => sum + survivors, 0),
  };
}
