/** A side of the benchmark in a process of its own: one JSON command a line in, one JSON answer a line out. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface TrainAnswer {
  readonly seconds: number;
  /** CPU time of the process, all threads. */
  readonly cpu_seconds: number;
  readonly losses: number[];
}

export interface SampleAnswer {
  readonly seconds: number;
  readonly cpu_seconds: number;
  readonly tokens: number;
  /** Of greedy sampling only: [sequences][tokens]. */
  readonly ids?: number[][];
  readonly log_probs?: number[][];
}

/** The commands that both sides know. */
export interface Contestant {
  readonly name: string;
  /** Threads, in words. */
  readonly threads: string;
  /** Whether its training is measured too: ways that differ in sampling alone share it. */
  readonly trains: boolean;
  ask(op: "open", request: OpenRequest): Promise<{ version: string }>;
  ask(op: "train", request: { ids: number[][]; steps: number }): Promise<TrainAnswer>;
  ask(
    op: "sample",
    request: { prompts: number[][]; samples: number; new_tokens: number; greedy?: boolean },
  ): Promise<SampleAnswer>;
  ask(op: "peak", request: { size: number }): Promise<{ gflops: number }>;
  close(): void;
}

export interface OpenRequest {
  /** Policy folder: config.json, model.safetensors. */
  readonly folder: string;
  readonly threads: number;
  readonly adamw: {
    readonly lr: number;
    readonly betas: readonly [number, number];
    readonly weight_decay: number;
  };
  /** How PyTorch computes the attention of one new token; see bench/pytorch/decoder.py. */
  readonly attention?: string;
}

/** Starts a contestant's process. */
export function startContestant(
  { name, threads, trains }: { name: string; threads: string; trains: boolean },
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
): Contestant {
  const child = spawn(command[0]!, command.slice(1), {
    env: { ...process.env, ...environment },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    name,
    threads,
    trains,
    ask: async (op: string, request: object) => {
      child.stdin.write(`${JSON.stringify({ op, ...request })}\n`);
      const line = await lines.next();
      if (line.done) throw new Error(`${name} ended while it was asked to ${op}; its message is above`);
      return JSON.parse(line.value);
    },
    close: () => child.stdin.end(),
  };
}
