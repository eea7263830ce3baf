import { existsSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ConfigError } from "../../core/index.js";
import { SYSTEM_CALLS, seccompFilter } from "../../verifiers/seccomp.js";

const ALLOW = 0x7fff0000;
const errno = (number: number) => 0x00050000 + number;
const KILL = 0x80000000;
const X64 = 0xc000003e;
const ARM64 = 0xc00000b7;

/** The kernel's interpreter, for the few instructions that the filter uses. */
function verdictOf(filter: Buffer, arch: number, nr: number, args: readonly number[] = []): number {
  const data = Buffer.alloc(64);
  data.writeUInt32LE(nr >>> 0, 0);
  data.writeUInt32LE(arch, 4);
  args.forEach((value, i) => {
    data.writeUInt32LE(value >>> 0, 16 + i * 8);
  });
  let accumulator = 0;
  for (let at = 0; at < filter.length / 8; at++) {
    const [code, k] = [filter.readUInt16LE(at * 8), filter.readUInt32LE(at * 8 + 4)];
    const [yes, no] = [filter.readUInt8(at * 8 + 2), filter.readUInt8(at * 8 + 3)];
    if (code === 0x20) accumulator = data.readUInt32LE(k);
    else if (code === 0x06) return k;
    else if (code === 0x15) at += accumulator === k ? yes : no;
    else if (code === 0x35) at += accumulator >= k ? yes : no;
    else if (code === 0x45) at += (accumulator & k) !== 0 ? yes : no;
    else throw new Error(`instruction ${code}`);
  }
  throw new Error("the filter ran off its end");
}

describe.each([
  { arch: "x64", audit: X64, other: ARM64, column: 0 },
  { arch: "arm64", audit: ARM64, other: X64, column: 1 },
] as const)("the system-call filter on $arch", ({ arch, audit, other, column }) => {
  const filter = seccompFilter(arch, true);
  const number = (name: string) => SYSTEM_CALLS[name]![column];

  test("kills a foreign ABI", () => {
    expect(verdictOf(filter, other, 0)).toBe(KILL);
  });

  test.each(["ptrace", "mount", "keyctl", "bpf", "unshare", "setns", "userfaultfd", "process_vm_readv"])(
    "refuses %s",
    (name) => {
      expect(verdictOf(filter, audit, number(name))).toBe(errno(1));
    },
  );

  test.each(["io_uring_setup", "clone3"])("does not know %s", (name) => {
    expect(verdictOf(filter, audit, number(name))).toBe(errno(38));
  });

  test("lets clone make threads and children, not namespaces", () => {
    const CLONE_THREAD_FLAGS = 0x3d0f00;
    expect(verdictOf(filter, audit, number("clone"), [CLONE_THREAD_FLAGS])).toBe(ALLOW);
    for (const flag of [0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000]) {
      expect(verdictOf(filter, audit, number("clone"), [flag | 17])).toBe(errno(1));
    }
  });

  test("allows local and internet sockets alone", () => {
    for (const call of ["socket", "socketpair"]) {
      for (const family of [1, 2, 10]) expect(verdictOf(filter, audit, number(call), [family])).toBe(ALLOW);
      for (const family of [0, 3, 16, 17, 31, 38, 40, 44])
        expect(verdictOf(filter, audit, number(call), [family])).toBe(errno(97));
    }
  });

  test("of those sockets only the usual protocols: another loads a module into the host's kernel", () => {
    const [IPPROTO_SCTP, IPPROTO_MPTCP, STREAM] = [132, 262, 1];
    for (const call of ["socket", "socketpair"]) {
      for (const protocol of [0, 1, 6, 17, 58])
        expect(verdictOf(filter, audit, number(call), [2, STREAM, protocol])).toBe(ALLOW);
      for (const protocol of [IPPROTO_SCTP, IPPROTO_MPTCP, 33, 115, 136])
        expect(verdictOf(filter, audit, number(call), [2, STREAM, protocol])).toBe(errno(93));
    }
  });

  test.each(["memfd_create", "shmget", "msgget"])("%s goes where no cgroup counts memory", (name) => {
    expect(verdictOf(filter, audit, number(name))).toBe(ALLOW);
    expect(verdictOf(seccompFilter(arch, false), audit, number(name))).toBe(errno(38));
  });

  test.each(["prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr"])(
    "%s reaches the program's own processes, not pid 1",
    (name) => {
      expect(verdictOf(filter, audit, number(name), [1])).toBe(errno(1));
      for (const pid of [0, 2, 4711]) expect(verdictOf(filter, audit, number(name), [pid])).toBe(ALLOW);
    },
  );

  test("priorities: of a process that is not pid 1, never of a whole user", () => {
    const of = (which: number, who: number) => verdictOf(filter, audit, number("setpriority"), [which, who]);
    expect([of(0, 0), of(0, 2), of(1, 0)]).toEqual([ALLOW, ALLOW, ALLOW]);
    expect([of(0, 1), of(2, 0), of(2, 1000)]).toEqual([errno(1), errno(1), errno(1)]);
  });

  test("what counts by user or by host looks used up, and syncing the host's disks does nothing", () => {
    const answers = ["inotify_init1", "io_setup", "sync", "syncfs"].map((name) => number(name));
    expect(answers.map((nr) => verdictOf(filter, audit, nr))).toEqual([
      errno(24),
      errno(38),
      errno(0),
      errno(0),
    ]);
  });

  test("terminals: no keystrokes injected, no line discipline loaded", () => {
    for (const request of [0x5412, 0x541c, 0x5423])
      expect(verdictOf(filter, audit, number("ioctl"), [0, request])).toBe(errno(1));
    expect(verdictOf(filter, audit, number("ioctl"), [0, 0x5401])).toBe(ALLOW);
  });

  test("allows reading and writing", () => {
    expect(verdictOf(filter, audit, arch === "x64" ? 0 : 63)).toBe(ALLOW);
    expect(verdictOf(filter, audit, arch === "x64" ? 1 : 64)).toBe(ALLOW);
  });
});

test("the x32 table of x86-64 is killed", () => {
  expect(verdictOf(seccompFilter("x64", true), X64, 0x40000000)).toBe(KILL);
});

test("an architecture without a table is refused", () => {
  expect(() => seccompFilter("riscv64", true)).toThrow(ConfigError);
});

const header = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h";
const generic = "/usr/include/asm-generic/unistd.h";
test.skipIf(!existsSync(header) || !existsSync(generic))(
  "every number is the kernel headers' (skipped without them)",
  () => {
    const tableOf = (file: string, pattern: RegExp) =>
      new Map(
        [...readFileSync(file, "utf8").matchAll(pattern)].map(([, name, number]) => [name, Number(number)]),
      );
    const x64 = tableOf(header, /#define __NR_(\w+)\s+(\d+)/g);
    const arm64 = tableOf(generic, /#define __NR(?:3264)?_(\w+)\s+(\d+)/g);
    for (const [name, [onX64, onArm64]] of Object.entries(SYSTEM_CALLS)) {
      expect([name, x64.get(name) ?? -1, arm64.get(name) ?? -1]).toEqual([name, onX64, onArm64]);
    }
  },
);
