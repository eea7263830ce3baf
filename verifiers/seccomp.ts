/**
 * The system-call filter of every program: an array of `struct sock_filter` (8 bytes each: u16 code, u8 jump-if-true,
 * u8 jump-if-false, u32 k), as bubblewrap's --seccomp and prctl(PR_SET_SECCOMP) take it.
 *
 * Namespaces do not cover AF_VSOCK, keyrings or io_uring, hence this list. Refused calls return an errno instead of
 * killing, because honest runtimes probe; only a foreign ABI is killed, since its numbers mean other calls.
 * @see Linux Documentation/userspace-api/seccomp_filter.rst; numbers from asm/unistd_64.h and asm-generic/unistd.h
 */
import { ConfigError } from "../core/errors.js";

const EPERM = 1;
const EMFILE = 24;
const ENOSYS = 38;
const EPROTONOSUPPORT = 93;
const EAFNOSUPPORT = 97;
const RETURN_ALLOW = 0x7fff0000;
const RETURN_ERRNO = 0x00050000;
const RETURN_KILL_PROCESS = 0x80000000;
/** seccomp_data: nr at 0, arch at 4, args[i] low word at 16 + 8 i. */
const LOAD = 0x20;
const JUMP_EQUAL = 0x15;
const JUMP_AT_LEAST = 0x35;
const JUMP_ANY_BIT = 0x45;
const RETURN = 0x06;
const X32_BIT = 0x40000000;
/** NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const CLONE_NEW_NAMESPACES = 0x7e020000;
const ALLOWED_SOCKETS = [1, 2, 10]; // AF_UNIX, AF_INET, AF_INET6: the network namespace is empty anyway
/** The default, ICMP, TCP, UDP, ICMPv6: asking for another makes the host's kernel load its module. */
const ALLOWED_PROTOCOLS = [0, 1, 6, 17, 58];
/** TIOCSTI and TIOCLINUX inject keystrokes; TIOCSETD makes the host's kernel load a line discipline. */
const REFUSED_IOCTLS = [0x5412, 0x541c, 0x5423];
/** Pid 1 of a test is ours and has the program's uid, which is all that these calls ask for. */
const INIT_PID = 1;
const PRIO_USER = 2;

/** name: [x86-64, arm64]; -1 where the architecture lacks the call. */
const REFUSED: Readonly<Record<string, readonly [x64: number, arm64: number]>> = {
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  process_madvise: [440, 440],
  kcmp: [312, 272],
  pidfd_getfd: [438, 438],
  bpf: [321, 280],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  fanotify_init: [300, 262],
  add_key: [248, 217],
  request_key: [249, 218],
  keyctl: [250, 219],
  mount: [165, 40],
  umount2: [166, 39],
  pivot_root: [155, 41],
  chroot: [161, 51],
  open_tree: [428, 428],
  move_mount: [429, 429],
  fsopen: [430, 430],
  fsconfig: [431, 431],
  fsmount: [432, 432],
  fspick: [433, 433],
  mount_setattr: [442, 442],
  unshare: [272, 97],
  setns: [308, 268],
  name_to_handle_at: [303, 264],
  open_by_handle_at: [304, 265],
  quotactl: [179, 60],
  quotactl_fd: [443, 443],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  reboot: [169, 142],
  swapon: [167, 224],
  swapoff: [168, 225],
  syslog: [103, 116],
  acct: [163, 89],
  settimeofday: [164, 170],
  clock_settime: [227, 112],
  adjtimex: [159, 171],
  clock_adjtime: [305, 266],
  sethostname: [170, 161],
  setdomainname: [171, 162],
  vhangup: [153, 58],
  iopl: [172, -1],
  ioperm: [173, -1],
  modify_ldt: [154, -1],
  lookup_dcookie: [212, 18],
};

/** Answered as if the kernel were older, so that runtimes fall back. */
const UNKNOWN: typeof REFUSED = {
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  clone3: [435, 435],
  memfd_secret: [447, 447],
  /** Its contexts count against one number for the whole host (fs.aio-max-nr). */
  io_setup: [206, 0],
};
/** Instances are counted by user, so that one program could take them from all others. Answered as if it had. */
const USED_UP: typeof REFUSED = { inotify_init: [253, -1], inotify_init1: [294, 26] };
/** Without effect on what a program can write to, but it would make the host write its disks. Answered 0. */
const IDLE: typeof REFUSED = { sync: [162, 81], syncfs: [306, 267] };
/** What they hold escapes RLIMIT_DATA and RLIMIT_AS, so they go where no cgroup counts memory. */
const UNCOUNTED: typeof REFUSED = { memfd_create: [319, 279], shmget: [29, 194], msgget: [68, 186] };
/** Limits and priorities of other processes: the first argument must not be our init. */
const ON_PROCESS: typeof REFUSED = {
  prlimit64: [302, 261],
  sched_setaffinity: [203, 122],
  sched_setscheduler: [144, 119],
  sched_setparam: [142, 118],
  sched_setattr: [314, 274],
};
const SETPRIORITY = [141, 140] as const;
const CLONE = [56, 220] as const;
const SOCKET = [41, 198] as const;
const SOCKETPAIR = [53, 199] as const;
const IOCTL = [16, 29] as const;

