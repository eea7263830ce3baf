/**
 * The fallback without a supervisor: a fresh bubblewrap for each run, limits by the shell's `ulimit`. Slower (about 5 ms a
 * run), CPU time is not measured (the wall limit and RLIMIT_CPU hold it), and a signal's number comes as 128 + n, as a
 * shell would say it. What a compiler made travels as an archive that only the sandbox ever opens.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { constants } from "node:os";
import type { Duplex, Readable, Writable } from "node:stream";
import { InfrastructureError } from "../core/index.js";
import { FIRST_UID, PATH, singleRunArguments } from "./bubblewrap.js";
import { type Cgroup, createCgroup } from "./cgroup.js";
import { memoryLimits, type RunKind, type RunLimits, type RunReport } from "./protocol.js";
import {
  commandArguments,
  type Host,
  programEnvironment,
  runArguments,
  type Sandbox,
  type SandboxFile,
  type SandboxPlan,
  type SandboxRun,
} from "./sandbox.js";
import { removeCgroup } from "./teardown.js";

const MIB = 1024 * 1024;
const STDERR_BYTES = 64 * 1024;
const ARCHIVE_BYTES = 128 * MIB;
const ARCHIVE = "retort-compiled.tar";
const MISSING = "missing";
const GO_FD = 6;
const ARCHIVE_FD = 7;
/** The shell and bubblewrap's own pid 1 count towards the limit. */
const SHELL_PROCESSES = 2;
const SIGNALS = Object.values(constants.signals) as number[];

export async function openSingleRunSandbox(host: Host, plan: SandboxPlan): Promise<Sandbox> {
  return new SingleRunSandbox(host, plan);
}

class SingleRunSandbox implements Sandbox {
  readonly #host: Host;
  readonly #plan: SandboxPlan;
  /** Since the compiler ran, if it did: what it left is in the archive. */
  #files: readonly SandboxFile[] = [];
  #archive: Buffer | null = null;
  #current: ChildProcess | null = null;
  #finished: Promise<unknown> = Promise.resolve();
  #count = 0;

  constructor(host: Host, plan: SandboxPlan) {
    this.#host = host;
    this.#plan = plan;
  }

  load(files: readonly SandboxFile[]): void {
    const names = new Set(files.map(({ name }) => name));
    this.#files = [...this.#files.filter(({ name }) => !names.has(name)), ...files];
  }

