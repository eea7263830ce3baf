/** A sandbox whose pid 1 is our supervisor: one outer wall for a program, each run in namespaces of its own inside. */
import { constants } from "node:os";
import { InfrastructureError } from "../core/errors.js";
import type { Supervisor } from "./bubblewrap.js";
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
import type { Wall } from "./wall.js";

const MIB = 1024 * 1024;
/** Past the wall limit, for the supervisor to report; after that the sandbox itself counts as broken. */
const GRACE_MS = 10_000;
const START_MS = 20_000;
/** What the supervisor in Perl needs of the group's memory, and how often it holds the input. */
const [PERL_MB, PERL_COPIES] = [8, 3];

interface Pending {
  readonly run: SandboxRun;
  readonly chunks: { readonly stdout: Buffer[]; readonly stderr: Buffer[] };
  readonly timer: NodeJS.Timeout;
  readonly resolve: (report: RunReport) => void;
  readonly reject: (error: Error) => void;
}

/** @param build - starts the wall around a supervisor that belongs into the group */
export async function openSupervisedSandbox(
  host: Host,
  supervisor: Supervisor,
  plan: SandboxPlan,
  build: (cgroup: Cgroup | null) => Wall,
): Promise<Sandbox> {
  let cgroup: Cgroup | null = null;
  let wall: Wall;
  try {
    if (host.cgroups !== null) cgroup = createCgroup(host.cgroups, plan.name);
    wall = build(cgroup);
  } catch (cause) {
    if (cgroup !== null) await removeCgroup(cgroup);
    if (cause instanceof InfrastructureError) throw cause;
    throw new InfrastructureError(`no sandbox: ${String(cause)}`, { cause });
  }
  const sandbox = new SupervisedSandbox(host, supervisor, wall, cgroup);
  await sandbox.start();
  return sandbox;
}

class SupervisedSandbox implements Sandbox {
  readonly #host: Host;
  readonly #wall: Wall;
  readonly #reader: FrameReader;
  readonly #exited: Promise<void>;
  readonly #cgroup: Cgroup | null;
  readonly #isPerl: boolean;
  #pending: Pending | null = null;
  #groupLimits = "";
  #oomKills = 0;
  #cpuMs = 0;
  #isTakingDown = false;
  #words = "";
  #maxFrame = 2 * MIB;
  #isOver = false;
  #hasAnswered = false;

