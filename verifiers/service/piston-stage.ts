/** How a command of ours that ended looks as a stage of Piston's answer. */
import type { TestOutcome } from "../../core/index.js";

/** Milliseconds and bytes. */
export interface PistonStage {
  readonly stdout: string;
  readonly stderr: string;
  readonly output: string;
  readonly code: number | null;
  readonly signal: string | null;
  readonly message: string | null;
  readonly status: string | null;
  readonly cpu_time: number | null;
  readonly wall_time: number;
  readonly memory: number | null;
}

/** Piston's two letters: RE non-zero exit, SG signal, TO time, OL too much output. */
export function stageOf(outcome: TestOutcome): PistonStage {
  const { stdout, stderr, exit_code, time_ms, memory_kb } = outcome;
  const { status, signal, message } = endOf(outcome);
  return {
    stdout,
    stderr,
    output: stdout + stderr,
    code: signal === null ? exit_code : null,
    signal,
    message,
    status,
    cpu_time: null, // not kept apart from the wall time
    wall_time: Math.round(time_ms),
    memory: memory_kb === null ? null : memory_kb * 1024,
  };
}

function endOf({ status, signal, exit_code }: TestOutcome): {
  status: string | null;
  signal: string | null;
  message: string | null;
} {
  if (status === "time_limit") return { status: "TO", signal: "SIGKILL", message: "Time limit exceeded" };
  if (status === "output_limit")
    return { status: "OL", signal: "SIGKILL", message: "stdout length exceeded" };
  if (status === "memory_limit") return { status: "SG", signal: "SIGKILL", message: "Memory limit exceeded" };
  if (signal !== null) return { status: "SG", signal, message: `Caught fatal signal ${signal}` };
  if (exit_code === 0) return { status: null, signal: null, message: null };
  return { status: "RE", signal: null, message: `Exited with error status ${exit_code}` };
}
