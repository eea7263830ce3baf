import { once } from "node:events";
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { Command } from "commander";
import { ConfigError } from "../core/index.js";
import { DEVICES } from "../policy/run-config.js";
import type { Backend } from "../verifiers/index.js";
import {
  type BasePrecision,
  backendOption,
  basePrecisionOption,
  choiceOption,
  languagesOption,
  nonNegativeInteger,
  nonNegativeNumber,
  policyOption,
  portNumber,
  positiveInteger,
  positiveNumber,
  repeatedOption,
  requireOption,
  workersOption,
} from "./arguments.js";
import { stopSignals } from "./stop-signals.js";

interface ServeOptions {
  readonly verifier?: true;
  readonly policy?: string;
  readonly host: string;
  readonly port: number;
  readonly tokenFile?: string;
  readonly allowHost: readonly string[];
  readonly maxBodyMb: number;
  readonly maxQueue: number;
  readonly deadlineS: number;
  readonly receiveS: number;
  readonly graceS: number;
  readonly json?: true;
  readonly backend: Backend;
  readonly require?: string;
  readonly workers?: number;
  readonly languages: readonly string[];
  readonly maxTimeS?: number;
  readonly maxCompileTimeS?: number;
  readonly maxMemoryMb?: number;
  readonly maxOutputKb?: number;
  readonly name?: string;
  readonly device: (typeof DEVICES)[number];
  readonly basePrecision: BasePrecision;
  readonly threads?: number;
  readonly slots: number;
  readonly context?: number;
  readonly maxAdapters: number;
}

/** `retort serve`: the judge, or a policy, over HTTP, until a signal ends it. */
export const serveCommand = (): Command =>
  withHttp(withPolicy(withVerifier(new Command("serve"))))
    .description("Serve the verifier, or a policy, over HTTP.")
    .option("--json", "print one JSON line with the address once it listens")
    .addHelpText("after", EXAMPLES)
    .action(async (options: ServeOptions) => {
      const { verifier, policy } = options;
      if ((verifier === true) === (policy !== undefined))
        throw new ConfigError({
          at: "retort serve",
          need: "to be told what to serve",
          fix: "Add either --verifier or --policy FOLDER.",
        });
      const service = policy === undefined ? await verifierOf(options) : await policyOf(options, policy);
      process.stderr.write(`retort: ${service.line}\n`);
      if (options.json)
        process.stdout.write(`${JSON.stringify({ url: service.url, pid: process.pid, ...service.facts })}\n`);
      const { signal } = stopSignals("retort: stopping; a second signal ends it at once");
      await once(signal, "abort");
      await service.stop(options.graceS);
    });

const withVerifier = (command: Command): Command =>
  command
    .optionsGroup("The judge (SandboxFusion's and Piston's APIs beside our own):")
    .option("--verifier", "serve the verifier")
    .addOption(backendOption())
    .addOption(requireOption())
    .addOption(workersOption())
    .addOption(languagesOption())
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
    );

const withPolicy = (command: Command): Command =>
  command
    .optionsGroup("A policy (OpenAI's API):")
    .addOption(policyOption())
    .option("--name <name>", "what requests call it; default: the folder's name")
    .addOption(choiceOption("--device <name>", "what computes", DEVICES, "auto"))
    .addOption(basePrecisionOption())
    .option("--threads <count>", "CPU threads; default: every core", positiveInteger)
    .option("--slots <count>", "completions written at once; others wait", positiveInteger, 16)
    .option(
      "--context <tokens>",
      "prompt and completion together; default: the policy's positions, at most 4096",
      positiveInteger,
    )
    .option("--max-adapters <count>", "LoRA adapters that may be loaded at a time", nonNegativeInteger, 4);