  constructor(host: Host, supervisor: Supervisor, wall: Wall, cgroup: Cgroup | null) {
    const { child, input, output } = wall;
    this.#host = host;
    this.#wall = wall;
    this.#cgroup = cgroup;
    this.#isPerl = supervisor.kind === "perl";
    this.#reader = new FrameReader(() => this.#maxFrame);
    this.#exited = untilExit(child);
    child.stderr?.on("data", (bytes: Buffer) => {
      if (this.#words.length < 4096) this.#words += bytes.toString("utf8");
    });
    // A sandbox that dies answers with EPIPE or ECONNRESET; its end is handled where it is noticed, on exit.
    input?.on("error", () => {});
    output?.on("error", () => {});
    output?.on("data", (bytes: Buffer) => this.#receive(bytes));
    child.on("error", (error) => this.#fail(`${wall.builder} did not start: ${error.message}`));
    child.on("close", () => this.#fail(`the sandbox ended: ${this.#words.trim() || "no message"}`));
  }

  /** Nothing of a program runs before the supervisor stands in its groups. A wall that falls is noticed by the first run. */
  async start(): Promise<void> {
    try {
      await Promise.race([this.#wall.inGroups, this.#exited]);
    } catch (cause) {
      await this.close();
      throw new InfrastructureError(`no cgroup: ${String(cause)}`, { cause });
    }
    this.#wall.input?.write(frame("S", this.#host.filter));
  }

  load(files: readonly SandboxFile[]): void {
    this.#wall.input.write(Buffer.concat(files.map((file) => fileFrame(file.name, file.bytes))));
  }

  run(run: SandboxRun): Promise<RunReport> {
    if (this.#isOver)
      return Promise.reject(new InfrastructureError(`the sandbox ended: ${this.#words.trim()}`));
    const { limits } = run;
    try {
      this.#limitGroup(
        limits.memoryMb,
        limits.processes,
        this.#supervisorMb(run.stdin.length + limits.outputBytes),
      );
    } catch (cause) {
      // What the compiler left in /w is more than the program may use: the program's doing, not ours.
      if ((cause as NodeJS.ErrnoException).code === "EBUSY") return Promise.resolve(withoutMemory("exited"));
      return Promise.reject(new InfrastructureError(`cgroup limit: ${String(cause)}`, { cause }));
    }
    this.#maxFrame = limits.outputBytes + 2 * MIB;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.#fail("the supervisor does not answer"),
        limits.timeMs + (this.#hasAnswered ? GRACE_MS : START_MS),
      );
      this.#pending = { run, chunks: { stdout: [], stderr: [] }, timer, resolve, reject };
      this.#wall.input.write(
        runFrame({
          argv: runArguments(run),
          env: programEnvironment({ ...this.#wall.env, ...run.env }),
          stdin: run.stdin,
          // Without a user namespace of its own the count of a uid's processes is the machine's; the container's group counts.
          limits: this.#host.container === null ? limits : { ...limits, processes: Number.POSITIVE_INFINITY },
          flags:
            this.#host.runFlags |
            (run.phase === "compile" ? FLAG_COMPILE : 0) |
            (run.onOutput ? FLAG_STREAM : 0),
          hasMemoryCgroup: this.#host.cgroups?.memory != null,
        }),
      );
    });
  }

  /** The supervisor lives in the group too, with what it holds of the run's input and output. */
  #supervisorMb(bytes: number): number {
    const mb = Math.ceil(bytes / MIB);
    return this.#isPerl ? PERL_MB + PERL_COPIES * (mb - 1) + 1 : mb;
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
    if (!this.#isOver) this.#wall.input.write(bytes === null ? frame("E") : frame("I", bytes));
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
    this.#hasAnswered = true;
    const { stdout, stderr } = pending.chunks;
    const groupMs = this.#cpuSinceLast(report.cpuMs === null);
    pending.resolve({
      ...report,
      // The larger: rusage misses children that nobody waited for, the group counts our own copying too.
      cpuMs: report.cpuMs === null ? null : Math.max(report.cpuMs, groupMs),
      stdout: stdout.length > 0 ? Buffer.concat([...stdout, report.stdout]) : report.stdout,
      stderr: stderr.length > 0 ? Buffer.concat([...stderr, report.stderr]) : report.stderr,
      outOfMemory: this.#ranOutOfMemory() || this.#hasNoRoom(report),
    });
  }

  /** The group's memory is so full (of what the compiler left in /w) that the kernel refused us a process: no fault of ours. */
  #hasNoRoom({ kind, code }: RunReport): boolean {
    return kind === "broken" && code === constants.errno.ENOMEM && this.#host.cgroups?.memory != null;
  }

  /** What a killed tree costs to take down falls into the next run's span, which then goes without this figure. */
  #cpuSinceLast(wasKilled: boolean): number {
    const now = this.#cgroup?.cpuMs() ?? 0;
    const used = this.#isTakingDown ? 0 : now - this.#cpuMs;
    this.#cpuMs = now;
    this.#isTakingDown = wasKilled;
    return used;
  }

  #fail(why: string): void {
    this.#isOver = true;
    this.#wall.kill();
    const pending = this.#pending;
    if (pending === null) return;
    this.#pending = null;
    clearTimeout(pending.timer);
    if (this.#ranOutOfMemory()) pending.resolve(withoutMemory("broken"));
    else pending.reject(new InfrastructureError(why));
  }

  async close(): Promise<void> {
    this.#isOver = true;
    this.#wall.input?.end();
    const timer = setTimeout(() => this.#wall.kill(), 500);
    await this.#exited;
    clearTimeout(timer);
    this.#wall.input?.destroy();
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
