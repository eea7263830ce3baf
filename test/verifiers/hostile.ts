/**
 * Programs that try to harm, cheat or outlive the judge, one entry per class of attack, and the verdicts that are
 * admissible. A program that only probes prints what it found; its expected output is what a safe host shows.
 */
import type { Limits, Status } from "../../core/index.js";
import { type LanguageSet, languageSet, loadLanguages, parseLanguage } from "../../verifiers/index.js";
import { COMPILE_TIME, MACRO_LANGUAGES, OUR_PROCESSES } from "./hostile-machinery.js";
import { COUNTED_ELSEWHERE, KINDS_OF_MEMORY, KINDS_OF_TIME } from "./hostile-resources.js";
import { MORE_THAT_IS_RIGHT } from "./hostile-tricky.js";

export interface Case {
  readonly name: string;
  readonly language: string;
  readonly program: string;
  /** [input, expected] of each test. Default: no input, "ok". */
  readonly tests?: readonly (readonly [string, string])[];
  readonly limits?: Limits;
  readonly want: Status | readonly Status[];
  /** Where it differs because no cgroup counts the tree's memory. */
  readonly withoutCgroup?: readonly Status[];
  /** How many of its tests are accepted, where that is the point. */
  readonly passes?: number;
  /** Nothing of the verdict, feedback included, may match. */
  readonly never?: RegExp;
  /** Whole program, all tests, host time. */
  readonly withinMs?: number;
  /** Needs what the fallback lacks, in words. */
  readonly onlySupervisor?: string;
}

const SHORT: Limits = { time_s: 1, memory_mb: 128 };

/** A Python program that tries each call and prints "ok" when all were refused. */
const refused = (body: string) => `import ctypes, os, socket, errno
libc = ctypes.CDLL(None, use_errno=True)
open_doors = []
def must_fail(name, call):
    try:
        result = call()
    except (OSError, PermissionError, ValueError):
        return
    if result != -1:
        open_doors.append(name)
${body}
print(open_doors or "ok")
`;

const c = (body: string) => `#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
${body}
}
`;

