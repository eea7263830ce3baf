/**
 * A policy so small that a run of it takes seconds: it reads a digit and answers with one of two programs, of which the
 * tests accept one. So there are rewards of both kinds in most groups, and something to learn.
 */
import { cpSync, existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Sample } from "../../core/index.js";
import { initialWeights, parseDecoderConfig, readTokenizer, writePolicy } from "../../policy/index.js";
import { buildTokenizer } from "../../tasks/index.js";
import { createLearner, decoderModel, ObjectiveConfig, OptimizerConfig } from "../../trainer/index.js";
import { sharedPolicy } from "./small-policy-place.js";

const DIGITS = [1, 2, 3, 4, 5, 6];
const UPDATES = 120;

/** The right answer to a digit prints it, the wrong one prints its successor. */
const answers = (digit: number): string[] => [`print(${digit})`, `print(${digit + 1})`];

/** Writes the small policy with weights that nothing was taught: for what fails before anything is sampled, or whatever is. */
export async function writeRandomPolicy(folder: string) {
  mkdirSync(folder, { recursive: true });
  const { tokenizerJson, tokenizerConfig } = buildTokenizer();
  writeFileSync(join(folder, "tokenizer.json"), JSON.stringify(tokenizerJson));
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify(tokenizerConfig));
  const tokenizer = readTokenizer(folder);
  const config = parseDecoderConfig({
    model_type: "llama",
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    vocab_size: tokenizer.vocabulary,
    max_position_embeddings: 256,
    tie_word_embeddings: true,
    eos_token_id: tokenizer.stopIds[0],
  });
  const weights = initialWeights(config, 0);
  await writePolicy(folder, config, weights, folder);
  return { config, tokenizer, weights };
}

/**
 * Writes a policy folder that answers each digit rightly about every other time. It is taught once for all files of a run
 * of vitest, by the first that asks.
 */
export async function writeSmallPolicy(folder: string): Promise<void> {
  const shared = sharedPolicy(process.ppid);
  if (!existsSync(shared)) {
    const own = `${shared}.${process.pid}`;
    await teachSmallPolicy(own);
    try {
      renameSync(own, shared);
    } catch {
      rmSync(own, { recursive: true }); // another file was first; the two are the same to the bit
    }
  }
  cpSync(shared, folder, { recursive: true });
}

async function teachSmallPolicy(folder: string): Promise<void> {
  const { config, tokenizer, weights: random } = await writeRandomPolicy(folder);
  const learner = createLearner({
    model: decoderModel(config),
    weights: random,
    objective: ObjectiveConfig.parse({ type: "sft" }),
    optimizer: OptimizerConfig.parse({ type: "adamw", lr: 0.02 }),
    totalSteps: UPDATES,
    temperature: 1,
    compile: { provider: "cpu", threads: 1 },
  });
  const samples = DIGITS.flatMap((digit) =>
    answers(digit).map(
      (program): Sample => ({
        rolloutId: program,
        promptIds: tokenizer.promptIds([{ role: "user", content: String(digit) }]),
        completionIds: [...tokenizer.encode(program), ...tokenizer.stopIds],
        rolloutLogProbs: [],
        reward: 1,
        advantage: 0,
        teacherPromptIds: null,
      }),
    ),
  );
  for (let update = 0; update < UPDATES; update++) await learner.update({ samples });
  const { tensors } = await learner.exportState();
  const weights = Object.entries(tensors).flatMap(([key, { data }]) =>
    key.startsWith("weights/") ? [[key.slice("weights/".length), data] as const] : [],
  );
  await learner.dispose();
  await writePolicy(folder, config, Object.fromEntries(weights), folder);
}

/** A line of a task file: print the digit, whatever stands on stdin. */
export const digitTask = (digit: number, change: Record<string, unknown> = {}): Record<string, unknown> => ({
  id: `digit/${digit}`,
  prompt: String(digit),
  tests: [
    { input: "", output: `${digit}\n` },
    { input: "x\n", output: `${digit}\n` },
  ],
  reference: { lua: `print(${digit})` },
  ...change,
});

export const writeTasks = (file: string, tasks: readonly Record<string, unknown>[]): void =>
  writeFileSync(file, tasks.map((task) => `${JSON.stringify(task)}\n`).join(""));

/** The section that every run of the tests shares; JSON is YAML. */
export function writeRun(folder: string, sections: Record<string, Record<string, unknown>> = {}): string {
  const run: Record<string, Record<string, unknown>> = {
    run: { name: "small", seed: 5, steps: 6 },
    policy: { path: join(folder, "policy"), device: "cpu", threads: 1, program_in: "whole" },
    tasks: { train: join(folder, "train.jsonl"), heldout: join(folder, "heldout.jsonl") },
    languages: { default: "lua", instruct: false },
    rollout: {
      prompts_per_step: 2,
      samples_per_prompt: 4,
      max_new_tokens: 12,
      max_prompt_tokens: 64,
      slots: 8,
    },
    verifier: { workers: 2, limits: { time_s: 5 } },
    objective: { type: "mix", max_teacher_tokens: 128 },
    optimizer: { type: "adamw", lr: 1e-3 },
    evaluation: { every: 3, samples: 2 },
    checkpoint: { every: 2, keep: 2 },
  };
  for (const [name, section] of Object.entries(sections)) run[name] = { ...run[name], ...section };
  const file = join(folder, "run.yaml");
  writeFileSync(file, JSON.stringify(run));
  return file;
}

/** A folder with the policy, its tasks and a run file. @returns the run file */
export async function prepareRun(folder: string): Promise<string> {
  await writeSmallPolicy(join(folder, "policy"));
  writeTasks(
    join(folder, "train.jsonl"),
    DIGITS.slice(0, 4).map((digit) => digitTask(digit)),
  );
  writeTasks(
    join(folder, "heldout.jsonl"),
    DIGITS.map((digit) => digitTask(digit)),
  );
  return writeRun(folder);
}
