/**
 * The fallback without a supervisor: a fresh bubblewrap for each run, limits by the shell's `ulimit`. Slower (about 5 ms a
 * run), CPU time is not measured (the wall limit and RLIMIT_CPU hold it), and a signal's number comes as 128 + n, as a
 * shell would say it. What a compiler made travels as an archive that only the sandbox ever opens.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import type { Readable, Writable } from "node:stream";
import { InfrastructureError } from "../core/errors.js";
import { type Bubblewrap, FIRST_UID, HOSTS_FILE, PATH, singleRunArguments } from "./bubblewrap.js";
import { type Cgroup, createCgroup } from "./cgroup.js";
import { memoryLimits, type RunKind, type RunLimits, type RunReport, STDERR_BYTES } from "./protocol.js";
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
const ARCHIVE_BYTES = 128 * MIB;
const ARCHIVE = "retort-compiled.tar";
/** First byte on ARCHIVE_FD, written before anything of the program runs: the tool is there, is not, no group was joined. */
const [FOUND, MISSING, NO_GROUP] = ["F", "M", "G"];
const ARCHIVE_FD = 5;
/** The shell and bubblewrap's own pid 1 count towards the limit. */
const SHELL_PROCESSES = 2;
const SIGNALS = Object.values(constants.signals) as number[];

export async function openSingleRunSandbox(
  host: Host,
  bubblewrap: Bubblewrap,
  plan: SandboxPlan,
): Promise<Sandbox> {
  return new SingleRunSandbox(host, bubblewrap, plan);
}

class SingleRunSandbox implements Sandbox {
  readonly #host: Host;
  readonly #bubblewrap: Bubblewrap;
  readonly #plan: SandboxPlan;
  /** Since the compiler ran, if it did: what it left is in the archive. */
  #files: readonly SandboxFile[] = [];
  #archive: Buffer | null = null;
  #current: ChildProcess | null = null;
  #finished: Promise<unknown> = Promise.resolve();
  #count = 0;

  constructor(host: Host, bubblewrap: Bubblewrap, plan: SandboxPlan) {
    this.#host = host;
    this.#bubblewrap = bubblewrap;
    this.#plan = plan;
  }

  load(files: readonly SandboxFile[]): void {
    const names = new Set(files.map(({ name }) => name));
    this.#files = [...this.#files.filter(({ name }) => !names.has(name)), ...files];
  }