export const EXHAUSTION: readonly Case[] = [
  {
    name: "fork bomb in bash",
    language: "bash",
    program: ":(){ :|:& };:\nwait\nsleep 5",
    limits: SHORT,
    want: ["time_limit", "runtime_error", "wrong_answer"],
  },
  {
    name: "fork bomb in C that ignores every failure",
    language: "c",
    program: c("for (;;) fork();"),
    limits: SHORT,
    want: ["time_limit", "memory_limit"],
  },
  {
    name: "threads without end",
    language: "python",
    program:
      "import threading, time\nwhile True:\n    threading.Thread(target=time.sleep, args=(9,)).start()",
    limits: SHORT,
    want: ["runtime_error", "time_limit"],
  },
  {
    name: "private memory",
    language: "c",
    program: c("for (;;) { char *p = malloc(1 << 20); if (!p) abort(); memset(p, 1, 1 << 20); }"),
    limits: { ...SHORT, time_s: 5 },
    want: "memory_limit",
    withoutCgroup: ["runtime_error"],
  },
  {
    name: "shared anonymous memory, which RLIMIT_DATA misses",
    language: "c",
    program: c(
      'for (int i = 0; i < 1024; i++) { char *p = mmap(0, 1 << 20, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) abort(); memset(p, 1, 1 << 20); } puts("ok");',
    ),
    limits: { ...SHORT, time_s: 5 },
    want: "memory_limit",
    withoutCgroup: ["runtime_error"],
  },
  {
    name: "memfd pages",
    language: "c",
    program: c(
      'int fd = syscall(SYS_memfd_create, "x", 0); if (fd < 0) abort(); static char b[1 << 20]; memset(b, 1, sizeof b); for (int i = 0; i < 1024; i++) if (write(fd, b, sizeof b) < 0) abort(); puts("ok");',
    ),
    limits: { ...SHORT, time_s: 5 },
    want: ["memory_limit", "runtime_error"],
  },
  {
    name: "memory spread over children",
    language: "python",
    program:
      "import os\nfor _ in range(4):\n    if os.fork() == 0:\n        block = bytearray(60 << 20)\n        import time; time.sleep(2); os._exit(0)\nstates = [os.wait()[1] for _ in range(4)]\nprint('ok')",
    limits: { ...SHORT, time_s: 20 },
    want: "memory_limit",
    withoutCgroup: ["accepted"],
  },
  {
    name: "every writable place filled",
    language: "python",
    program: `total = 0
block = b"x" * (1 << 20)
for place in ["/tmp/f", "/dev/shm/f", "/dev/f", "/f", "/w/f", "/usr/f", "/run/f", "/etc/f"]:
    try:
        with open(place, "wb") as file:
            for _ in range(400):
                file.write(block)
                total += 1
    except OSError:
        pass
print("ok" if total < 300 else total)`,
    limits: { time_s: 5, memory_mb: 512 },
    want: ["accepted"],
  },
  {
    name: "a sparse file of a terabyte",
    language: "python",
    program:
      'import os, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\ntry:\n    os.truncate(os.open("/tmp/big", os.O_CREAT | os.O_RDWR), 1 << 40)\n    print("made")\nexcept OSError:\n    print("ok")',
    want: "accepted",
  },
  {
    name: "files without number",
    language: "bash",
    program: 'for i in $(seq 20000); do : > "/tmp/f$i" || break; done 2>/dev/null\necho ok',
    limits: { time_s: 5, memory_mb: 256 },
    want: ["accepted"],
  },
  {
    name: "output flood",
    language: "c",
    program: c('for (;;) puts("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");'),
    limits: SHORT,
    want: "output_limit",
    withinMs: 4000,
  },
  {
    name: "error output flood beside the right answer",
    language: "python",
    program:
      'import sys\nprint("ok")\nsys.stdout.flush()\nfor _ in range(20000): sys.stderr.write("x" * 1000)',
    limits: { time_s: 5 },
    want: "accepted",
  },
  { name: "sleep", language: "bash", program: "sleep 60", limits: SHORT, want: "time_limit", withinMs: 4000 },
  {
    name: "a loop that ignores SIGTERM and SIGXCPU",
    language: "c",
    program: c("for (int s = 1; s < 65; s++) signal(s, SIG_IGN); for (;;);"),
    limits: SHORT,
    want: "time_limit",
    withinMs: 6000,
  },
  {
    name: "CPU time of children summed, not each",
    language: "c",
    program: c(
      'for (int i = 0; i < 3; i++) if (!fork()) { for (volatile long j = 0;; j++) if (clock() > 500000) _exit(0); } while (wait(0) > 0); puts("ok");',
    ).replace("#include <unistd.h>", "#include <time.h>\n#include <unistd.h>"),
    limits: { time_s: 8, cpu_s: 1 },
    want: "time_limit",
    onlySupervisor: "the fallback does not measure CPU time",
  },
  {
    name: "stopped by its own SIGSTOP",
    language: "c",
    program: c("kill(getpid(), SIGSTOP); for (;;) pause();"),
    limits: SHORT,
    want: "time_limit",
    withinMs: 4000,
  },
  {
    name: "stack overflow",
    language: "c",
    program: c('int f(int n); printf("%d", f(1));').replace(
      "int main",
      "int f(int n) { volatile char b[4096]; b[n % 4096] = 1; return f(n + 1) + b[0]; }\nint main",
    ),
    limits: { time_s: 5, memory_mb: 256 },
    want: ["runtime_error", "memory_limit"],
  },
];

