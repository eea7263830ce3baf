/** What else a program can use up: kinds of memory, of processor time, and what the kernel counts by user or by host. */
import type { Limits } from "../../core/index.js";
import type { Case } from "./hostile.js";

const SHORT: Limits = { time_s: 5, memory_mb: 128 };
const TWICE = [
  ["", "ok"],
  ["", "ok"],
] as const;

const c = (body: string, head = "") => `#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
${head}
int main(void) {
${body}
}
`;

export const KINDS_OF_MEMORY: readonly Case[] = [
  {
    name: "page tables: one byte in each two megabytes",
    language: "c",
    program: c(
      'char *p = mmap(0, 1UL << 40, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); if (p == MAP_FAILED) abort(); madvise(p, 1UL << 40, MADV_NOHUGEPAGE); for (long i = 0; i < 1L << 19; i++) p[i << 21] = 1; puts("ok");',
    ),
    limits: SHORT,
    want: "memory_limit",
    withoutCgroup: ["runtime_error"],
  },
  {
    name: "System V segments, detached as soon as they are full",
    language: "c",
    program: c(
      'static char *p; for (int i = 0; i < 40; i++) { int id = shmget(IPC_PRIVATE, 16 << 20, 0600); if (id < 0) { puts("refused"); return 3; } p = shmat(id, 0, 0); if (p == (void *)-1) return 4; memset(p, 1, 16 << 20); shmdt(p); } puts("ok");',
    ),
    limits: SHORT,
    want: ["memory_limit", "runtime_error"],
    withoutCgroup: ["runtime_error"],
  },
  {
    name: "System V messages that nobody fetches",
    language: "c",
    program: c(
      'struct { long t; char b[8192]; } m = {1, {0}}; long sent = 0; for (int q = 0; q < 40000; q++) { int id = msgget(IPC_PRIVATE, 0600); if (id < 0) break; while (msgsnd(id, &m, sizeof m.b, IPC_NOWAIT) == 0) sent++; } puts("ok");',
    ),
    limits: SHORT,
    want: ["memory_limit", "accepted"],
  },
  {
    name: "pipes full of data in many processes",
    language: "c",
    program: c(
      'for (int i = 0; i < 40; i++) if (fork() == 0) { static char b[65536]; for (;;) { int p[2]; if (pipe(p)) break; fcntl(p[1], F_SETPIPE_SZ, 1 << 20); fcntl(p[1], F_SETFL, O_NONBLOCK); while (write(p[1], b, sizeof b) > 0); } sleep(2); _exit(0); } while (wait(0) > 0); puts("ok");',
    ),
    limits: SHORT,
    want: ["memory_limit", "accepted", "time_limit"],
    withoutCgroup: ["accepted", "time_limit"],
  },
  {
    name: "socket queues, filled through descriptors that are in flight themselves",
    language: "c",
    program: c(
      `static char b[65536]; for (int n = 0; n < 20; n++) if (fork() == 0) { for (;;) { int s[2]; if (socketpair(AF_UNIX, SOCK_STREAM, 0, s)) break; fcntl(s[0], F_SETFL, O_NONBLOCK); while (send(s[0], b, sizeof b, 0) > 0);
  char cb[CMSG_SPACE(sizeof(int))]; struct iovec io = {b, 1}; struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = sizeof cb};
  struct cmsghdr *h = CMSG_FIRSTHDR(&m); h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; h->cmsg_len = CMSG_LEN(sizeof(int)); memcpy(CMSG_DATA(h), &s[1], sizeof(int)); sendmsg(s[0], &m, 0); close(s[1]); } sleep(1); _exit(0); }
  while (wait(0) > 0); puts("ok");`,
    ),
    limits: SHORT,
    tests: TWICE,
    want: ["memory_limit", "accepted", "time_limit"],
    withoutCgroup: ["accepted", "time_limit"],
  },
  {
    name: "TCP buffers on loopback",
    language: "c",
    program: c(
      `static char b[65536]; int l = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)}; socklen_t n = sizeof a;
  bind(l, (void *)&a, n); listen(l, 100); getsockname(l, (void *)&a, &n); long total = 0;
  for (int i = 0; i < 100; i++) { int s = socket(AF_INET, SOCK_STREAM, 0); if (connect(s, (void *)&a, n)) break; int big = 1 << 24; setsockopt(s, SOL_SOCKET, SO_SNDBUF, &big, sizeof big); accept(l, 0, 0); fcntl(s, F_SETFL, O_NONBLOCK); for (long w; (w = send(s, b, sizeof b, 0)) > 0;) total += w; }
  puts(total < 200L << 20 ? "ok" : "unbounded");`,
    ),
    limits: SHORT,
    want: ["accepted", "memory_limit"],
    withoutCgroup: ["accepted", "wrong_answer", "time_limit"],
  },
  {
    name: "shared memory in /dev/shm, through mmap",
    language: "python",
    program:
      'import mmap, os\nfor i in range(40):\n    fd = os.open(f"/dev/shm/{i}", os.O_CREAT | os.O_RDWR)\n    try:\n        os.posix_fallocate(fd, 0, 16 << 20)\n    except OSError:\n        break\nprint("ok" if i < 10 else i)',
    want: "accepted",
    limits: { time_s: 5, memory_mb: 256 },
  },
  {
    name: "locked memory",
    language: "c",
    program: c('char *p = malloc(16 << 20); puts(mlock(p, 16 << 20) && mlockall(3) ? "ok" : "locked");'),
    want: "accepted",
  },
  {
    name: "an array that is only reserved, far larger than the limit",
    language: "c",
    program: c(
      'char *p = mmap(0, 1UL << 33, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); puts(p == MAP_FAILED ? "refused" : "ok");',
    ),
    limits: SHORT,
    want: "accepted",
    withoutCgroup: ["accepted", "wrong_answer"],
  },
];

