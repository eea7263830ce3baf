import { once } from "node:events";
import { readFileSync } from "node:fs";

import { Command } from "commander";
import { ConfigError } from "../core/index.js";
import type { Backend } from "../verifiers/index.js";
import type { VerifierService } from "../verifiers/service/server.js";
import {
  backendOption,
  collect,
  nonNegativeInteger,
  nonNegativeNumber,
  portNumber,
  positiveInteger,
  positiveNumber,
  requireOption,
} from "./arguments.js";
import { stopSignals } from "./stop-signals.js";

interface ServeOptions {
  readonly verifier?: true;
  readonly host: string;
  readonly port: number;
  readonly tokenFile?: string;
  readonly allowHost: readonly string[];
  readonly backend: Backend;
  readonly require?: string;
  readonly workers?: number;
  readonly languages: readonly string[];
  readonly maxTimeS?: number;
  readonly maxCompileTimeS?: number;
  readonly maxMemoryMb?: number;
  readonly maxOutputKb?: number;
  readonly maxBodyMb: number;
  readonly maxQueue: number;
  readonly deadlineS: number;
  readonly receiveS: number;
  readonly graceS: number;
  readonly json?: true;
}

/** `retort serve --verifier`: the judge over HTTP, until a signal ends it. */
export const serveCommand = (): Command =>
  new Command("serve")
    .description(
      "Serve the verifier over HTTP: our own batch API, SandboxFusion's /run_code, Piston's /api/v2/execute.",
    )
    .option("--verifier", "serve the verifier")
    .option("--host <address>", "address to listen on; one that others can reach needs a token", "127.0.0.1")
    .option("--port <number>", "port to listen on; 0: any that is free", portNumber, 8080)
    .option("--token-file <file>", "file that holds the token requests must bring; else RETORT_TOKEN, if set")
    .option(
      "--allow-host <name>",
      "another name in the Host header, on a loopback address; may be given again",
      collect,
      [],
    )
    .addOption(backendOption())
    .addOption(requireOption())
    .option("--workers <count>", "programs at once; default: two a core", positiveInteger)
    .option("--languages <folder>", "language files of your own; may be given again", collect, [])
    .option(
      "--max-time-s <seconds>",
      "most wall time that a request may ask for; default: the language's own (10)",
      positiveNumber,
    )
    .option(
      "--max-compile-time-s <seconds>",
      "wall time of a compiler, where it is to be less than the language's own (20)",
      positiveNumber,
    )
    .option(
      "--max-memory-mb <mebibytes>",
      "most memory that a request may ask for; default: the language's own (512)",
      positiveInteger,
    )
    .option(
      "--max-output-kb <kibibytes>",
      "most output that a request may ask for; default: the language's own (1024)",
      positiveInteger,
    )
    .option("--max-body-mb <mebibytes>", "largest request; more is answered 413", positiveInteger, 32)
    .option(
      "--max-queue <programs>",
      "programs that may wait; more is answered 429",
      nonNegativeInteger,
      10_000,
    )
    .option("--deadline-s <seconds>", "longest that a request waits for its answer", positiveNumber, 600)
    .option("--receive-s <seconds>", "a request must have arrived within this time", positiveNumber, 60)
    .option("--grace-s <seconds>", "when told to stop, finish for at most this long", nonNegativeNumber, 30)
    .option("--json", "print one JSON line with the address once it listens")
    .addHelpText(
      "after",
      `
Examples:
  $ retort serve --verifier
  $ retort serve --verifier --max-memory-mb 1024 --max-time-s 30
  $ RETORT_TOKEN=$(openssl rand -hex 24) retort serve --verifier --host 0.0.0.0
  $ curl -s localhost:8080/run_code -H 'content-type: application/json' -d '{"language":"python","code":"print(1)"}'

SIGTERM or Ctrl-C: takes no more requests, finishes those it has, exits 0. A second one ends it at once.
docs/serve.md: each API by example, and how to point verl and open-r1 at it.`,
    )
    .action(async (options: ServeOptions) => {
      if (options.verifier !== true)
        throw new ConfigError({
          at: "retort serve",
          need: "to be told what to serve",
          fix: "Add --verifier.",
        });
      const { loadLanguages, readRequirements } = await import("../verifiers/index.js");
      const { startVerifierService } = await import("../verifiers/service/server.js");
      const service = await startVerifierService({
        languages: loadLanguages(options.languages),
        host: options.host,
        port: options.port,
        token: readToken(options.tokenFile),
        allowedHosts: options.allowHost,
        ...(options.workers === undefined ? {} : { workers: options.workers }),
        sandbox: {
          backend: options.backend,
          ...(options.require === undefined ? {} : { require: readRequirements(options.require) }),
        },
        limits: limitsOf(options),
        maxBodyMb: options.maxBodyMb,
        maxQueue: options.maxQueue,
        deadlineS: options.deadlineS,
        receiveS: options.receiveS,
        warn: (message) => void process.stderr.write(`retort: ${message}\n`),
      });
      announce(service, options);
      const { signal } = stopSignals("retort: stopping; a second signal ends it at once");
      await once(signal, "abort");
      await service.stop(options.graceS);
    });

const limitsOf = (options: ServeOptions) => ({
  run: {
    ...(options.maxTimeS === undefined ? {} : { time_s: options.maxTimeS }),
    ...(options.maxMemoryMb === undefined ? {} : { memory_mb: options.maxMemoryMb }),
    ...(options.maxOutputKb === undefined ? {} : { output_kb: options.maxOutputKb }),
  },
  ...(options.maxCompileTimeS === undefined ? {} : { compileTimeS: options.maxCompileTimeS }),
});

/** @throws ConfigError for a file that cannot be read, and for an empty token, which would let anyone in */
function readToken(file: string | undefined): string | null {
  const at = file ?? "RETORT_TOKEN";
  let text = process.env.RETORT_TOKEN;
  if (file !== undefined) {
    try {
      text = readFileSync(file, "utf8");
    } catch (cause) {
      throw new ConfigError({ at: file, need: "a token file that can be read", cause });
    }
  }
  if (text === undefined) return null;
  const token = text.trim();
  if (token === "" || /\s/.test(token))
    throw new ConfigError({ at, need: "a token: one word", fix: "Make one: openssl rand -hex 24" });
  return token;
}

/** One line for a person, with what isolation this host enforces; one of JSON for a script. */
function announce(service: VerifierService, { json }: ServeOptions): void {
  const { url, isolation, languages } = service;
  const { sandbox, mode, user, network, memory, processes, notes } = isolation;
  const facts = `${sandbox}, ${mode}, user ${user}, network ${network}, memory by ${memory}, processes by ${processes}`;
  process.stderr.write(`retort: verifier at ${url} (${[facts, ...notes].join("; ")})\n`);
  if (json) process.stdout.write(`${JSON.stringify({ url, pid: process.pid, isolation, languages })}\n`);
}