/**
 * @param arch - process.arch of the host
 * @param countsMemory - a cgroup does; without one, memory that resource limits miss is refused
 * @throws ConfigError on an architecture without a table
 */
export function seccompFilter(arch: string, countsMemory: boolean): Buffer {
  if (arch !== "x64" && arch !== "arm64") {
    throw new ConfigError({ at: "this machine", got: arch, need: "x64 or arm64 to filter system calls" });
  }
  const column = arch === "x64" ? 0 : 1;
  const code: [code: number, jumpTrue: number, jumpFalse: number, k: number][] = [];
  const emit = (op: number, jumpTrue: number, jumpFalse: number, k: number) => {
    code.push([op, jumpTrue, jumpFalse, k >>> 0]);
  };
  const errno = (number: number) => emit(RETURN, 0, 0, RETURN_ERRNO | number);
  const refuse = (call: readonly [number, number], number: number) => {
    if (call[column] < 0) return;
    emit(JUMP_EQUAL, 0, 1, call[column]);
    errno(number);
  };
  /** `body` is a block that ends in a return on every path. */
  const onCall = (call: readonly [number, number], body: () => void) => {
    const at = code.length;
    emit(JUMP_EQUAL, 0, 0, call[column]);
    body();
    code[at]![2] = code.length - at - 1;
  };
  /** The kernel looks at the low 32 bits of these arguments alone, and so do we. */
  const refuseArgument = (index: number, values: readonly number[], number: number) => {
    emit(LOAD, 0, 0, 16 + 8 * index);
    for (const value of values) {
      emit(JUMP_EQUAL, 0, 1, value);
      errno(number);
    }
  };
  const requireArgument = (index: number, values: readonly number[], number: number) => {
    emit(LOAD, 0, 0, 16 + 8 * index);
    values.forEach((value, i) => {
      emit(JUMP_EQUAL, values.length - i, 0, value);
    });
    errno(number);
  };

  emit(LOAD, 0, 0, 4);
  emit(JUMP_EQUAL, 1, 0, arch === "x64" ? 0xc000003e : 0xc00000b7);
  emit(RETURN, 0, 0, RETURN_KILL_PROCESS);
  emit(LOAD, 0, 0, 0);
  if (arch === "x64") {
    emit(JUMP_AT_LEAST, 0, 1, X32_BIT);
    emit(RETURN, 0, 0, RETURN_KILL_PROCESS);
  }
  for (const call of Object.values(REFUSED)) refuse(call, EPERM);
  for (const call of Object.values(UNKNOWN)) refuse(call, ENOSYS);
  for (const call of Object.values(USED_UP)) refuse(call, EMFILE);
  for (const call of Object.values(IDLE)) refuse(call, 0);
  if (!countsMemory) for (const call of Object.values(UNCOUNTED)) refuse(call, ENOSYS);
  onCall(CLONE, () => {
    emit(LOAD, 0, 0, 16);
    emit(JUMP_ANY_BIT, 0, 1, CLONE_NEW_NAMESPACES);
    errno(EPERM);
    emit(RETURN, 0, 0, RETURN_ALLOW);
  });
  for (const call of Object.values(ON_PROCESS)) {
    onCall(call, () => {
      refuseArgument(0, [INIT_PID], EPERM);
      emit(RETURN, 0, 0, RETURN_ALLOW);
    });
  }
  onCall(SETPRIORITY, () => {
    refuseArgument(0, [PRIO_USER], EPERM);
    refuseArgument(1, [INIT_PID], EPERM);
    emit(RETURN, 0, 0, RETURN_ALLOW);
  });
  for (const call of [SOCKET, SOCKETPAIR]) {
    onCall(call, () => {
      requireArgument(0, ALLOWED_SOCKETS, EAFNOSUPPORT);
      requireArgument(2, ALLOWED_PROTOCOLS, EPROTONOSUPPORT);
      emit(RETURN, 0, 0, RETURN_ALLOW);
    });
  }
  onCall(IOCTL, () => {
    refuseArgument(1, REFUSED_IOCTLS, EPERM);
    emit(RETURN, 0, 0, RETURN_ALLOW);
  });
  emit(RETURN, 0, 0, RETURN_ALLOW);
  return encode(code);
}

function encode(code: readonly (readonly [number, number, number, number])[]): Buffer {
  const bytes = Buffer.alloc(code.length * 8);
  code.forEach(([op, jumpTrue, jumpFalse, k], i) => {
    bytes.writeUInt16LE(op, i * 8);
    bytes.writeUInt8(jumpTrue, i * 8 + 2);
    bytes.writeUInt8(jumpFalse, i * 8 + 3);
    bytes.writeUInt32LE(k, i * 8 + 4);
  });
  return bytes;
}

/** For the test that checks every number against the kernel's headers. */
export const SYSTEM_CALLS: typeof REFUSED = {
  ...REFUSED,
  ...UNKNOWN,
  ...USED_UP,
  ...IDLE,
  ...UNCOUNTED,
  ...ON_PROCESS,
  setpriority: SETPRIORITY,
  clone: CLONE,
  socket: SOCKET,
  socketpair: SOCKETPAIR,
  ioctl: IOCTL,
};