export const KINDS_OF_TIME: readonly Case[] = [
  {
    name: "time of children that nobody waits for",
    language: "c",
    program: c(
      'signal(SIGCHLD, SIG_IGN); for (int round = 0; round < 4; round++) { for (int i = 0; i < 2; i++) if (fork() == 0) { while (clock() < 450000); _exit(0); } while (wait(0) > 0); } puts("ok");',
    ),
    limits: { time_s: 60, cpu_s: 1 },
    want: "time_limit",
    withoutCgroup: ["accepted", "time_limit"],
    onlySupervisor: "the fallback does not measure CPU time",
  },
  {
    name: "time of threads summed",
    language: "c",
    program: c(
      'pthread_t t[4]; for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, spin, 0); for (int i = 0; i < 4; i++) pthread_join(t[i], 0); puts("ok");',
      "#include <pthread.h>\nvoid *spin(void *x) { struct timespec t; do clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); while (t.tv_sec == 0 && t.tv_nsec < 800000000); return x; }",
    ),
    limits: { time_s: 30, cpu_s: 1 },
    want: "time_limit",
  },
  {
    name: "a child that spins after the answer",
    language: "c",
    program: c('if (fork() == 0) for (;;); puts("ok");'),
    tests: TWICE,
    want: "accepted",
    withinMs: 3000,
  },
  {
    name: "sleeping for ever in sixty processes",
    language: "bash",
    program: "for i in $(seq 50); do sleep 300 & done; wait",
    limits: { time_s: 1 },
    want: "time_limit",
    withinMs: 5000,
  },
  {
    name: "timers by the thousand",
    language: "c",
    program: c(
      'signal(SIGALRM, SIG_IGN); struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM}; struct itimerspec w = {{0, 1}, {0, 1}}; int n = 0; for (timer_t t; n < 100000 && timer_create(CLOCK_MONOTONIC, &e, &t) == 0; n++) timer_settime(t, 0, &w, 0); puts(n <= 2048 ? "ok" : "unbounded");',
    ),
    limits: { time_s: 10 },
    want: ["accepted", "time_limit"],
    onlySupervisor: "the shell's ulimit knows no limit of pending signals",
  },
  {
    name: "a light test after a heavy one is not slower for it",
    language: "python",
    program: `import os, sys, time
if input() == "heavy":
    for _ in range(40):
        if os.fork() == 0:
            block = bytearray(2 << 20)
            while True: pass
    open("/tmp/big", "wb").write(bytes(40 << 20))
    while True: pass
start = time.monotonic()
sum(range(1000))
print("ok" if time.monotonic() - start < 0.5 else "slow")`,
    tests: [
      ["heavy\n", "ok"],
      ["light\n", "ok"],
      ["light\n", "ok"],
    ],
    limits: { time_s: 3, memory_mb: 400 },
    want: "time_limit",
    passes: 2,
  },
];

