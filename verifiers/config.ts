/** The `verifier` section of a run. */
import { z } from "zod";
import { Limits } from "../core/index.js";
import { BACKENDS } from "./job.js";

export const VerifierConfig = z.strictObject({
  pool: z.literal("local").default("local").describe("Where programs run: on this machine."),
  backend: z
    .enum(BACKENDS)
    .default("bubblewrap")
    .describe(
      "Who builds the outer wall. podman, docker: each language runs in the image that its file names under container.",
    ),
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