  async run(run: SandboxRun): Promise<RunReport> {
    const archived = this.#archive === null ? [] : [{ name: ARCHIVE, bytes: this.#archive }];
    const files = [...archived, ...this.#files];
    const name = `${this.#plan.name}-${++this.#count}`;
    const cgroup = this.#host.cgroups === null ? null : createCgroup(this.#host.cgroups, name);
    const { limits } = run;
    cgroup?.limit(limits.memoryMb, limits.processes, 0);
    const doors = cgroup?.openDoors() ?? [];
    const hostsFd = ARCHIVE_FD + 1 + doors.length;
    const hosts = openSync(HOSTS_FILE, "r");
    const firstFile = hostsFd + 1;
    const script = runScript(
      run,
      this.#archive !== null,
      this.#host.cgroups?.memory != null,
      doors.map((_, i) => ARCHIVE_FD + 1 + i),
    );
    const args = [
      ...singleRunArguments(this.#bubblewrap, this.#plan.mounts, {
        diskMb: run.limits.diskMb,
        fileNames: files.map((file) => file.name),
        firstFileFd: firstFile,
        hostsFd,
      }),
      ...Object.entries(programEnvironment(run.env)).flatMap(([name, value]) => ["--setenv", name, value]),
      ...["/bin/sh", "-c", script, "sh", ...runArguments(run)],
    ];
    const child = spawn(this.#bubblewrap.path, args, {
      stdio: [
        "pipe",
        "pipe",
        "pipe",
        "pipe",
        "pipe",
        "pipe",
        ...doors,
        hosts,
        ...files.map(() => "pipe" as const),
      ],
      env: { PATH: process.env.PATH ?? PATH },
      cwd: "/",
      ...(this.#host.isRoot ? { uid: FIRST_UID + this.#plan.slot, gid: FIRST_UID + this.#plan.slot } : {}),
    });
    for (const fd of [...doors, hosts]) closeSync(fd);
    preferForKilling(child);
    this.#current = child;
    const single = new SingleRun(this.#host, child, run, cgroup);
    files.forEach((file, i) => {
      single.feed(firstFile + i, file.bytes);
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
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  readonly #archive: Buffer[] = [];
  #sizes = { stdout: 0, stderr: 0, archive: 0 };
  #status = "";
  #forced: "timed_out" | "output_full" | null = null;
  readonly #cgroup: Cgroup | null;
  #problem = "";

  constructor(host: Host, child: ChildProcess, run: SandboxRun, cgroup: Cgroup | null) {
    this.#child = child;
    this.#run = run;
    this.#cgroup = cgroup;
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
    (child.stdio[3] as Readable | null)?.on("data", (bytes: Buffer) => {
      this.#status += bytes.toString("utf8");
    });
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
    const said = Buffer.concat(this.#archive);
    const [first, archive] = [said.toString("latin1", 0, 1), said.subarray(1)];
    if (first === NO_GROUP) throw new InfrastructureError(`no cgroup: ${stderr.toString("utf8").trim()}`);
    if (this.#forced === null && code === undefined && !outOfMemory) {
      throw new InfrastructureError(
        `the sandbox did not start: ${this.#problem || stderr.toString("utf8").trim()}`,
      );
    }
    const ending =
      this.#forced !== null || code === undefined
        ? { kind: this.#forced ?? ("broken" as const), code: 0 }
        : endOf(Number(code), first === MISSING, wallMs, this.#run.limits);
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

/** The OOM killer then takes the program first, however its memory is counted. bubblewrap's children inherit this. */
function preferForKilling(child: ChildProcess): void {
  try {
    writeFileSync(`/proc/${child.pid}/oom_score_adj`, "1000");
  } catch {
    // it has ended already, or made itself unreachable
  }
}

/**
 * Limits, then the program in place of the shell; a compiler is followed by the archive of what it made.
 * @param doors - descriptors through which to join the control groups; of one digit, the shell knows no others
 */
function runScript(
  run: SandboxRun,
  hasArchive: boolean,
  hasMemoryCgroup: boolean,
  doors: readonly number[],
): string {
  const { limits } = run;
  const memory = memoryLimits(limits, hasMemoryCgroup);
  const lines = doors.map((fd) => `echo 0 >&${fd} || { printf ${NO_GROUP} >&${ARCHIVE_FD}; exit 126; }`);
  lines.push(`ulimit -c 1`, `ulimit -n 256`, `ulimit -t ${Math.ceil(limits.cpuMs / 1000)}`);
  lines.push(`ulimit -f ${limits.fileMb * 2048}`, `ulimit -p ${limits.processes + SHELL_PROCESSES}`);
  for (const [flag, bytes] of [
    ["-d", memory.data],
    ["-v", memory.address],
    ["-s", memory.stack],
  ] as const) {
    if (Number.isFinite(bytes)) lines.push(`ulimit ${flag} ${Math.ceil(bytes / 1024)}`);
  }
  if (hasArchive) lines.push(`tar -xf /w/${ARCHIVE} -C /w && rm /w/${ARCHIVE} || exit 125`);
  lines.push(
    `command -v -- "$1" >/dev/null 2>&1 || { printf ${MISSING} >&${ARCHIVE_FD}; exit 127; }`,
    `printf ${FOUND} >&${ARCHIVE_FD}`,
  );
  const closed = "3>&- 4>&- 6>&- 7>&- 8>&- 9>&-";
  if (run.phase === "run") lines.push(`exec "$@" ${closed} ${ARCHIVE_FD}>&-`);
  else lines.push(`"$@" ${closed} ${ARCHIVE_FD}>&- || exit $?`, `tar -cf - -C /w . >&${ARCHIVE_FD}`);
  return lines.join("\n");
}
