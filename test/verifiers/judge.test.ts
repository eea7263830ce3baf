import { constants } from "node:os";
import { describe, expect, test } from "vitest";
import type { TestOutcome } from "../../core/index.js";
import { outcomeOf, programStatus, statusOf } from "../../verifiers/judge.js";
import type { RunLimits, RunReport } from "../../verifiers/protocol.js";

const limits: RunLimits = {
  timeMs: 2000,
  cpuMs: 1000,
  memoryMb: 64,
  outputBytes: 100,
  processes: 8,
  fileMb: 1,
  diskMb: 1,
  reservesAddressSpace: false,
};
const report = (changes: Partial<RunReport>): RunReport => ({
  kind: "exited",
  code: 0,
  wallMs: 10,
  cpuMs: 5,
  maxRssKb: 1000,
  stdout: Buffer.from("7\n"),
  stderr: Buffer.alloc(0),
  stderrTruncated: false,
  message: "",
  outOfMemory: false,
  ...changes,
});

describe("the status of a run", () => {
  test.each([
    ["right", {}, "accepted"],
    ["wrong", { stdout: Buffer.from("8") }, "wrong_answer"],
    ["right with status 1", { code: 1 }, "runtime_error"],
    ["a signal", { kind: "signalled", code: constants.signals.SIGSEGV }, "runtime_error"],
    [
      "SIGKILL without lack of memory",
      { kind: "signalled", code: constants.signals.SIGKILL },
      "runtime_error",
    ],
    ["SIGXCPU", { kind: "signalled", code: constants.signals.SIGXCPU }, "time_limit"],
    ["the wall", { kind: "timed_out" }, "time_limit"],
    ["CPU time of the tree over the limit, right answer", { cpuMs: 1001 }, "time_limit"],
    ["out of memory, then an answer", { outOfMemory: true }, "memory_limit"],
    ["out of memory before the wall", { kind: "timed_out", outOfMemory: true }, "memory_limit"],
    ["output before memory", { kind: "output_full", outOfMemory: true }, "output_limit"],
    ["our machinery", { kind: "broken" }, "infrastructure"],
    ["our machinery, killed for want of memory", { kind: "broken", outOfMemory: true }, "memory_limit"],
    [
      "a missing interpreter",
      { kind: "exec_failed", code: constants.errno.ENOENT, message: "lua5.4: No such file" },
      "infrastructure",
    ],
    [
      "the program's own file cannot be executed",
      { kind: "exec_failed", code: constants.errno.ENOENT, message: "./main: No such file" },
      "runtime_error",
    ],
    [
      "too little memory to load the interpreter",
      { kind: "exec_failed", code: constants.errno.ENOMEM, message: "node: no memory" },
      "runtime_error",
    ],
  ] as const)("%s", (_, changes, want) => {
    expect(statusOf(report(changes), limits, "7", "tokens")).toBe(want);
  });

  test("without an expected output, ending with status 0 is accepted", () => {
    expect(statusOf(report({ stdout: Buffer.from("anything") }), limits, null, "tokens")).toBe("accepted");
  });
});

test("a program has the status of its first test that was not accepted", () => {
  const outcomes = (...statuses: TestOutcome["status"][]) =>
    statuses.map(
      (status): TestOutcome => ({
        status,
        time_ms: 1,
        memory_kb: 1,
        exit_code: 0,
        signal: null,
        stdout: "",
        stderr: "",
      }),
    );
  expect(programStatus(outcomes("accepted", "time_limit", "runtime_error"))).toBe("time_limit");
  expect(programStatus(outcomes("accepted", "accepted"))).toBe("accepted");
});

test("a signal has its usual name", () => {
  const name = (code: number) => outcomeOf(report({ kind: "signalled", code }), "runtime_error", 9).signal;
  expect([6, 9, 11, 29, 17, 60].map(name)).toEqual([
    "SIGABRT",
    "SIGKILL",
    "SIGSEGV",
    "SIGIO",
    "SIGCHLD",
    "signal 60",
  ]);
});
