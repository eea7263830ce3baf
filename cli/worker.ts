import { Command } from "commander";
import { ConfigError } from "../core/index.js";
import type { Backend } from "../verifiers/index.js";
import type { WorkerEvent } from "../verifiers/redis/index.js";
import {
  backendOption,
  languagesOption,
  positiveInteger,
  positiveNumber,
  repeatedOption,
  requireOption,
  workersOption,
} from "./arguments.js";
import { prefixName } from "./pool-options.js";

interface WorkerOptions {
  readonly redis?: string;
  readonly redisPrefix?: string;
  readonly languages: readonly string[];
  readonly only: readonly string[];
  readonly workers?: number;
  readonly backend: Backend;
  readonly require?: string;
  readonly name?: string;
  readonly silenceS?: number;
  readonly maxTimeS?: number;
  readonly maxMemoryMb?: number;
  readonly json?: true;
  readonly poisoned?: true;
}

/** `retort worker`: this machine judges for runs and evaluations elsewhere. */
export const workerCommand = (): Command =>
  new Command("worker")
    .description("Join a pool of verifiers: judge programs for runs and evaluations on other machines.")
    .option("--redis <url>", "the pool's Redis; default: REDIS_URL, where a password stays out of sight")
    .option(
      "--redis-prefix <name>",
      "of every key; pools of different prefixes do not meet; default: retort",
      prefixName,
    )
    .addOption(languagesOption())
    .addOption(repeatedOption("--only <language>", "offer this language alone"))
    .addOption(workersOption())
    .addOption(backendOption())
    .addOption(requireOption())
    .option("--name <name>", "names this worker in results; default: host name and process id")
    .option(
      "--silence-s <seconds>",
      "after such a silence its programs go to others; default: 20",
      positiveNumber,
    )
    .option("--max-time-s <seconds>", "most time a test may ask for; default: 600", positiveNumber)
    .option("--max-memory-mb <mebibytes>", "most memory a test may ask for; default: all", positiveInteger)
    .option("--poisoned", "list the programs that were set aside because workers died of them, and end")
    .option("--json", "log as JSON, one object a line")
    .addHelpText(
      "after",
      `
Examples:
  $ retort worker --redis redis://10.0.0.5:6379
  $ REDIS_URL=rediss://:password@judge.example:6379 retort worker --workers 8 --languages my-languages
  $ retort worker --redis redis://10.0.0.5:6379 --poisoned

It offers the languages whose self-test passes here, and judges by its own language files: a program comes to it only if
the sender's file of that language says the same. Ctrl-C or SIGTERM: it finishes what runs, gives back the rest and exits
with 0; a second one stops at once. Its log goes to stderr.`,
    )
    .action(async (options: WorkerOptions) => {
      const url = options.redis ?? process.env.REDIS_URL;
      if (url === undefined || url === "") {
        throw new ConfigError({
          at: "--redis",
          need: "the address of a Redis",
          fix: "Give --redis, or set REDIS_URL.",
        });
      }
      if (options.poisoned) await printPoisoned(url, options);
      else await work(url, options);
    });

async function work(url: string, options: WorkerOptions): Promise<void> {
  const { eventLine, startRedisWorker } = await import("../verifiers/redis/index.js");
  const { languageSet, loadLanguages, readRequirements } = await import("../verifiers/index.js");
  const all = loadLanguages(options.languages);
  const languages = options.only.length === 0 ? all : languageSet(options.only.map(all.get));
  const { backend, redisPrefix: prefix, workers, name, silenceS, maxTimeS, maxMemoryMb } = options;
  const stopped = stopSignal();
  const starting = startRedisWorker({
    languages,
    url,
    backend,
    ...(options.require === undefined ? {} : { require: readRequirements(options.require) }),
    ...(prefix === undefined ? {} : { prefix }),
    ...(workers === undefined ? {} : { workers }),
    ...(name === undefined ? {} : { name }),
    ...(silenceS === undefined ? {} : { silenceS }),
    ceilings: {
      ...(maxTimeS === undefined ? {} : { timeS: maxTimeS }),
      ...(maxMemoryMb === undefined ? {} : { memoryMb: maxMemoryMb }),
    },
    onEvent: (event: WorkerEvent) => {
      const time = new Date().toISOString();
      const line = options.json
        ? JSON.stringify({ time, ...event })
        : `${time.slice(11, 19)} ${eventLine(event)}`;
      process.stderr.write(`${line}\n`);
    },
  });
  // Redis may be long in coming: who waits for it is stopped at once.
  const worker = await Promise.race([starting, stopped]);
  await stopped;
  await worker?.close();
}

/** Resolves at the first Ctrl-C or SIGTERM; the second one ends the process. */
function stopSignal(): Promise<null> {
  return new Promise((resolve) => {
    let isStopping = false;
    const stop = (): void => {
      if (isStopping) process.exit(1);
      isStopping = true;
      resolve(null);
    };
    process.on("SIGINT", stop);
    process.on("SIGTERM", stop);
  });
}

async function printPoisoned(url: string, { redisPrefix: prefix, json }: WorkerOptions): Promise<void> {
  const { listPoisoned } = await import("../verifiers/redis/index.js");
  const found = await listPoisoned(url, prefix);
  if (json) {
    for (const each of found) process.stdout.write(`${JSON.stringify(each)}\n`);
    return;
  }
  if (found.length === 0) process.stderr.write("No program was set aside.\n");
  for (const { at, task_id, language, program, workers } of found) {
    const when = new Date(at * 1000).toISOString();
    process.stdout.write(`${when} task ${task_id}, ${language}, by ${workers.join(", ")}\n${program}\n\n`);
  }
}
