/**
 * The broker: a small process, started before anything large is allocated, that spawns every sandbox. Node's spawn forks,
 * and with 1 GB resident that blocks the event loop 22 ms; and bubblewrap dies with the thread that spawned it, which may
 * not be a worker's. It ends, and all sandboxes with it, when its parent's end of the channel closes. Errors and paths come
 * from their own files here and below: core/index would bring zod, half of the time that a broker takes to start.
 */
import { closeSync, readdirSync, readFileSync } from "node:fs";
import { ConfigError } from "../core/errors.js";
import { Checkers } from "./checker.js";
import { probeHost } from "./host.js";
import type { BrokerOptions, FromBroker, JobTest, SentJob, ToBroker } from "./job.js";
import { runJob, type StreamedInput } from "./run-job.js";
import type { Sandbox } from "./sandbox.js";
import { SandboxSource } from "./sandbox-source.js";

const queue: SentJob[] = [];
const open = new Map<number, Sandbox>();
const inputs = new Map<number, { send: ((bytes: Buffer | null) => void) | null; early: (Buffer | null)[] }>();
const wanted = new Map<string, (test: JobTest) => void>();
let source: SandboxSource | null = null;
let checkers: Checkers | null = null;
let freeWorkers = 0;
let workers = 0;

const CLOSE_ON_EXEC = 0o2000000;

/** Descriptors that whoever started us left open would pass through spawn into the sandboxes (Node shields the first 16). */
function closeInherited(): void {
  for (const name of readdirSync("/proc/self/fd")) {
    const fd = Number(name);
    try {
      const flags = /^flags:\s*([0-7]+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1];
      if (fd > 2 && flags !== undefined && (Number.parseInt(flags, 8) & CLOSE_ON_EXEC) === 0) closeSync(fd);
    } catch {
      // the descriptor of this very listing
    }
  }
}

function send(message: FromBroker): void {
  if (process.connected) process.send?.(message);
}

async function start(options: BrokerOptions): Promise<void> {
  try {
    const probed = await probeHost(options);
    // A program and its checker are open at a time, each in a sandbox of its own.
    const from = new SandboxSource(probed.host, 2 * options.workers, options.prestart);
    source = from;
    checkers = new Checkers((surroundings) => from.take(surroundings), options.workers);
    workers = options.workers;
    freeWorkers = workers;
    send({ type: "ready", isolation: probed.isolation });
    startJobs();
  } catch (error) {
    const at = error instanceof ConfigError ? error.at : "the sandbox";
    send({ type: "refused", at, message: error instanceof Error ? error.message : String(error) });
  }
}

function startJobs(): void {
  while (source !== null && freeWorkers > 0 && queue.length > 0) {
    freeWorkers--;
    void work(source, queue.shift()!);
  }
}

/** The result is sent before the sandbox is taken down: nobody waits for that but the next job of this worker. */
async function work(from: SandboxSource, job: SentJob): Promise<void> {
  const stream = job.isStreamed ? streamOf(job.id) : null;
  const surroundings = { mounts: job.mounts, image: job.image };
  const remember = (sandbox: Sandbox): void => void open.set(job.id, sandbox);
  const checker = job.checker === null ? null : (checkers?.session(job.checker) ?? null);
  const result = await runJob(job, {
    take: () => from.take(surroundings),
    test: (index) => wantedTest(job.id, index),
    stream,
    checker,
    onSandbox: remember,
  });
  inputs.delete(job.id);
  send({ type: "result", result });
  checker?.release();
  await open.get(job.id)?.close();
  open.delete(job.id);
  freeWorkers++;
  startJobs();
  void from.restock(surroundings, () => freeWorkers === workers && queue.length === 0);
}

/** A test too large to come with its job. */
function wantedTest(id: number, index: number): Promise<JobTest> {
  return new Promise((resolve) => {
    wanted.set(`${id} ${index}`, resolve);
    send({ type: "want", id, index });
  });
}

function takeTest(id: number, index: number, test: JobTest): void {
  wanted.get(`${id} ${index}`)?.(test);
  wanted.delete(`${id} ${index}`);
}

function streamOf(id: number): StreamedInput {
  return {
    onReady: (write) => {
      const input = inputs.get(id);
      if (input === undefined) return;
      input.send = write;
      for (const bytes of input.early.splice(0)) write(bytes);
    },
    onOutput: (stream, bytes) => send({ type: "output", id, stream, bytes }),
  };
}

function takeInput(id: number, bytes: Buffer | null): void {
  const input = inputs.get(id);
  if (input?.send) input.send(bytes);
  else input?.early.push(bytes);
}

/** Processes that descend from this one: empty when no sandbox is open. */
function survivors(): number[] {
  const parents = new Map<number, { parent: number; uid: number }>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const status = readFileSync(`/proc/${name}/status`, "utf8");
      const field = (key: string) => Number(new RegExp(`^${key}:\\s*(\\d+)`, "m").exec(status)?.[1] ?? -1);
      parents.set(Number(name), { parent: field("PPid"), uid: field("Uid") });
    } catch {
      // it ended while we read
    }
  }
  const descends = (pid: number): boolean => {
    const parent = parents.get(pid)?.parent ?? 0;
    return parent === process.pid || (parent > 1 && descends(parent));
  };
  return [...parents.keys()].filter((pid) => descends(pid));
}

closeInherited();
process.on("message", (message: ToBroker) => {
  if (message.type === "start") void start(message.options);
  else if (message.type === "job") {
    if (message.job.isStreamed) inputs.set(message.job.id, { send: null, early: [] });
    queue.push(message.job);
    startJobs();
  } else if (message.type === "test") takeTest(message.id, message.index, message.test);
  else if (message.type === "stdin")
    takeInput(message.id, message.bytes === null ? null : Buffer.from(message.bytes));
  else send({ type: "survivors", id: message.id, pids: survivors() });
});

process.on("disconnect", () => {
  const closing = [...open.values()].map((sandbox) => sandbox.close());
  void Promise.all([...closing, checkers?.sandboxes.close(), source?.close()]).finally(() => process.exit(0));
});
// The terminal's Ctrl-C is the coordinator's to answer: it finishes its step first.
for (const signal of ["SIGINT", "SIGHUP"] as const) process.on(signal, () => {});
