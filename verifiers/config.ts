/** The `verifier` section of a run. */
import { z } from "zod";
import { Limits } from "../core/index.js";
import { BACKENDS } from "./backend.js";
import { Requirements } from "./requirements.js";

const hasPassword = (url: string): boolean => URL.canParse(url) && new URL(url).password !== "";

/** Where the workers of a pool are met; what a worker itself is told stands on its command line. */
export const RedisConfig = z.strictObject({
  url: z
    .string()
    .regex(/^rediss?:\/\/./, "redis://host:6379, or rediss:// with TLS")
    .refine((url) => !hasPassword(url), {
      message:
        "an address without a password, since a run keeps a copy of its configuration: put the whole address into the environment variable REDIS_URL",
    })
    .optional()
    .describe("Address of Redis; default: the environment variable REDIS_URL, which may hold a password."),
  prefix: z
    .string()
    .regex(/^[\w.-]{1,60}$/, "a short name of letters, digits, . _ -")
    .default("retort")
    .describe("Before every key; pools of different prefixes do not meet."),
  wait_s: z
    .number()
    .positive()
    .default(60)
    .describe(
      "How long programs wait for a worker that offers their language, or for a Redis that is gone, before they are infrastructure failures; seconds.",
    ),
  in_flight: z
    .int()
    .positive()
    .optional()
    .describe(
      "Programs of one language in Redis at a time; default: twice what its workers judge at a time.",
    ),
});
export type RedisConfig = z.infer<typeof RedisConfig>;

export const VerifierConfig = z.strictObject({
  pool: z
    .enum(["local", "redis"])
    .default("local")
    .describe("Where programs run: on this machine, or on the workers that share a Redis (docs/pool.md)."),
  backend: z
    .enum(BACKENDS)
    .default("bubblewrap")
    .describe(
      "Who builds the outer wall. podman, docker: each language runs in the image that its file names under container.",
    ),
  require: Requirements.default({}).describe(
    "What this host must enforce, or nothing starts: the fields of isolation in every result (docs/sandbox.md).",
  ),
  workers: z
    .int()
    .positive()
    .optional()
    .describe("Programs at a time on this machine; default: twice its cores."),
  redis: RedisConfig.prefault({}).describe("For pool: redis."),
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