export const COUNTED_ELSEWHERE: readonly Case[] = [
  {
    name: "inotify, asynchronous I/O: counted by user and by host, refused",
    language: "python",
    program:
      'import ctypes\nlibc = ctypes.CDLL(None)\nbuffer = ctypes.create_string_buffer(8)\nprint("ok" if libc.inotify_init1(0) == -1 and libc.inotify_init() == -1 and libc.syscall(206, 65536, buffer) == -1 else "open")',
    want: "accepted",
  },
  {
    name: "terminals: a few, not the host's four thousand",
    language: "python",
    program:
      'import os\nn = 0\ntry:\n    for n in range(200): os.openpty()\nexcept OSError: pass\nprint("ok" if n < 150 else "unbounded")',
    want: "accepted",
  },
  {
    name: "protocols whose modules the host's kernel would load",
    language: "python",
    program:
      'import socket\nopen_doors = []\nfor family in (socket.AF_INET, socket.AF_INET6):\n    for kind, protocol in [(1, 132), (5, 132), (1, 262), (6, 33), (2, 136), (2, 115), (1, 256)]:\n        try: socket.socket(family, kind, protocol); open_doors.append(protocol)\n        except OSError: pass\nprint(open_doors or "ok")',
    want: "accepted",
  },
  {
    name: "no core handler is started for a crash, no limit can be raised",
    language: "python",
    program:
      'import resource as r\nfixed = {r.RLIMIT_CORE: 1, r.RLIMIT_MEMLOCK: 0, r.RLIMIT_MSGQUEUE: 0, r.RLIMIT_RTPRIO: 0, r.RLIMIT_NICE: 0}\nwrong = [k for k, most in fixed.items() if r.getrlimit(k)[1] > most]\nprint(wrong or ("ok" if r.getrlimit(r.RLIMIT_SIGPENDING)[1] <= 1024 else "signals"))',
    want: "accepted",
    onlySupervisor: "a shell can set the limit of core files alone",
  },
  {
    name: "the host's disks are not written out at a program's wish",
    language: "c",
    program: c(
      'struct timespec a, b; clock_gettime(CLOCK_MONOTONIC, &a); for (int i = 0; i < 2000; i++) sync(); clock_gettime(CLOCK_MONOTONIC, &b); puts(b.tv_sec - a.tv_sec < 2 ? "ok" : "slow");',
    ),
    want: "accepted",
  },
  {
    name: "devices: none but the harmless",
    language: "python",
    program:
      'import os\nexpected = {"null", "zero", "full", "random", "urandom", "tty", "pts", "ptmx", "shm", "fd", "stdin", "stdout", "stderr", "core", "console"}\nprint(sorted(set(os.listdir("/dev")) - expected) or ("ok" if not os.path.exists("/sys") and not os.path.exists("/dev/mem") else "sys"))',
    want: "accepted",
  },
  {
    name: "an environment and a folder without anything of ours",
    language: "python",
    program:
      'import os\nextra = set(os.environ) - {"PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LANG", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_", "PYTHONHASHSEED", "PYTHONDONTWRITEBYTECODE"}\nprint(sorted(extra) or [f for f in os.listdir("/w") + os.listdir(".") if not f.startswith("main.py") and f != "__pycache__"] or "ok")',
    want: "accepted",
  },
  {
    name: "folders as deep as they go, files as long as their names may be",
    language: "python",
    program:
      'import os\nn = 0\ntry:\n    for n in range(100000): os.mkdir("d"); os.chdir("d")\nexcept OSError: pass\ntry:\n    for i in range(100000): open(str(i).rjust(255, "x"), "w").close()\nexcept OSError: pass\nprint("ok" if n < 5000 else n)',
    tests: TWICE,
    limits: { time_s: 10 },
    want: "accepted",
    onlySupervisor: "bubblewrap cannot bound the number of files",
  },
  {
    name: "arguments and environment as large as the kernel takes",
    language: "python",
    program:
      'import subprocess\ntry:\n    r = subprocess.run(["true"] + ["x" * 100000] * 200, env={"A": "y" * 100000})\nexcept OSError: pass\nprint("ok")',
    want: "accepted",
  },
  {
    name: "the x32 table of x86-64",
    language: "c",
    program: c('printf("%ld\\n", syscall(0x40000000 | 39));'),
    want: "runtime_error",
  },
  {
    name: "locks on shared files do not reach another program's /tmp",
    language: "python",
    program:
      'import fcntl, os\nfds = [os.open(p, os.O_RDONLY) for p in ["/usr/bin/env", "/w/main.py"]]\nfor fd in fds: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)\nprint("ok")',
    want: ["accepted", "runtime_error"],
  },
  {
    name: "a death by a real-time signal",
    language: "python",
    program: 'import os\nprint("ok", flush=True)\nos.kill(os.getpid(), 40)',
    want: "runtime_error",
  },
  {
    name: "output to the byte at its limit",
    language: "python",
    program: 'import sys\nsys.stdout.write("x" * (64 * 1024))',
    tests: [["", "x".repeat(64 * 1024)]],
    limits: { output_kb: 64 },
    want: "accepted",
  },
  {
    name: "output one byte past its limit",
    language: "python",
    program: 'import sys\nsys.stdout.write("x" * (64 * 1024) + "\\n")',
    tests: [["", "x".repeat(64 * 1024)]],
    limits: { output_kb: 64 },
    want: "output_limit",
  },
  {
    name: "output flood in single bytes, on both streams",
    language: "c",
    program: c('for (;;) { (void)!write(1, "x", 1); (void)!write(2, "y", 1); }'),
    limits: { time_s: 20, output_kb: 64 },
    want: "output_limit",
  },
  {
    name: "output as packets, in a pipe made small, without waiting",
    language: "c",
    program: c(
      'fcntl(1, F_SETPIPE_SZ, 4096); fcntl(1, F_SETFL, O_DIRECT | O_NONBLOCK); (void)!write(1, "", 0); while (write(1, "ok", 2) != 2);',
    ),
    want: "accepted",
  },
];
