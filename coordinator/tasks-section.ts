import { z } from "zod";

const path = z.string().meta({ format: "path" });

const TaskFiles = z
  .strictObject({
    train: path.describe("Task file (JSONL) to train on. Relative to this file."),
    heldout: path.optional().describe("Task file to measure by; never trained on."),
    probe: path.optional().describe("Task file of what the policy can do already, to watch for forgetting."),
    reward: path
      .optional()
      .describe("Module (.ts or .js) that exports `reward`, in place of 1 for accepted and 0 for failed."),
  })
  .describe("Task files of your own.");

const TaskFamily = z
  .strictObject({
    family: z
      .enum(["quickstart"])
      .describe("A generated family; run.seed fixes its meanings, tasks and splits."),
    measure: z
      .enum(["heldout", "tuning"])
      .default("heldout")
      .describe("Which tasks measure the run: heldout, or others like them for choosing settings by."),
    reward: path
      .optional()
      .describe("Module (.ts or .js) that exports `reward`, in place of 1 for accepted and 0 for failed."),
  })
  .describe("Tasks generated from a seed.");

/** Which tasks a run trains on and is measured by: the `tasks` section. */
export const TasksSection = z.union([TaskFamily, TaskFiles]);
export type TasksSection = z.infer<typeof TasksSection>;
