/** A side of the benchmark in a process of its own: one JSON command a line in, one JSON answer a line out. */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";

/** How a side is run; every side reads what concerns it. */
export interface Setting {
  readonly threads: number;
  /** Threads of OpenBLAS, a pool of its own beside PyTorch's. */
  readonly blas?: number;
  /** How PyTorch computes attention; see bench/pytorch/decoder.py. */
  readonly attention?: string;
  /** Element type of llama.cpp's weights. */
  readonly weights?: "F32" | "F16";
}

export interface OpenRequest {
  /** Folder with config.json and model.safetensors; for llama.cpp also the .gguf files. */
  readonly folder: string;
  /** `cpu`; on a GPU machine `webgpu` or `cuda`. */
  readonly device: string;
  readonly adamw: {
    readonly lr: number;
    readonly betas: readonly [number, number];
    readonly weight_decay: number;
  };
}

export interface TrainRequest {
  readonly ids: number[][];
  readonly steps: number;
}

export interface TrainAnswer {
  readonly seconds: number;
  /** CPU time of the process, all threads. */
  readonly cpu_seconds: number;
  readonly losses: number[];
}

export interface SampleRequest {
  readonly prompts: number[][];
  readonly samples: number;
  readonly new_tokens: number;
  readonly greedy?: boolean;
}

export interface SampleAnswer {
  readonly seconds: number;
  readonly cpu_seconds: number;
  readonly tokens: number;
  /** Of greedy sampling only: [sequences][tokens]. */
  readonly ids?: number[][];
  readonly log_probs?: number[][];
}

/** What a card, or a CPU, can do at most, measured by PyTorch. */
export interface Limits {
  readonly name: string;
  /** Of a large product in float32, without and with TF32. */
  readonly tflops: number;
  readonly tf32_tflops: number;
  /** Bytes read and written by a large copy. */
  readonly gb_per_s: number;
}

/** The commands that every side knows; llama.cpp cannot train. */
export interface Contestant {
  readonly name: string;
  ask(op: "open", request: OpenRequest): Promise<{ version: string }>;
  ask(op: "configure", request: Setting): Promise<object>;
  ask(op: "train", request: TrainRequest): Promise<TrainAnswer>;
  ask(op: "sample", request: SampleRequest): Promise<SampleAnswer>;
  /** Of PyTorch: where `limits` are measured. */
  ask(op: "open_device", request: { device: string }): Promise<object>;
  ask(op: "limits", request: object): Promise<Limits>;
  /** Largest resident memory of the process so far, bytes. */
  peakBytes(): number;
  /** Ends the process and waits for it. */
  close(): Promise<void>;
}

/** Starts a contestant's process. */
export function startContestant(
  name: string,
  command: readonly string[],
  environment: Readonly<Record<string, string>>,
): Contestant {
  const child = spawn(command[0]!, command.slice(1), {
    env: { ...process.env, ...environment },
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = new Promise<void>((resolve) => {
    child.once("exit", () => resolve());
    child.once("error", () => resolve());
  });
  child.stdin.on("error", () => {}); // a child that died is told of by the answer that is missing
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    name,
    ask: async (op: string, request: object) => {
      child.stdin.write(`${JSON.stringify({ op, ...request })}\n`);
      const line = await lines.next();
      if (line.done) throw new Error(`${name} ended while it was asked to ${op}; its message is above`);
      return JSON.parse(line.value);
    },
    peakBytes: () => highWaterMark(readFileSync(`/proc/${child.pid}/status`, "utf8")),
    close: async () => {
      child.stdin.end();
      await ended;
    },
  };
}

/** VmHWM of a /proc/PID/status in bytes. */
export function highWaterMark(status: string): number {
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
  if (kib === undefined) throw new Error("no VmHWM in /proc/PID/status");
  return Number(kib) * 1024;
}