export const SURVIVAL: readonly Case[] = [
  {
    name: "background children that hold the pipes",
    language: "bash",
    program: "sleep 300 & sleep 300 &\necho ok",
    want: "accepted",
    withinMs: 3000,
  },
  {
    name: "a daemon that left its session",
    language: "python",
    program:
      'import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        for fd in range(3): os.close(fd)\n        time.sleep(300)\n    os._exit(0)\nos.wait()\nprint("ok")',
    want: "accepted",
    withinMs: 3000,
  },
  {
    name: "a child that goes on writing after the end",
    language: "bash",
    program: "(while :; do echo noise; done) 2>/dev/null & \nexec 1>&-\nexit 3",
    limits: SHORT,
    want: ["runtime_error", "output_limit"],
    withinMs: 4000,
  },
  {
    name: "zombies that nobody waits for",
    language: "python",
    program: 'import os\nfor _ in range(20):\n    if os.fork() == 0: os._exit(0)\nprint("ok")',
    want: "accepted",
  },
  {
    name: "a file left in /tmp for the next test",
    language: "python",
    program:
      'import os\nprint("found" if os.path.exists("/tmp/mark") else "ok")\nopen("/tmp/mark", "w").write("x")',
    tests: [
      ["", "ok"],
      ["", "ok"],
    ],
    want: "accepted",
  },
  {
    name: "a file left in /dev/shm for the next test",
    language: "python",
    program:
      'import os\nprint("found" if os.path.exists("/dev/shm/mark") else "ok")\nopen("/dev/shm/mark", "w").write("x")',
    tests: [
      ["", "ok"],
      ["", "ok"],
    ],
    want: "accepted",
  },
  {
    name: "a System V segment left for the next test",
    language: "c",
    program: c(
      'int id = shmget(4711, 4096, 0600); puts(id < 0 ? "ok" : "found"); shmget(4711, 4096, IPC_CREAT | 0600);',
    ),
    tests: [
      ["", "ok"],
      ["", "ok"],
    ],
    want: "accepted",
  },
  {
    name: "its own source or binary changed for the next test",
    language: "python",
    program:
      'for path in ["/w/main.py", "/tmp/main.py", "main.py"]:\n    try:\n        open(path, "w").write("print(\'changed\')")\n    except OSError:\n        pass\nprint("ok")',
    tests: [
      ["", "ok"],
      ["", "ok"],
    ],
    want: "accepted",
  },
  {
    name: "kill of everything in reach",
    language: "python",
    program:
      'import os, signal\nfor target in [-1, 1, 0 + os.getppid()]:\n    try:\n        if target != 0: os.kill(target, signal.SIGKILL)\n    except OSError:\n        pass\nprint("ok")',
    tests: [
      ["", "ok"],
      ["", "ok"],
    ],
    want: "accepted",
    onlySupervisor: "without a process of ours between, a program may end its own shell",
  },
];

