/** A sandbox whose pid 1 is our supervisor: one bubblewrap for a program, each run in namespaces of its own inside. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import type { Duplex, Readable } from "node:stream";
import { InfrastructureError } from "../core/index.js";
import { FIRST_UID, PATH, supervisedArguments } from "./bubblewrap.js";
import { type Cgroup, createCgroup } from "./cgroup.js";
import {
  FLAG_COMPILE,
  FLAG_STREAM,
  FrameReader,
  fileFrame,
  frame,
  parseReply,
  type RunReport,
  runFrame,
} from "./protocol.js";
import {
  type Host,
  programEnvironment,
  runArguments,
  type Sandbox,
  type SandboxFile,
  type SandboxPlan,
  type SandboxRun,
} from "./sandbox.js";
import { removeCgroup, untilExit } from "./teardown.js";

const MIB = 1024 * 1024;
/** Past the wall limit, for the supervisor to report; after that the sandbox itself counts as broken. */
const GRACE_MS = 10_000;
const START_MS = 20_000;

interface Pending {
  readonly run: SandboxRun;
  readonly chunks: { readonly stdout: Buffer[]; readonly stderr: Buffer[] };
  readonly timer: NodeJS.Timeout;
  readonly resolve: (report: RunReport) => void;
  readonly reject: (error: Error) => void;
}

export async function openSupervisedSandbox(
  host: Host,
  supervisor: string,
  plan: SandboxPlan,
): Promise<Sandbox> {
  const supervisorFd = openSync(supervisor, "r");
  let child: ChildProcess;
  try {
    child = spawn(host.bubblewrap.path, supervisedArguments(host.bubblewrap, plan.mounts), {
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe", supervisorFd],
      env: { PATH: process.env.PATH ?? PATH },
      cwd: "/",
      ...(host.isRoot ? { uid: FIRST_UID + plan.slot, gid: FIRST_UID + plan.slot } : {}),
    });
  } finally {
    closeSync(supervisorFd);
  }
  const sandbox = new SupervisedSandbox(host, child, plan);
  try {
    await sandbox.start();
  } catch (error) {
    await sandbox.close();
    throw error;
  }
  return sandbox;
}

class SupervisedSandbox implements Sandbox {
  readonly #host: Host;
  readonly #child: ChildProcess;
  readonly #control: Duplex;
  readonly #reader: FrameReader;
  readonly #exited: Promise<void>;
  readonly #closed: Promise<unknown>;
  readonly #name: string;
  #cgroup: Cgroup | null = null;
  #pending: Pending | null = null;
  #groupLimits = "";
  #oomKills = 0;
  #words = "";
  #maxFrame = 2 * MIB;
  #isOver = false;