const withHttp = (command: Command): Command =>
  command
    .optionsGroup("The service:")
    .option("--host <address>", "address to listen on; one that others can reach needs a token", "127.0.0.1")
    .option("--port <number>", "port to listen on; 0: any that is free", portNumber, 8080)
    .option("--token-file <file>", "file that holds the token requests must bring; else RETORT_TOKEN, if set")
    .addOption(
      repeatedOption("--allow-host <name>", "another name in the Host header, on a loopback address"),
    )
    .option("--max-body-mb <mebibytes>", "largest request; more is answered 413", positiveInteger, 32)
    .option(
      "--max-queue <count>",
      "programs, or completions, that may wait; more is answered 429",
      nonNegativeInteger,
      10_000,
    )
    .option("--deadline-s <seconds>", "longest that a request waits for its answer", positiveNumber, 600)
    .option("--receive-s <seconds>", "a request must have arrived within this time", positiveNumber, 60)
    .option("--grace-s <seconds>", "when told to stop, finish for at most this long", nonNegativeNumber, 30);

const EXAMPLES = `
Examples:
  $ retort serve --verifier
  $ retort serve --verifier --max-memory-mb 1024 --max-time-s 30
  $ RETORT_TOKEN=$(openssl rand -hex 24) retort serve --verifier --host 0.0.0.0
  $ curl -s localhost:8080/run_code -H 'content-type: application/json' -d '{"language":"python","code":"print(1)"}'
  $ retort serve --policy checkpoints/quickstart --slots 32
  $ curl -s localhost:8080/v1/chat/completions -H 'content-type: application/json' \\
      -d '{"model":"quickstart","messages":[{"role":"user","content":"Read a word. Report it reversed."}]}'

SIGTERM or Ctrl-C: takes no more requests, finishes those it has, exits 0. A second one ends it at once.
docs/serve.md: each API by example, and how to point verl and open-r1 at it. docs/engines.md: training against a server.`;

/** A service that listens, and what is said of it. */
interface Started {
  readonly url: string;
  readonly line: string;
  /** For scripts, beside url and pid. */
  readonly facts: Readonly<Record<string, unknown>>;
  stop(graceS: number): Promise<void>;
}

const frameOf = (options: ServeOptions) => ({
  host: options.host,
  port: options.port,
  token: readToken(options.tokenFile),
  allowedHosts: options.allowHost,
  maxBodyMb: options.maxBodyMb,
  receiveS: options.receiveS,
  maxQueue: options.maxQueue,
  deadlineS: options.deadlineS,
  warn: (message: string) => void process.stderr.write(`retort: ${message}\n`),
});

async function verifierOf(options: ServeOptions): Promise<Started> {
  const { loadLanguages, readRequirements } = await import("../verifiers/index.js");
  const { startVerifierService } = await import("../verifiers/service/server.js");
  const service = await startVerifierService({
    ...frameOf(options),
    languages: loadLanguages(options.languages),
    ...(options.workers === undefined ? {} : { workers: options.workers }),
    sandbox: {
      backend: options.backend,
      ...(options.require === undefined ? {} : { require: readRequirements(options.require) }),
    },
    limits: limitsOf(options),
  });
  const { url, isolation, languages } = service;
  const { sandbox, mode, user, network, memory, processes, notes } = isolation;
  const facts = `${sandbox}, ${mode}, user ${user}, network ${network}, memory by ${memory}, processes by ${processes}`;
  return {
    url,
    line: `verifier at ${url} (${[facts, ...notes].join("; ")})`,
    facts: { isolation, languages },
    stop: (graceS) => service.stop(graceS),
  };
}

async function policyOf(options: ServeOptions, policy: string): Promise<Started> {
  const { startPolicyService } = await import("../coordinator/serving/server.js");
  const service = await startPolicyService({
    ...frameOf(options),
    policy,
    ...(options.name === undefined ? {} : { name: options.name }),
    device: options.device,
    basePrecision: options.basePrecision,
    threads: options.threads ?? availableParallelism(),
    slots: options.slots,
    ...(options.context === undefined ? {} : { context: options.context }),
    maxAdapters: options.maxAdapters,
  });
  const { url, model, device, context } = service;
  return {
    url,
    line: `${model} at ${url}/v1 (${device}, ${options.slots} slots, ${context} positions)`,
    facts: { model, device, context },
    stop: (graceS) => service.stop(graceS),
  };
}

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
