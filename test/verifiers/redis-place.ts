/** A Redis of a test's own, and workers as processes of their own: started for real, and killed for real. */
import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import type { Task } from "../../core/index.js";
import { loadLanguages } from "../../verifiers/index.js";
import { createRedisPool, type RedisPool, type RedisPoolOptions } from "../../verifiers/redis/index.js";
import { main } from "../cli/retort.js";

/** How long anything may take on a machine that is busy with other things. */
const PATIENCE_MS = 90_000;

/** Looks again and again until it holds. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const since = Date.now(); !(await holds()); await sleep(20))
    if (Date.now() - since > PATIENCE_MS) throw new Error(`waited in vain: ${what}`);
}

/** Below those that Linux gives to whoever asks for any: a server may come back to it after it was away. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(10_000, 32_768);
    const isFree = await new Promise<boolean>((resolve) => {
      const server = createServer();
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}

export interface Place {
  readonly port: number;
  readonly url: string;
  /** For looking at keys; reconnects by itself. */
  readonly redis: Redis;
  /** SIGKILL: what it held is lost, for it saves nothing. */
  kill(): Promise<void>;
  /** SIGSTOP: connections stay and nothing answers, until it is killed or thawed. */
  freeze(): void;
  thaw(): void;
  start(): Promise<void>;
  end(): Promise<void>;
}

/** @param options - more of redis-server's */
export async function openPlace(options: readonly string[] = [], password = ""): Promise<Place> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), "redis-place-"));
  const url = `redis://${password === "" ? "" : `:${password}@`}127.0.0.1:${port}`;
  const redis = new Redis(url, { lazyConnect: true, maxRetriesPerRequest: null, retryStrategy: () => 50 });
  redis.on("error", () => {});
  let server: ChildProcess | null = null;
  const kill = async (): Promise<void> => {
    const child = server;
    server = null;
    if (child === null || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  };
  const start = async (): Promise<void> => {
    const own = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""];
    const secret = password === "" ? [] : ["--requirepass", password];
    const child = spawn("redis-server", [...own, "--appendonly", "no", ...secret, ...options], {
      stdio: "ignore",
    });
    server = child;
    const ended = new Promise<never>((_, reject) => {
      child.once("error", reject);
      child.once("exit", (code) =>
        reject(new Error(`redis-server ended with ${code}; its port was ${port}`)),
      );
    });
    ended.catch(() => {}); // later, when it is killed
    await Promise.race([redis.ping(), ended]);
  };
  await start();
  return {
    port,
    url,
    redis,
    kill,
    freeze: (): void => void server?.kill("SIGSTOP"),
    thaw: () => void server?.kill("SIGCONT"),
    start,
    end: async () => {
      redis.disconnect();
      await kill();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

export interface WorkerProcess {
  readonly child: ChildProcess;
  /** Its log, as it came. */
  readonly events: readonly Record<string, unknown>[];
  has(event: string): boolean;
  count(event: string): number;
  /** @returns its exit code, null after a signal */
  end(signal: NodeJS.Signals): Promise<number | null>;
  readonly stderr: () => string;
}

const running = new Set<ChildProcess>();

/** `retort worker`, for Lua and Bash unless told otherwise; silent for 2 s, it is taken for dead. */
export async function startWorker(
  url: string,
  name: string,
  more: readonly string[] = [],
  isAwaited = true,
): Promise<WorkerProcess> {
  const only = more.includes("--only") ? [] : ["--only", "lua", "--only", "bash"];
  const args = ["worker", "--name", name, "--json", "--silence-s", "2", ...only, ...more];
  // The address by the environment: it may hold a password.
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ["ignore", "ignore", "pipe"],
    env: { ...process.env, REDIS_URL: url },
  });
  running.add(child);
  const events: Record<string, unknown>[] = [];
  let [text, rest] = ["", ""];
  child.stderr!.on("data", (chunk) => {
    text += String(chunk);
    const lines = (rest + String(chunk)).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) if (line.startsWith("{")) events.push(JSON.parse(line));
  });
  const ended = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  void ended.then(() => running.delete(child));
  const count = (event: string) => events.filter((each) => each.event === event).length;
  const worker: WorkerProcess = {
    child,
    events,
    count,
    has: (event) => count(event) > 0,
    end: (signal) => {
      child.kill(signal);
      return ended;
    },
    stderr: () => text,
  };
  if (isAwaited) {
    await until(`${name} joins`, () => {
      if (child.exitCode !== null) throw new Error(`the worker ended: ${text}`);
      return worker.has("joined");
    });
  }
  return worker;
}

/** For afterAll: nothing that a failed test started stays. */
export async function endWorkers(): Promise<void> {
  await Promise.all(
    [...running].map(
      (child) =>
        new Promise((resolve) => {
          child.once("close", resolve);
          child.kill("SIGCONT");
          child.kill("SIGKILL");
        }),
    ),
  );
}

export const openClient = (url: string, options: Partial<RedisPoolOptions> = {}): Promise<RedisPool> =>
  createRedisPool({ languages: loadLanguages(), url, cache: false, heartbeatS: 0.5, ...options });

export const doubling = (changes: Partial<Task> = {}): Task => ({
  id: "double",
  prompt: "",
  tests: [
    { input: "1\n", output: "2\n", visible: true },
    { input: "5\n", output: "10\n", visible: false },
  ],
  comparator: "tokens",
  limits: { time_s: 20 },
  ...changes,
});

/** Keys by which something of a client, a job or a worker would be left behind. */
export const keysOf = async (place: Place): Promise<string[]> => (await place.redis.keys("*")).sort();