export const ESCAPE: readonly Case[] = [
  {
    name: "network: nothing to reach, no interface but loopback",
    language: "python",
    program: refused(`socket.setdefaulttimeout(1)
must_fail("connect", lambda: socket.create_connection(("1.1.1.1", 53)))
must_fail("name", lambda: socket.getaddrinfo("example.com", 80))
must_fail("metadata", lambda: socket.create_connection(("169.254.169.254", 80)))
if [name for _, name in socket.if_nameindex()] != ["lo"]: open_doors.append("interface")`).replace(
      "socket.if_nameindex()",
      '[(0, line.split(":")[0].strip()) for line in open("/proc/net/dev").readlines()[2:]]',
    ),
    limits: { time_s: 5 },
    want: "accepted",
  },
  {
    name: "sockets that no namespace covers: AF_VSOCK, netlink, packet, Bluetooth",
    language: "python",
    program: refused(
      "for family in [40, 16, 17, 31, 38, 3, 21, 44]:\n    must_fail(family, lambda: socket.socket(family, socket.SOCK_STREAM)); must_fail(family, lambda: socket.socket(family, socket.SOCK_DGRAM)); must_fail(family, lambda: socket.socket(family, socket.SOCK_RAW))",
    ),
    want: "accepted",
  },
  {
    name: "host files",
    language: "python",
    program:
      'import os\nseen = [path for path in ["/etc/passwd", "/etc/shadow", "/etc/hostname", "/root", "/home", "/work", "/var", "/sys", "/boot", "/run", "/srv", "/opt", "/mnt", "/etc/ssh"] if os.path.exists(path)]\nprint(seen or "ok")',
    want: "accepted",
  },
  {
    name: "the host's environment, command lines and mounts",
    language: "python",
    program:
      'import os\ntexts = [str(dict(os.environ)), open("/proc/self/mountinfo").read()]\nfor pid in filter(str.isdigit, os.listdir("/proc")):\n    try: texts.append(open(f"/proc/{pid}/cmdline").read())\n    except OSError: pass\nleaks = [word for word in ["broker", "supervisor", "/root/", "/work", "retort", "SECRET"] if any(word in text for text in texts)]\nprint(leaks or "ok")',
    want: "accepted",
  },
  {
    name: "writing kernel settings",
    language: "python",
    program: refused(
      'for path in ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/overcommit_memory", "/proc/sysrq-trigger", "/proc/sys/kernel/hostname"]:\n    must_fail(path, lambda: open(path, "w"))\nmust_fail("uid_map", lambda: os.write(os.open("/proc/self/uid_map", os.O_WRONLY), b"0 0 1"))',
    ),
    want: "accepted",
  },
  {
    name: "capabilities, privileges and the filter as they should be",
    language: "python",
    program:
      'import os\nstatus = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)\ncaps = [int(status[k], 16) for k in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]]\nprint("ok" if not any(caps) and status["NoNewPrivs"] == "1" and status["Seccomp"] == "2" and os.getuid() == os.geteuid() == 1000 else (caps, status["NoNewPrivs"], status["Seccomp"], os.getuid()))',
    want: "accepted",
  },
  {
    name: "ptrace and memory of other processes",
    language: "python",
    program: refused(
      'for pid in [1, os.getppid() or 1]:\n    must_fail("ptrace", lambda: libc.ptrace(16, pid, 0, 0))\n    must_fail("vm", lambda: libc.process_vm_readv(pid, 0, 0, 0, 0, 0))\n    must_fail("oom", lambda: open(f"/proc/{pid}/oom_score_adj", "w"))\n    for name in ["mem", "environ", "maps", "auxv"]:\n        must_fail(f"{pid}/{name}", lambda: open(f"/proc/{pid}/{name}", "rb").read(1))\n    for name in ["fd", "cwd", "root", "exe"]:\n        must_fail(f"{pid}/{name}", lambda: os.listdir(f"/proc/{pid}/fd") if name == "fd" else os.readlink(f"/proc/{pid}/{name}"))',
    ),
    want: "accepted",
    onlySupervisor: "pid 1 is bubblewrap there",
  },
  {
    name: "namespaces, mounts and roots of its own",
    language: "python",
    program: refused(
      'for flag in [0x10000000, 0x20000, 0x40000000, 0x20000000, 0x08000000, 0x04000000, 0x02000000]:\n    must_fail(hex(flag), lambda: libc.unshare(flag)); must_fail("clone", lambda: libc.syscall(56, flag | 17, 0, 0, 0, 0))\nmust_fail("mount", lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, 0))\nmust_fail("umount", lambda: libc.umount2(b"/tmp", 2))\nmust_fail("chroot", lambda: os.chroot("/tmp"))\nmust_fail("pivot", lambda: libc.syscall(155, b"/tmp", b"/tmp"))\nmust_fail("setns", lambda: libc.setns(os.open("/proc/self/ns/net", 0), 0))',
    ),
    want: "accepted",
  },
  {
    name: "kernel interfaces: io_uring, keyrings, bpf, userfaultfd, perf, modules",
    language: "python",
    program: refused(
      'for number in [425, 427, 248, 249, 250, 321, 323, 298, 175, 313, 246, 169, 304, 310, 101, 438]:\n    must_fail(number, lambda: libc.syscall(number, 0, 0, 0, 0, 0))\nmust_fail("keyring", lambda: libc.syscall(250, 0, -3, 1))',
    ),
    want: "accepted",
  },
  {
    name: "another system call table",
    language: "c",
    program: c('long r; asm volatile("int $0x80" : "=a"(r) : "a"(20)); printf("%ld\\n", r);'),
    want: "runtime_error",
  },
  {
    name: "limits raised, priority raised, real-time",
    language: "python",
    program: refused(
      'import resource\nfor limit in [resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU, resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK]:\n    must_fail(limit, lambda: resource.setrlimit(limit, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)))\nmust_fail("nice", lambda: os.setpriority(0, 0, -10))\nmust_fail("fifo", lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)))\nmust_fail("setuid", lambda: os.setuid(0))\nmust_fail("groups", lambda: os.setgroups([0]))',
    ),
    want: "accepted",
  },
  {
    name: "descriptors of ours",
    language: "python",
    program:
      'import os\nleft = [fd for fd in os.listdir("/proc/self/fd") if int(fd) > 2]\nopen_fds = []\nfor fd in range(3, 300):\n    try: os.fstat(fd); open_fds.append(fd)\n    except OSError: pass\nprint(open_fds or "ok")',
    want: "accepted",
  },
  {
    name: "a set-uid program",
    language: "bash",
    program:
      'for f in /usr/bin/su /usr/bin/passwd /usr/bin/mount; do "$f" --version >/dev/null 2>&1; done\ncp /usr/bin/id ./id && chmod 4755 ./id && [ "$(./id -u)" = 1000 ] && echo ok',
    want: "accepted",
  },
  {
    name: "a core file",
    language: "bash",
    program: "sh -c 'kill -SEGV $$' 2>/dev/null\nls core* >/dev/null 2>&1 && echo core || echo ok",
    want: "accepted",
  },
  {
    name: "keystrokes for a terminal",
    language: "python",
    program: refused(
      'import fcntl\nmust_fail("tiocsti", lambda: fcntl.ioctl(0, 0x5412, b"x"))\nmust_fail("tty", lambda: open("/dev/tty"))',
    ),
    want: "accepted",
  },
];

