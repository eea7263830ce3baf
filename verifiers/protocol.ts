/**
 * Frames between the broker and a sandbox's supervisor: u32 type, u32 length, payload, little-endian. The layouts of
 * `struct request` and `struct reply` in supervisor.c are repeated here.
 */

/** What one run may use. Bytes, milliseconds; Infinity lifts a limit. */
export interface RunLimits {
  readonly timeMs: number;
  readonly cpuMs: number;
  readonly memoryMb: number;
  readonly outputBytes: number;
  readonly processes: number;
  readonly fileMb: number;
  readonly diskMb: number;
  /** V8, the JVM and Go reserve far more address space than they use: no RLIMIT_AS near the memory limit. */
  readonly reservesAddressSpace: boolean;
}

export const FLAG_COMPILE = 1;
export const FLAG_STREAM = 2;
export const FLAG_NO_PROC = 4;

export interface RunRequest {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: Buffer;
  readonly limits: RunLimits;
  readonly flags: number;
  /** A cgroup holds memory, so that RLIMIT_DATA and RLIMIT_AS need not. */
  readonly hasMemoryCgroup: boolean;
}

/** How a run ended, before anyone judges it. */
export const RUN_KINDS = [
  "exited",
  "signalled",
  "timed_out",
  "output_full",
  "broken",
  "exec_failed",
] as const;
export type RunKind = (typeof RUN_KINDS)[number];

/** Facts of one run. `code`: exit status, signal number, or errno of a failed exec. */
export interface RunReport {
  readonly kind: RunKind;
  readonly code: number;
  readonly wallMs: number;
  /** Process tree; null where nothing measured it. */
  readonly cpuMs: number | null;
  readonly maxRssKb: number | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly stderrTruncated: boolean;
  /** Our own machinery's words, for `broken` and `exec_failed`. */
  readonly message: string;
  /** The kernel killed a process of this run for want of memory. */
  readonly outOfMemory: boolean;
}

const REQUEST_BYTES = 11 * 8 + 6 * 4;
const REPLY_BYTES = 48;
const UNLIMITED = 0xffffffffffffffffn;
const MIB = 1024 * 1024;
/** Kept of stderr, from its beginning: enough that an error at the end of much debug output is still there. */
export const STDERR_BYTES = 1024 * 1024;
const [LEAST_STACK_MB, MOST_STACK_MB] = [64, 256];
const ADDRESS_MARGIN_MB = 64;
const JIT_ADDRESS_MB = 16 * 1024;
const DISK_INODES = 4096;
const OPEN_FILES = 256;

export function frame(type: string, ...payload: readonly Buffer[]): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt32LE(type.charCodeAt(0), 0);
  header.writeUInt32LE(
    payload.reduce((sum, part) => sum + part.length, 0),
    4,
  );
  return Buffer.concat([header, ...payload]);
}

export function fileFrame(name: string, bytes: Buffer): Buffer {
  const nameBytes = Buffer.from(name, "utf8");
  const length = Buffer.alloc(4);
  length.writeUInt32LE(nameBytes.length);
  return frame("F", length, nameBytes, bytes);
}

/**
 * With a cgroup the stack may grow as the memory does: recursion a million deep is right in many languages. Without one, memory is held by RLIMIT_DATA and RLIMIT_AS per process; the stack must then be unlimited, because
 * glibc makes thread stacks as large as RLIMIT_STACK and eight of 64 MiB pass the address limit (Node hangs).
 */
export function memoryLimits(limits: RunLimits, hasMemoryCgroup: boolean) {
  const memory = limits.memoryMb * MIB;
  if (hasMemoryCgroup) {
    const stack = Math.min(Math.max(limits.memoryMb, LEAST_STACK_MB), MOST_STACK_MB) * MIB;
    return { data: Number.POSITIVE_INFINITY, address: Number.POSITIVE_INFINITY, stack };
  }
  const address = limits.reservesAddressSpace ? JIT_ADDRESS_MB * MIB : memory + ADDRESS_MARGIN_MB * MIB;
  return { data: memory, address, stack: Number.POSITIVE_INFINITY };
}

