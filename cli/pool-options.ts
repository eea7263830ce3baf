/** Options of commands that judge: on this machine, or on the workers that share a Redis. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { ConfigError } from "../core/index.js";
import type { Backend, VerifierConfig } from "../verifiers/index.js";
import { backendOption, positiveNumber, requireOption, workersOption } from "./arguments.js";

export interface PoolOptions {
  readonly backend?: Backend;
  readonly require?: string;
  readonly workers?: number;
  readonly pool?: "local" | "redis";
  readonly redis?: string;
  readonly redisPrefix?: string;
  readonly waitS?: number;
}

/** What stands before every key in Redis. */
export function prefixName(text: string): string {
  if (/^[\w.-]{1,60}$/.test(text)) return text;
  throw new InvalidArgumentError("Need a short name of letters, digits, . _ -");
}

export const withPool = (command: Command): Command =>
  command
    .optionsGroup("Where programs run:")
    .addOption(workersOption())
    .addOption(backendOption().default(undefined))
    .addOption(requireOption())
    .addOption(
      new Option(
        "--pool <where>",
        "where programs run: here, or on `retort worker`s; default: local",
      ).choices(["local", "redis"]),
    )
    .option("--redis <url>", "where the workers are met (--pool redis); default: REDIS_URL")
    .option("--redis-prefix <name>", "as the workers'; default: retort", prefixName)
    .option("--wait-s <seconds>", "how long to wait for a worker of a language; default: 60", positiveNumber);

/** What a pool is opened with. @throws ConfigError where options of one pool are given to the other */
export async function poolConfig(options: PoolOptions): Promise<VerifierConfig> {
  const { workers, pool = "local", redis, redisPrefix, waitS } = options;
  const misplaced =
    pool === "redis"
      ? { "--workers": workers }
      : { "--redis": redis, "--redis-prefix": redisPrefix, "--wait-s": waitS };
  for (const [option, value] of Object.entries(misplaced)) {
    if (value === undefined) continue;
    const fix =
      pool === "redis"
        ? "Each worker has its own: retort worker --workers."
        : "Add --pool redis, or leave it out.";
    throw new ConfigError({ at: option, need: `another --pool than ${pool}`, fix });
  }
  const { VerifierConfig, readRequirements } = await import("../verifiers/index.js");
  const config = VerifierConfig.parse({
    pool,
    ...(options.backend === undefined ? {} : { backend: options.backend }),
    ...(options.require === undefined ? {} : { require: readRequirements(options.require) }),
    ...(workers === undefined ? {} : { workers }),
    redis: {
      ...(redisPrefix === undefined ? {} : { prefix: redisPrefix }),
      ...(waitS === undefined ? {} : { wait_s: waitS }),
    },
  });
  // A password is welcome on a command line: nothing keeps a copy of it.
  return redis === undefined ? config : { ...config, redis: { ...config.redis, url: redis } };
}