  async run(run: SandboxRun): Promise<RunReport> {
    const archived = this.#archive === null ? [] : [{ name: ARCHIVE, bytes: this.#archive }];
    const files = [...archived, ...this.#files];
    const script = runScript(run, this.#archive !== null, this.#host.cgroups?.memory != null);
    const args = [
      ...singleRunArguments(this.#host.bubblewrap, this.#plan.mounts, {
        diskMb: run.limits.diskMb,
        fileNames: files.map((file) => file.name),
        firstFileFd: ARCHIVE_FD + 1,
        goFd: GO_FD,
      }),
      ...Object.entries(programEnvironment(run.env)).flatMap(([name, value]) => ["--setenv", name, value]),
      ...["/bin/sh", "-c", script, "sh", ...runArguments(run)],
    ];
    const child = spawn(this.#host.bubblewrap.path, args, {
      stdio: [
        "pipe",
        "pipe",
        "pipe",
        "pipe",
        "pipe",
        "ignore",
        "pipe",
        "pipe",
        ...files.map(() => "pipe" as const),
      ],
      env: { PATH: process.env.PATH ?? PATH },
      cwd: "/",
      ...(this.#host.isRoot ? { uid: FIRST_UID + this.#plan.slot, gid: FIRST_UID + this.#plan.slot } : {}),
    });
    this.#current = child;
    this.#count++;
    const single = new SingleRun(this.#host, child, run, `${this.#plan.name}-${this.#count}`);
    files.forEach((file, i) => {
      single.feed(ARCHIVE_FD + 1 + i, file.bytes);
    });
    const finished = single.finish();
    this.#finished = finished.catch(() => {});
    const { report, archive } = await finished;
    if (run.phase === "compile" && report.kind === "exited" && report.code === 0) {
      this.#archive = archive;
      this.#files = [];
    }
    return report;
  }

  sendInput(bytes: Buffer | null): void {
    if (bytes === null) this.#current?.stdin?.end();
    else this.#current?.stdin?.write(bytes);
  }

  async close(): Promise<void> {
    this.#current?.kill("SIGKILL");
    await this.#finished;
  }
}

/** One child from start to teardown. */
class SingleRun {
  readonly #child: ChildProcess;
  readonly #run: SandboxRun;
  readonly #start = performance.now();
  readonly #closed: Promise<void>;
  readonly #host: Host;
  readonly #name: string;
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  readonly #archive: Buffer[] = [];
  #sizes = { stdout: 0, stderr: 0, archive: 0 };
  #status = "";
  #forced: "timed_out" | "output_full" | null = null;
  #cgroup: Cgroup | null = null;
  #problem = "";

  constructor(host: Host, child: ChildProcess, run: SandboxRun, name: string) {
    this.#host = host;
    this.#child = child;
    this.#run = run;
    this.#name = name;
    this.#closed = new Promise((resolve) => {
      child.once("close", () => resolve());
      child.once("error", (error) => {
        this.#problem = error.message;
        resolve();
      });
    });
    child.stdio.forEach((stream) => {
      stream?.on("error", () => {}); // a program that does not read is not an error
    });
    child.stdout?.on("data", (bytes: Buffer) => this.#take("stdout", bytes, run.limits.outputBytes));
    child.stderr?.on("data", (bytes: Buffer) => this.#take("stderr", bytes, STDERR_BYTES));
    (child.stdio as readonly (Readable | null)[])[ARCHIVE_FD]?.on("data", (bytes: Buffer) =>
      this.#takeArchive(bytes),
    );
    (child.stdio[3] as Readable | null)?.on("data", (bytes: Buffer) => this.#takeStatus(bytes));
    this.feed(4, host.filter);
    if (run.onOutput) child.stdin?.write(run.stdin);
    else child.stdin?.end(run.stdin);
  }

  feed(fd: number, bytes: Buffer): void {
    (this.#child.stdio as readonly (Writable | null)[])[fd]?.end(bytes);
  }

  #take(stream: "stdout" | "stderr", bytes: Buffer, cap: number): void {
    const kept = bytes.subarray(0, Math.max(0, cap - this.#sizes[stream]));
    this.#sizes[stream] += bytes.length;
    if (this.#run.onOutput) this.#run.onOutput(stream, kept);
    else (stream === "stdout" ? this.#stdout : this.#stderr).push(kept);
    if (stream === "stdout" && this.#sizes.stdout > cap) this.#stop("output_full");
  }

  #takeArchive(bytes: Buffer): void {
    this.#sizes.archive += bytes.length;
    if (this.#sizes.archive > ARCHIVE_BYTES) this.#stop("output_full");
    else this.#archive.push(bytes);
  }

  /** bubblewrap waits on GO_FD until the process stands in its cgroup. */
  #takeStatus(bytes: Buffer): void {
    const known = this.#status.includes("child-pid");
    this.#status += bytes.toString("utf8");
    const pid = /"child-pid":\s*(\d+)/.exec(this.#status)?.[1];
    if (known || pid === undefined) return;
    try {
      if (this.#host.cgroups !== null) {
        this.#cgroup = createCgroup(this.#host.cgroups, this.#name);
        this.#cgroup.limit(this.#run.limits.memoryMb, this.#run.limits.processes, this.#sizes.archive / MIB);
        this.#cgroup.attach(Number(pid));
      }
      (this.#child.stdio as readonly (Duplex | null)[])[GO_FD]?.end("go");
    } catch (error) {
      // ESRCH: bubblewrap names its pid before its mounts stand; where those fail it is gone already, and has said why.
      const hasEnded = (error as NodeJS.ErrnoException).code === "ESRCH";
      if (!hasEnded) this.#problem = `no cgroup: ${String(error)}`;
      this.#child.kill("SIGKILL");
    }
  }

  #stop(why: "timed_out" | "output_full"): void {
    this.#forced ??= why;
    this.#child.kill("SIGKILL");
  }

  async finish(): Promise<{ report: RunReport; archive: Buffer }> {
    const timer = setTimeout(() => this.#stop("timed_out"), this.#run.limits.timeMs);
    await this.#closed;
    clearTimeout(timer);
    const wallMs = performance.now() - this.#start;
    const outOfMemory = (this.#cgroup?.oomKills() ?? 0) > 0;
    if (this.#cgroup !== null) await removeCgroup(this.#cgroup);
    const code = /"exit-code":\s*(\d+)/.exec(this.#status)?.[1];
    const stderr = Buffer.concat(this.#stderr);
    const archive = Buffer.concat(this.#archive);
    if (this.#forced === null && code === undefined && !outOfMemory) {
      throw new InfrastructureError(
        `the sandbox did not start: ${this.#problem || stderr.toString("utf8").trim()}`,
      );
    }
    const ending =
      this.#forced !== null || code === undefined
        ? { kind: this.#forced ?? ("broken" as const), code: 0 }
        : endOf(Number(code), archive.toString("latin1") === MISSING, wallMs, this.#run.limits);
    const report: RunReport = {
      ...ending,
      wallMs,
      cpuMs: null,
      maxRssKb: null,
      stdout: Buffer.concat(this.#stdout),
      stderr,
      stderrTruncated: this.#sizes.stderr > STDERR_BYTES,
      message: ending.kind === "exec_failed" ? `${commandArguments(this.#run.command)[0]}: not found` : "",
      outOfMemory,
    };
    return { report, archive };
  }
}

/** bubblewrap reports a signal as 128 + its number; a program that exits so by itself looks the same. */
function endOf(
  code: number,
  isMissing: boolean,
  wallMs: number,
  limits: RunLimits,
): { kind: RunKind; code: number } {
  if (isMissing) return { kind: "exec_failed", code: constants.errno.ENOENT };
  const signal = code - 128;
  if (!SIGNALS.includes(signal)) return { kind: "exited", code };
  const usedUp = signal === constants.signals.SIGKILL && wallMs >= limits.cpuMs;
  return { kind: "signalled", code: usedUp ? constants.signals.SIGXCPU : signal };
}

/** Limits, then the program in place of the shell; a compiler is followed by the archive of what it made. */
function runScript(run: SandboxRun, hasArchive: boolean, hasMemoryCgroup: boolean): string {
  const { limits } = run;
  const memory = memoryLimits(limits, hasMemoryCgroup);
  const lines = [`ulimit -c 0`, `ulimit -n 256`, `ulimit -t ${Math.ceil(limits.cpuMs / 1000)}`];
  lines.push(`ulimit -f ${limits.fileMb * 2048}`, `ulimit -p ${limits.processes + SHELL_PROCESSES}`);
  for (const [flag, bytes] of [
    ["-d", memory.data],
    ["-v", memory.address],
    ["-s", memory.stack],
  ] as const) {
    if (Number.isFinite(bytes)) lines.push(`ulimit ${flag} ${Math.ceil(bytes / 1024)}`);
  }
  if (hasArchive) lines.push(`tar -xf /w/${ARCHIVE} -C /w && rm /w/${ARCHIVE} || exit 125`);
  // Said on a descriptor that the program does not get: its own exit status 127 must not look like a missing tool.
  lines.push(`command -v -- "$1" >/dev/null 2>&1 || { printf ${MISSING} >&7; exit 127; }`);
  const closed = "3>&- 4>&- 5>&- 6>&- 8>&- 9>&-";
  if (run.phase === "run") lines.push(`exec "$@" ${closed} 7>&-`);
  else lines.push(`"$@" ${closed} 7>&- || exit $?`, `tar -cf - -C /w . >&7`);
  return lines.join("\n");
}
