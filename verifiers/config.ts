/** The `verifier` section of a run. */
import { z } from "zod";
import { Limits } from "../core/index.js";

export const VerifierConfig = z.strictObject({
  pool: z.literal("local").default("local").describe("Where programs run: on this machine."),
  workers: z.int().positive().optional().describe("Programs at a time; default: twice the machine's cores."),
  limits: Limits.default({}).describe(
    "Limits of one test, where the task does not say; default 10 s, 512 MiB, 1024 KiB.",
  ),
  stop_after_failures: z
    .int()
    .positive()
    .nullable()
    .default(null)
    .describe(
      "Tests left when this many have failed are not run; null runs all. Feedback shows two, so 2 loses little where short tests come first.",
    ),
  cache: z.boolean().default(true).describe("A program already judged on the same tests is not run again."),
  retries: z
    .int()
    .min(0)
    .max(10)
    .default(2)
    .describe("Fresh sandboxes to try when ours fails, before the rollout is masked."),
});
export type VerifierConfig = z.infer<typeof VerifierConfig>;
