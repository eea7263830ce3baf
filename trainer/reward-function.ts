/** A reward function of the user's own: a module with an export `reward`, run in a worker thread of its own. */
import { existsSync } from "node:fs";
import { extname, resolve } from "node:path";
import { Worker } from "node:worker_threads";
import { builtModule, ConfigError, type Rollout, type Task, type Verdict } from "../core/index.js";

/** What a reward function is given. Infrastructure failures never reach it. */
export interface RewardInput {
  readonly task: Task;
  readonly rollout: Rollout;
  readonly verdict: Verdict;
}

/** What the module must export as `reward`; null leaves the rollout out of the update. */
export type RewardModule = (input: RewardInput) => number | null | Promise<number | null>;

/** `reason` says why a reward is null that the function did not itself give as null. */
export interface RewardOutcome {
  readonly reward: number | null;
  readonly reason?: string;
}

export interface RewardFunction {
  /** Never rejects: a function that throws, hangs or returns no number is an infrastructure failure, not a score of 0. */
  score(input: RewardInput): Promise<RewardOutcome>;
  close(): Promise<void>;
}

/** What the worker says: once when it has loaded the module, then once for each input. */
export type WorkerReply = { readonly failed: string } | { readonly value: unknown };

const EXTENSIONS = [".ts", ".mts", ".js", ".mjs"];
const LOAD_TIMEOUT_MS = 30_000;

/**
 * Loads a reward module. TypeScript is stripped by jiti, which also resolves the module's own imports and, unlike
 * Node 20, needs no flag; JavaScript is imported as it is.
 * @param path - .ts, .mts, .js or .mjs, relative to the working directory
 * @param timeoutMs - for one call; a thread that exceeds it is stopped, whatever it does
 * @throws ConfigError when the file is missing, does not load, or exports no function `reward`
 */
export async function loadRewardFunction(path: string, { timeoutMs = 10_000 } = {}): Promise<RewardFunction> {
  const file = resolve(path);
  if (!existsSync(file)) throw new ConfigError({ at: "rewards", got: path, need: "a file that exists" });
  if (!EXTENSIONS.includes(extname(file)))
    throw new ConfigError({ at: "rewards", got: path, need: `a file ending in ${EXTENSIONS.join(", ")}` });
  let worker: Worker | null = await startWorker(file);
  let last: Promise<unknown> = Promise.resolve();
  const scoreNow = async (input: RewardInput): Promise<RewardOutcome> => {
    try {
      worker ??= await startWorker(file);
      worker.postMessage(input);
      return outcomeOf(await nextReply(worker, timeoutMs));
    } catch (error) {
      await worker?.terminate();
      worker = null;
      return { reward: null, reason: `reward function: ${(error as Error).message}` };
    }
  };
  return {
    // One call at a time: a timeout then belongs to the call that is running.
    score: (input) => {
      const outcome = last.then(() => scoreNow(input));
      last = outcome;
      return outcome;
    },
    close: async () => {
      await last;
      await worker?.terminate();
    },
  };
}

function outcomeOf(reply: WorkerReply): RewardOutcome {
  if ("failed" in reply) return { reward: null, reason: `reward function: ${reply.failed}` };
  const { value } = reply;
  if (value === null || (typeof value === "number" && Number.isFinite(value))) return { reward: value };
  return { reward: null, reason: `reward function: returned ${String(value)}, need a finite number or null` };
}

async function startWorker(file: string): Promise<Worker> {
  const worker = new Worker(builtModule("trainer/reward-worker.js"), { workerData: file });
  worker.unref();
  let reply: WorkerReply;
  try {
    reply = await nextReply(worker, LOAD_TIMEOUT_MS);
  } catch (cause) {
    reply = { failed: (cause as Error).message };
  }
  if ("failed" in reply) {
    await worker.terminate();
    throw new ConfigError({
      at: "rewards",
      got: file,
      need: `a module that exports reward (${reply.failed})`,
    });
  }
  return worker;
}

/** The worker's next message. Rejects when it dies first or takes too long. */
function nextReply(worker: Worker, timeoutMs: number): Promise<WorkerReply> {
  return new Promise((fulfil, reject) => {
    const done = (settle: () => void): void => {
      clearTimeout(timer);
      worker.off("message", onMessage).off("error", onError).off("exit", onExit);
      settle();
    };
    const onMessage = (reply: WorkerReply): void => done(() => fulfil(reply));
    const onError = (error: Error): void => done(() => reject(error));
    const onExit = (code: number): void =>
      done(() => reject(new Error(`its thread ended with code ${code}`)));
    const timer = setTimeout(() => done(() => reject(new Error(`took over ${timeoutMs} ms`))), timeoutMs);
    worker.on("message", onMessage).on("error", onError).on("exit", onExit);
  });
}