export const COMPILERS: readonly Case[] = [
  {
    name: "an endless include",
    language: "c",
    program: '#include "/dev/zero"\nint main(void) { return 0; }',
    want: "compile_error",
  },
  {
    name: "a host file included",
    language: "c",
    program: '#include "/etc/passwd"\n#include "/etc/shadow"\nint main(void) { return 0; }',
    want: "compile_error",
    never: /root:|:0:0:/,
  },
  {
    name: "a host file in the binary",
    language: "c",
    program:
      'asm(".globl d\\nd: .incbin \\"/etc/passwd\\"\\n.byte 0");\nextern char d[];\n#include <stdio.h>\nint main(void) { puts(d); return 0; }',
    want: "compile_error",
    never: /root:|:0:0:/,
  },
  {
    name: "an initialised array of three gigabytes",
    language: "c",
    program: "char a[3UL << 30] = {1};\nint main(void) { return a[0]; }",
    want: "compile_error",
  },
  {
    name: "an assembler that repeats",
    language: "c",
    program: 'asm(".rept 400000000\\n.byte 1\\n.endr");\nint main(void) { return 0; }',
    want: ["compile_error", "wrong_answer"],
  },
  {
    name: "macros that double",
    language: "c",
    program: `#define A(x) x x x x x x x x x x
${"BCDEFGHIJ"
  .split("")
  .map((name, i) => `#define ${name}(x) ${"ABCDEFGHI"[i]}(${"ABCDEFGHI"[i]}(x))`)
  .join("\n")}
int main(void) { J(J(1;)) return 0; }`,
    want: "compile_error",
  },
  {
    name: "ten thousand diagnostics",
    language: "c",
    program: `int main(void) {\n${"  undeclared_name;\n".repeat(10000)}}`,
    want: "compile_error",
  },
  {
    name: "a binary larger than the program's memory",
    language: "c",
    program: 'char a[50UL << 20] = {1};\n#include <stdio.h>\nint main(void) { puts("ok"); return a[0] - 1; }',
    limits: { memory_mb: 32 },
    want: "memory_limit",
    withoutCgroup: ["accepted", "runtime_error"],
  },
  {
    name: "a program too large to be loaded",
    language: "c",
    program: '#include <stdio.h>\nchar a[1UL << 44];\nint main(void) { puts("ok"); return a[1UL << 43]; }',
    want: ["compile_error", "runtime_error"],
  },
];

export const ODD_ENDINGS: readonly Case[] = [
  {
    name: "exit status 137 of its own",
    language: "bash",
    program: "echo ok; exit 137",
    want: "runtime_error",
  },
  {
    name: "exit status 124 of its own",
    language: "bash",
    program: "echo ok; exit 124",
    want: "runtime_error",
  },
  {
    name: "exit status 127 of its own",
    language: "bash",
    program: "echo ok; exit 127",
    want: "runtime_error",
  },
  {
    name: "exit status 152, as a shell reports SIGXCPU",
    language: "bash",
    program: "echo ok; exit 152",
    want: ["runtime_error"],
    onlySupervisor: "bubblewrap reports signals as 128 + n",
  },
  {
    name: "SIGKILL of itself",
    language: "python",
    program: 'import os\nprint("ok", flush=True)\nos.kill(os.getpid(), 9)',
    want: "runtime_error",
  },
  {
    name: "SIGTERM of itself",
    language: "python",
    program: 'import os\nprint("ok", flush=True)\nos.kill(os.getpid(), 15)',
    want: "runtime_error",
  },
  { name: "abort", language: "c", program: c('puts("ok"); fflush(stdout); abort();'), want: "runtime_error" },
  {
    name: "the right answer, then a non-zero status",
    language: "lua",
    program: 'print("ok") os.exit(1)',
    want: "runtime_error",
  },
  {
    name: "NUL bytes in the output",
    language: "python",
    program: 'import sys\nsys.stdout.buffer.write(b"o\\0k\\n")',
    want: "wrong_answer",
  },
  {
    name: "invalid UTF-8 in the output",
    language: "python",
    program: 'import sys\nsys.stdout.buffer.write(b"ok\\xff\\xfe\\n")',
    want: "wrong_answer",
  },
  {
    name: "the replacement character is not the byte that it replaces",
    language: "python",
    program: 'import sys\nsys.stdout.buffer.write(b"\\xff\\n")',
    tests: [["", "\ufffd"]],
    want: "wrong_answer",
  },
  {
    name: "a program that is a NUL byte",
    language: "python",
    program: "\0",
    want: ["runtime_error", "wrong_answer"],
  },
  {
    name: "its expected output guessed from the host",
    language: "python",
    program:
      'import glob\nprint([p for p in glob.glob("/w/*") + glob.glob("/tmp/*") if "main" not in p] or "nothing")',
    want: "wrong_answer",
  },
];

export const TRICKY_BUT_RIGHT: readonly Case[] = [
  {
    name: "four megabytes of input that nobody reads",
    language: "lua",
    program: 'print("ok")',
    tests: [["x".repeat(4 << 20), "ok"]],
    want: "accepted",
  },
  {
    name: "input read in part",
    language: "python",
    program: "print(input())",
    tests: [[`ok\n${"y".repeat(1 << 20)}`, "ok"]],
    want: "accepted",
  },
  {
    name: "large input, large output",
    language: "python",
    program: "import sys\nsys.stdout.write(sys.stdin.read())",
    tests: [["z 1\n".repeat(200_000), "z 1\n".repeat(200_000)]],
    want: "accepted",
  },
  {
    name: "NUL and UTF-8 in the input",
    language: "python",
    program: 'import sys\nprint(sys.stdin.buffer.read() == "a\\0å".encode() and "ok")',
    tests: [["a\0å", "ok"]],
    want: "accepted",
  },
  {
    name: "every descriptor closed after the answer",
    language: "python",
    program: 'import os\nprint("ok", flush=True)\nos.closerange(0, 100)\nos._exit(0)',
    want: "accepted",
  },
  {
    name: "no newline at the end, spaces, carriage returns",
    language: "python",
    program: 'print("ok  \\r\\n\\r\\n", end="")',
    want: "accepted",
  },
  {
    name: "temporary files and folders",
    language: "python",
    program:
      'import tempfile, os\nwith tempfile.TemporaryDirectory() as d:\n    p = os.path.join(d, "x"); open(p, "w").write("ok"); print(open(p).read())\nopen("here", "w").write("x")',
    want: "accepted",
  },
  {
    name: "child processes and pipes",
    language: "python",
    program:
      'import subprocess\nprint(subprocess.run(["sh", "-c", "cat | tr a-z A-Z | tr A-Z a-z"], input="ok", capture_output=True, text=True).stdout)',
    want: "accepted",
  },
  {
    name: "a process pool with semaphores in shared memory",
    language: "python",
    program:
      'import multiprocessing as m\ndef f(x): return x * x\nif __name__ == "__main__":\n    with m.Pool(4) as p: print("ok" if p.map(f, range(9))[8] == 64 else "no")',
    limits: { time_s: 10 },
    want: "accepted",
  },
  {
    name: "threads",
    language: "c",
    program:
      '#include <pthread.h>\n#include <stdio.h>\nint n;\npthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;\nvoid *f(void *x) { for (int i = 0; i < 1000; i++) { pthread_mutex_lock(&m); n++; pthread_mutex_unlock(&m); } return x; }\nint main(void) { pthread_t t[16]; for (int i = 0; i < 16; i++) if (pthread_create(&t[i], 0, f, 0)) return 1; for (int i = 0; i < 16; i++) pthread_join(t[i], 0); puts(n == 16000 ? "ok" : "no"); }',
    want: "accepted",
  },
  {
    name: "worker threads in Node",
    language: "javascript",
    program:
      'const { Worker } = require("worker_threads");\nnew Worker("require(\'worker_threads\').parentPort.postMessage(\'ok\')", { eval: true }).on("message", (m) => console.log(m));',
    want: "accepted",
  },
  {
    name: "a server and a client on loopback",
    language: "python",
    program:
      'import socket, threading\ns = socket.create_server(("127.0.0.1", 0))\nthreading.Thread(target=lambda: s.accept()[0].sendall(b"ok")).start()\nprint(socket.create_connection(s.getsockname()).recv(2).decode())',
    want: "accepted",
  },
  {
    name: "deep recursion",
    language: "lua",
    program:
      'local function f(n) if n == 0 then return 0 end return 1 + f(n - 1) end\nprint(f(150000) == 150000 and "ok")',
    want: "accepted",
  },
  {
    name: "a hundred megabytes, used and freed",
    language: "python",
    program: 'for _ in range(5):\n    b = bytearray(100 << 20)\n    del b\nprint("ok")',
    limits: { memory_mb: 256 },
    want: "accepted",
  },
  {
    name: "a large file in /tmp, in each of four tests, beside a tight memory limit",
    language: "python",
    program:
      'with open("/tmp/big", "wb") as f:\n    for _ in range(60): f.write(b"x" * (1 << 20))\nprint("ok")',
    tests: [
      ["", "ok"],
      ["", "ok"],
      ["", "ok"],
      ["", "ok"],
    ],
    limits: { memory_mb: 80, time_s: 5 },
    want: "accepted",
  },
  {
    name: "Unicode in source, input and output",
    language: "lua",
    program: 'local s = io.read("a")\nprint(s .. "→é" .. utf8.len(s))',
    tests: [["日本", "日本→é2"]],
    want: "accepted",
  },
  {
    name: "signals handled",
    language: "bash",
    program: "trap 'echo ok' USR1\nkill -USR1 $$\n",
    want: "accepted",
  },
  {
    name: "a broken pipe inside the program",
    language: "bash",
    program: "yes | head -n 1 >/dev/null\necho ok",
    want: "accepted",
  },
  {
    name: "input reopened by its path",
    language: "bash",
    program: "cat /dev/stdin",
    tests: [["ok\n", "ok"]],
    want: "accepted",
    onlySupervisor: "the fallback's stdin is a socket",
  },
  {
    name: "output reopened by its path",
    language: "bash",
    program: "echo o > /dev/stdout; echo k > /proc/self/fd/1",
    tests: [["", "o k"]],
    want: "accepted",
    onlySupervisor: "the fallback's stdout is a socket",
  },
  {
    name: "the clock, random numbers and the process list",
    language: "python",
    program:
      'import time, os, random\nassert time.time() > 1e9 and len(os.urandom(8)) == 8 and os.listdir("/proc/self")\nprint("ok")',
    want: "accepted",
  },
  {
    name: "an environment that runtimes expect",
    language: "bash",
    program: '[ "$HOME" = /tmp ] && [ -n "$PATH" ] && [ "$LANG" = C.UTF-8 ] && [ -w . ] && echo ok',
    want: "accepted",
    onlySupervisor: "the fallback runs in /w",
  },
  { name: "sleep within the limit", language: "bash", program: "sleep 0.3; echo ok", want: "accepted" },
];

/** The whole suite, by kind of attack. */
export const GROUPS: Readonly<Record<string, readonly Case[]>> = {
  exhaustion: EXHAUSTION,
  "kinds of memory": KINDS_OF_MEMORY,
  "kinds of time": KINDS_OF_TIME,
  "what is counted elsewhere": COUNTED_ELSEWHERE,
  survival: SURVIVAL,
  "our own processes": OUR_PROCESSES,
  escape: ESCAPE,
  compilers: COMPILERS,
  "compile time": COMPILE_TIME,
  "odd endings": ODD_ENDINGS,
  "tricky but right": [...TRICKY_BUT_RIGHT, ...MORE_THAT_IS_RIGHT],
};

export const ALL_CASES: readonly Case[] = Object.values(GROUPS).flat();

/** The languages of the cases: those that are shipped, and two whose compiler runs what it compiles. */
export function caseLanguages(): LanguageSet {
  const macros = Object.entries(MACRO_LANGUAGES).map(([file, text]) => parseLanguage(text, file));
  return languageSet([...loadLanguages().all, ...macros]);
}