export function runFrame(request: RunRequest): Buffer {
  const { limits } = request;
  const strings = Buffer.from(
    [...request.argv, ...Object.entries(request.env).map(([name, value]) => `${name}=${value}`)]
      .map((text) => `${text}\0`)
      .join(""),
    "utf8",
  );
  const memory = memoryLimits(limits, request.hasMemoryCgroup);
  const body = Buffer.alloc(REQUEST_BYTES);
  [
    limits.timeMs * 1000,
    Math.ceil(limits.cpuMs / 1000),
    memory.data,
    memory.address,
    memory.stack,
    limits.fileMb * MIB,
    OPEN_FILES,
    limits.processes,
    limits.outputBytes,
    STDERR_BYTES,
    limits.diskMb * MIB,
  ].forEach((value, i) => {
    body.writeBigUInt64LE(Number.isFinite(value) ? BigInt(Math.ceil(value)) : UNLIMITED, i * 8);
  });
  [
    DISK_INODES,
    request.flags,
    request.argv.length,
    Object.keys(request.env).length,
    strings.length,
    request.stdin.length,
  ].forEach((value, i) => {
    body.writeUInt32LE(value, 88 + i * 4);
  });
  return frame("R", body, strings, request.stdin);
}

/** A 'D' frame's payload. Lengths are checked: the sandbox is not believed. */
export function parseReply(payload: Buffer): RunReport | null {
  if (payload.length < REPLY_BYTES) return null;
  const [stdoutBytes, stderrBytes, messageBytes] = [32, 36, 40].map((at) => payload.readUInt32LE(at)) as [
    number,
    number,
    number,
  ];
  const kind = RUN_KINDS[payload.readUInt32LE(0)];
  if (kind === undefined || payload.length !== REPLY_BYTES + stdoutBytes + stderrBytes + messageBytes)
    return null;
  const stderrAt = REPLY_BYTES + stdoutBytes;
  return {
    kind,
    code: payload.readUInt32LE(4),
    wallMs: Number(payload.readBigUInt64LE(8)) / 1000,
    cpuMs: kind === "exited" || kind === "signalled" ? Number(payload.readBigUInt64LE(16)) / 1000 : null,
    maxRssKb: kind === "exited" || kind === "signalled" ? Number(payload.readBigUInt64LE(24)) : null,
    stdout: payload.subarray(REPLY_BYTES, stderrAt),
    stderr: payload.subarray(stderrAt, stderrAt + stderrBytes),
    stderrTruncated: payload.readUInt32LE(44) !== 0,
    message: payload.toString("utf8", stderrAt + stderrBytes),
    outOfMemory: false,
  };
}

/** Splits a byte stream into frames. @throws RangeError when one is longer than `maxBytes` */
export class FrameReader {
  #pending: Buffer[] = [];
  #size = 0;
  constructor(readonly maxBytes: () => number) {}

  push(chunk: Buffer): { type: string; payload: Buffer }[] {
    this.#pending.push(chunk);
    this.#size += chunk.length;
    const frames: { type: string; payload: Buffer }[] = [];
    for (;;) {
      if (this.#size < 8) return frames;
      if (this.#pending[0]!.length < 8) this.#pending = [Buffer.concat(this.#pending)];
      const length = this.#pending[0]!.readUInt32LE(4);
      if (length > this.maxBytes()) throw new RangeError(`frame of ${length} bytes`);
      if (this.#size < 8 + length) return frames;
      const all = this.#pending.length === 1 ? this.#pending[0]! : Buffer.concat(this.#pending);
      frames.push({
        type: String.fromCharCode(all.readUInt32LE(0) & 0x7f),
        payload: all.subarray(8, 8 + length),
      });
      const rest = all.subarray(8 + length);
      this.#pending = rest.length > 0 ? [rest] : [];
      this.#size = rest.length;
    }
  }
}
