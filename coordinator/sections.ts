/** The sections of a run's configuration that belong to the loop itself; the others stand with their parts. */
import { z } from "zod";
import { STORED_TYPES } from "../policy/stored-type.js";

export const RunSection = z.strictObject({
  name: z.string().min(1).default("run").describe("What reports call this run."),
  dir: z
    .string()
    .min(1)
    .optional()
    .describe("Run directory, relative to the working directory; default: runs/NAME."),
  seed: z.int().min(0).max(0xffffffff).default(0).describe("Fixes every random choice of the run."),
  steps: z.int().nonnegative().default(100).describe("Updates of the policy."),
});

export const LanguagesSection = z.strictObject({
  default: z.string().default("python").describe("Language of tasks that name none."),
  instruct: z
    .boolean()
    .default(true)
    .describe(
      "Put the instruction of the program's language (`prompt` of its file) after each task's prompt.",
    ),
  folders: z
    .array(z.string().meta({ format: "path" }))
    .default([])
    .describe("Folders with language files of your own; they win over shipped ones of the same name."),
});

export const EvaluationSection = z.strictObject({
  every: z
    .int()
    .nonnegative()
    .default(0)
    .describe("Steps between evaluations within the run; 0 evaluates only before and after."),
  samples: z.int().nonnegative().default(2).describe("Sampled attempts at each held-out task."),
  greedy: z.boolean().default(true).describe("Also one greedy attempt at each held-out task."),
  temperature: z.number().positive().default(1).describe("Temperature of the sampled attempts."),
  self_teacher_tasks: z
    .int()
    .nonnegative()
    .optional()
    .describe(
      "Training tasks on which SDPO's self-teacher is measured before the first update; default: 96, or 8 for a policy of 64M parameters and more. 0: it is not measured.",
    ),
});

export const CheckpointSection = z.strictObject({
  every: z
    .int()
    .positive()
    .default(20)
    .describe("Steps between checkpoints; the last step always saves one."),
  keep: z.int().positive().default(3).describe("How many of the newest checkpoints stay."),
  dtype: z
    .enum(STORED_TYPES)
    .default("source")
    .describe(
      "Type of the saved weights; source: as the policy was published. Resuming goes on from float32 in any case.",
    ),
  keep_best: z.boolean().default(true).describe("The one with the best held-out pass rate stays too."),
});

export const LoggingSection = z.strictObject({
  rollouts: z.boolean().default(true).describe("Write every rollout, with its verdict, to rollouts/."),
  progress: z
    .enum(["auto", "plain", "none"])
    .default("auto")
    .describe("auto: a live display on a terminal, plain lines elsewhere."),
});