  constructor(host: Host, child: ChildProcess, plan: SandboxPlan) {
    this.#host = host;
    this.#child = child;
    this.#name = plan.name;
    this.#control = child.stdio[3] as Duplex;
    this.#reader = new FrameReader(() => this.#maxFrame);
    this.#exited = untilExit(child);
    this.#closed = new Promise((resolve) => {
      child.once("close", resolve);
    });
    child.stderr?.on("data", (bytes: Buffer) => {
      if (this.#words.length < 4096) this.#words += bytes.toString("utf8");
    });
    // A sandbox that dies answers with EPIPE or ECONNRESET; its end is handled where it is noticed, on exit.
    this.#control?.on("error", () => {});
    this.#control?.on("data", (bytes: Buffer) => this.#receive(bytes));
    child.on("error", (error) => this.#fail(`bubblewrap did not start: ${error.message}`));
    child.on("close", () => this.#fail(`the sandbox ended: ${this.#words.trim() || "no message"}`));
  }

  async start(): Promise<void> {
    const pid = await this.#sandboxPid();
    if (this.#host.cgroups !== null) {
      try {
        this.#cgroup = createCgroup(this.#host.cgroups, this.#name);
        this.#cgroup.attach(pid);
      } catch (cause) {
        // bubblewrap names its pid before its mounts stand; where those fail it is gone already, and has said why.
        const hasEnded = (cause as NodeJS.ErrnoException).code === "ESRCH";
        if (hasEnded) await this.#closed;
        throw new InfrastructureError(hasEnded ? this.#lastWords() : `no cgroup: ${String(cause)}`, {
          cause,
        });
      }
    }
    // The supervisor idles until its first frame, so nothing of the program runs outside the group.
    this.#control.write(frame("S", this.#host.filter));
  }

  load(files: readonly SandboxFile[]): void {
    this.#control.write(Buffer.concat(files.map((file) => fileFrame(file.name, file.bytes))));
  }

  #lastWords(): string {
    return `the sandbox did not start: ${this.#words.trim() || "no message"}`;
  }

  /** bubblewrap prints {"child-pid": N} once the namespaces stand. */
  #sandboxPid(): Promise<number> {
    const info = this.#child.stdio[4] as Readable;
    return new Promise((resolve, reject) => {
      let text = "";
      const fail = (why: string) => {
        clearTimeout(timer);
        reject(new InfrastructureError(why));
      };
      const timer = setTimeout(() => fail("the sandbox did not start in time"), START_MS);
      info.on("error", () => {});
      info.on("data", (bytes: Buffer) => {
        text += bytes.toString("utf8");
        const pid = /"child-pid":\s*(\d+)/.exec(text)?.[1];
        if (pid === undefined) return;
        clearTimeout(timer);
        resolve(Number(pid));
      });
      this.#child.once("error", (error) => fail(`bubblewrap did not start: ${error.message}`));
      this.#child.once("close", () => fail(this.#lastWords()));
    });
  }

  run(run: SandboxRun): Promise<RunReport> {
    if (this.#isOver)
      return Promise.reject(new InfrastructureError(`the sandbox ended: ${this.#words.trim()}`));
    const { limits } = run;
    try {
      this.#limitGroup(
        limits.memoryMb,
        limits.processes,
        Math.ceil((run.stdin.length + limits.outputBytes) / MIB),
      );
    } catch (cause) {
      // What the compiler left in /w is more than the program may use: the program's doing, not ours.
      if ((cause as NodeJS.ErrnoException).code === "EBUSY") return Promise.resolve(withoutMemory("exited"));
      return Promise.reject(new InfrastructureError(`cgroup limit: ${String(cause)}`, { cause }));
    }
    this.#maxFrame = limits.outputBytes + 2 * MIB;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#fail("the supervisor does not answer"), limits.timeMs + GRACE_MS);
      this.#pending = { run, chunks: { stdout: [], stderr: [] }, timer, resolve, reject };
      this.#control.write(
        runFrame({
          argv: runArguments(run),
          env: programEnvironment(run.env),
          stdin: run.stdin,
          limits,
          flags:
            this.#host.runFlags |
            (run.phase === "compile" ? FLAG_COMPILE : 0) |
            (run.onOutput ? FLAG_STREAM : 0),
          hasMemoryCgroup: this.#host.cgroups?.memory != null,
        }),
      );
    });
  }

  /** Writes to the control group only what changed: most tests of a program have the same limits. */
  #limitGroup(memoryMb: number, processes: number, inputMb: number): void {
    const wanted = `${memoryMb} ${processes} ${inputMb}`;
    if (wanted === this.#groupLimits) return;
    this.#cgroup?.limit(memoryMb, processes, inputMb);
    this.#groupLimits = wanted;
  }

  /** Whether the kernel killed a process for want of memory since this was last asked. */
  #ranOutOfMemory(): boolean {
    const kills = this.#cgroup?.oomKills() ?? 0;
    const grew = kills > this.#oomKills;
    this.#oomKills = kills;
    return grew;
  }

  sendInput(bytes: Buffer | null): void {
    if (!this.#isOver) this.#control.write(bytes === null ? frame("E") : frame("I", bytes));
  }

  #receive(bytes: Buffer): void {
    try {
      for (const { type, payload } of this.#reader.push(bytes)) this.#handle(type, payload);
    } catch (error) {
      this.#fail(`bad reply: ${String(error)}`);
    }
  }

  #handle(type: string, payload: Buffer): void {
    const pending = this.#pending;
    if (pending === null) throw new RangeError("a reply that nobody asked for");
    if (type === "O" || type === "P") {
      const stream = type === "O" ? "stdout" : "stderr";
      if (pending.run.onOutput) pending.run.onOutput(stream, payload);
      else pending.chunks[stream].push(payload);
      return;
    }
    const report = type === "D" ? parseReply(payload) : null;
    if (report === null) throw new RangeError(`a frame of type ${JSON.stringify(type)}`);
    clearTimeout(pending.timer);
    this.#pending = null;
    const { stdout, stderr } = pending.chunks;
    pending.resolve({
      ...report,
      stdout: stdout.length > 0 ? Buffer.concat([...stdout, report.stdout]) : report.stdout,
      stderr: stderr.length > 0 ? Buffer.concat([...stderr, report.stderr]) : report.stderr,
      outOfMemory: this.#ranOutOfMemory(),
    });
  }

  #fail(why: string): void {
    this.#isOver = true;
    this.#child.kill("SIGKILL");
    const pending = this.#pending;
    if (pending === null) return;
    this.#pending = null;
    clearTimeout(pending.timer);
    if (this.#ranOutOfMemory()) pending.resolve(withoutMemory("broken"));
    else pending.reject(new InfrastructureError(why));
  }

  async close(): Promise<void> {
    this.#isOver = true;
    this.#control?.end();
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), 500);
    await this.#exited;
    clearTimeout(timer);
    this.#control?.destroy();
    if (this.#cgroup !== null) await removeCgroup(this.#cgroup);
  }
}

/**
 * Too little memory for the program to be run at all: the verdict is the program's.
 * @param kind - broken: the kernel took the supervisor with the program, and the sandbox is gone
 */
function withoutMemory(kind: "exited" | "broken"): RunReport {
  const nothing = Buffer.alloc(0);
  return {
    kind,
    code: 0,
    wallMs: 0,
    cpuMs: null,
    maxRssKb: null,
    stdout: nothing,
    stderr: nothing,
    stderrTruncated: false,
    message: "out of memory",
    outOfMemory: true,
  };
}
