/**
 * Programs that aim at the judge itself: its pid 1, its shell, its deadline, the step from compiling to running. What they
 * must never reach is `infrastructure`, which is tried again and then left out of training: whoever could ask for it
 * would escape every verdict.
 */
import type { Status } from "../../core/index.js";
import type { Case } from "./hostile.js";

const macro = (execute: string): string =>
  `prompt: p\nfilename: main.sh\ncompile: bash main.sh\nexecute: ${execute}\ncompile_limits: {time_s: 4, memory_mb: 256}\n`;

/** Languages whose compiler runs the program's own text, as macros and templates of several do; by the file's name. */
export const MACRO_LANGUAGES: Readonly<Record<string, string>> = {
  "macro.yaml": macro("./out"),
  "macro-absolute.yaml": macro("/w/out"),
};

const OUT = "printf '#!/bin/sh\\necho ok\\n' > out; chmod 755 out";
const TWICE = [
  ["", "ok"],
  ["", "ok"],
] as const;

/** Any verdict on the program; only our own failure is wrong. */
const ITS_OWN: readonly Status[] = [
  "accepted",
  "wrong_answer",
  "runtime_error",
  "time_limit",
  "memory_limit",
  "output_limit",
  "compile_error",
];

export const COMPILE_TIME: readonly Case[] = [
  {
    name: "a compile step that makes what runs",
    language: "macro",
    program: OUT,
    tests: TWICE,
    want: "accepted",
  },
  { name: "a compile step that makes nothing", language: "macro", program: "true", want: "runtime_error" },
  {
    name: "a compile step that makes nothing, where the command is an absolute path",
    language: "macro-absolute",
    program: "true",
    want: "runtime_error",
  },
  {
    name: "what runs is a FIFO",
    language: "macro-absolute",
    program: "mkfifo out; chmod 755 out",
    want: ["runtime_error", "compile_error"],
  },
  {
    name: "what runs is a folder",
    language: "macro-absolute",
    program: "mkdir out",
    want: "runtime_error",
  },
  {
    name: "what runs is a link to the host's files, to a device, to itself",
    language: "macro",
    program: "case $RANDOM in *[0-4]) ln -s out out ;; *) ln -s /dev/zero out ;; esac",
    want: ["runtime_error", "compile_error"],
  },
  {
    name: "what runs asks for an interpreter that is not there",
    language: "macro-absolute",
    program: "printf '#!/nonexistent\\n' > out; chmod 755 out",
    want: "runtime_error",
  },
  {
    name: "what runs may not be read or run",
    language: "macro-absolute",
    program: `${OUT}; chmod 000 out`,
    want: ["runtime_error", "compile_error"],
  },
  {
    name: "the program's folder closed after compiling",
    language: "macro",
    program: `${OUT}; chmod 000 /w`,
    want: ["runtime_error", "compile_error"],
  },
  {
    name: "the program's folder full",
    language: "macro",
    program: `${OUT}; cat /dev/zero > a & cat /dev/zero > b & cat /dev/zero > c; wait; true`,
    want: ITS_OWN,
    limits: { memory_mb: 64 },
  },
  ...[60, 63, 66, 69].map(
    (mb): Case => ({
      name: `the program's folder ${mb} MB full, beside a limit of 64 MB and our margin`,
      language: "macro",
      program: `${OUT}; head -c ${mb}M /dev/zero > a; head -c ${mb}M /dev/zero | tail -c +62000000 > b; true`,
      tests: TWICE,
      want: ["accepted", "memory_limit", "runtime_error"],
      limits: { memory_mb: 64 },
    }),
  ),
  {
    name: "files without number left beside the program",
    language: "macro",
    program: `${OUT}; mkdir d; for i in $(seq 30000); do : > "d/$i" || break; done; for i in $(seq 6000); do : > "f$i" || break; done; true`,
    tests: TWICE,
    want: ["accepted", "compile_error", "runtime_error"],
  },
  {
    name: "folders two thousand deep left beside the program",
    language: "macro",
    program: `${OUT}; mkdir -p "$(printf 'd/%.0s' $(seq 2000))"; true`,
    tests: TWICE,
    want: ["accepted", "compile_error"],
  },
  {
    name: "a process left by the compile step that would change the program between tests",
    language: "macro",
    program: `${OUT}; (setsid sh -c "while :; do printf '#!/bin/sh\\necho changed\\n' > /w/out; done" >/dev/null 2>&1 &); sleep 0.1; ${OUT}`,
    tests: TWICE,
    want: ["accepted", "wrong_answer", "runtime_error", "compile_error"],
  },
  {
    name: "a compile step that kills its parent and everything else",
    language: "macro",
    program: `${OUT}; kill -9 $PPID; kill -9 -1; kill -9 1`,
    want: ["accepted", "compile_error"],
  },
  {
    name: "a compile step that writes to every descriptor of every process",
    language: "macro",
    program: `${OUT}; for f in /proc/[0-9]*/fd/*; do (printf missing > "$f") 2>/dev/null & done; sleep 0.2; kill -9 $PPID; exit 1`,
    want: ["compile_error"],
  },
  {
    name: "a compile step that says what a shell says of a missing tool",
    language: "macro",
    program: "echo 'sh: 1: gcc: not found' >&2; exit 127",
    want: "compile_error",
  },
  {
    name: "a compile step that never ends",
    language: "macro",
    program: "trap '' TERM INT HUP; while :; do :; done",
    want: "compile_error",
  },
  {
    name: "a compile step that bombs",
    language: "macro",
    program: ":(){ :|:& };:\nwait; sleep 9",
    want: "compile_error",
  },
];

const c = (head: string, body: string) => `#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
${head}
int main(void) {
${body}
}
`;

export const OUR_PROCESSES: readonly Case[] = [
  {
    name: "limits set on pid 1, so that the kernel kills it",
    language: "c",
    program: c(
      "",
      `  struct rlimit none = {0, 0}; int open_doors = 0;
  for (int r = 0; r < 16; r++) if (prlimit(1, r, &none, NULL) == 0) open_doors++;
  for (int i = 0; i < 2000; i++) { if (fork() == 0) { if (fork() == 0) _exit(0); _exit(0); } while (waitpid(-1, NULL, WNOHANG) > 0); }
  puts(open_doors ? "open" : "ok");`,
    ),
    limits: { time_s: 30 },
    want: "accepted",
  },
  {
    name: "pid 1 made to run behind every process that spins",
    language: "c",
    program: c(
      "",
      `  struct sched_param zero = {0}; int open_doors = 0;
  open_doors += sched_setscheduler(1, SCHED_IDLE, &zero) == 0;
  open_doors += setpriority(PRIO_PROCESS, 1, 19) == 0;
  open_doors += setpriority(PRIO_USER, 1000, 19) == 0;
  if (open_doors) puts("open"); else puts("ok");
  fflush(stdout);
  for (int i = 0; i < 30; i++) if (fork() == 0) for (;;);
  for (;;);`,
    ),
    tests: TWICE,
    limits: { time_s: 1 },
    want: "time_limit",
    withinMs: 12_000,
  },
  {
    name: "every signal to pid 1, to the parent, to all",
    language: "c",
    program: c(
      "",
      `  for (int s = 1; s < 65; s++) { kill(1, s); kill(getppid(), s); signal(s, SIG_IGN); } /* 32 and 33 are the C library's own: it lets nobody ignore them */
  for (int s = 1; s < 65; s++) if (s != SIGSTOP && s != SIGKILL && s != 32 && s != 33) { kill(-1, s); kill(0, s); }
  kill(-1, SIGKILL);
  puts("ok");`,
    ),
    tests: TWICE,
    want: "accepted",
    onlySupervisor: "without a process of ours between, a program may end its own shell",
  },
  {
    name: "signals through descriptors that pid 1 is made to own",
    language: "c",
    program: c(
      "",
      `  int p[2]; if (pipe(p)) return 1;
  for (int s = 1; s < 65; s++) for (int i = 0; i < 2; i++) { fcntl(p[i], F_SETOWN, 1); fcntl(p[i], F_SETSIG, s); fcntl(p[i], F_SETFL, O_ASYNC | O_NONBLOCK); char b = 0; (void)!write(p[1], &b, 1); (void)!read(p[0], &b, 1); }
  puts("ok");`,
    ),
    want: ["accepted", "runtime_error"],
  },
  {
    name: "orphans that pid 1 must bury, as fast as they come",
    language: "c",
    program: c(
      "",
      '  for (int i = 0; i < 2000; i++) { if (fork() == 0) { fork(); _exit(0); } while (waitpid(-1, NULL, WNOHANG) > 0); } puts("ok");',
    ),
    limits: { time_s: 30 },
    tests: TWICE,
    want: "accepted",
  },
  {
    name: "children of pid 1 by CLONE_PARENT",
    language: "c",
    program: c(
      "",
      `  for (int i = 0; i < 20; i++) { long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0); if (pid == 0) { if (i % 2) _exit(7); for (;;) pause(); } }
  puts("ok");`,
    ),
    tests: TWICE,
    want: "accepted",
  },
  {
    name: "a vfork that never comes back",
    language: "c",
    program: c("", "  if (vfork() == 0) for (;;) pause();"),
    limits: { time_s: 1 },
    want: "time_limit",
    withinMs: 5000,
  },
  {
    name: "a main thread that ends while another sleeps",
    language: "c",
    program: `#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
void *rest(void *x) { sleep(300); return x; }
int main(void) { pthread_t t; pthread_create(&t, 0, rest, 0); puts("ok"); fflush(stdout); pthread_exit(0); }`,
    limits: { time_s: 1 },
    want: "time_limit",
    withinMs: 5000,
  },
  {
    name: "sixty stopped processes left behind",
    language: "python",
    program:
      'import os, signal, time\nfor _ in range(55):\n    pid = os.fork()\n    if pid == 0:\n        os.setsid(); os.kill(os.getpid(), signal.SIGSTOP); time.sleep(300)\ntime.sleep(0.2)\nprint("ok")',
    tests: TWICE,
    want: "accepted",
    withinMs: 8000,
  },
  {
    name: "pid 1 of the test written to through /proc",
    language: "python",
    program: `import os
open_doors = []
for pid in ["1", "self", str(os.getppid())]:
    for name in ["mem", "oom_score_adj", "oom_adj", "comm", "uid_map", "gid_map", "setgroups", "clear_refs", "coredump_filter", "autogroup", "timerslack_ns", "loginuid", "attr/current"]:
        try:
            os.write(os.open(f"/proc/{pid}/{name}", os.O_WRONLY), b"0")
            open_doors.append((pid, name))
        except OSError: pass
print(open_doors or "ok")`,
    want: "accepted",
  },
  {
    name: "memory in many small processes, so that ours is the largest",
    language: "python",
    program:
      'import os, time\nfor i in range(50):\n    if os.fork() == 0:\n        block = bytearray(6 << 20)\n        time.sleep(3); os._exit(0)\ntime.sleep(3)\nprint("ok")',
    limits: { memory_mb: 100, time_s: 30 },
    tests: TWICE,
    want: "memory_limit",
    withoutCgroup: ["accepted"],
  },
  {
    name: "a process table of mappings that takes long to tear down",
    language: "c",
    program: c(
      "",
      `  for (int i = 0; i < 10; i++) if (fork() == 0) break;
  for (long i = 0; i < 60000; i++) { char *p = mmap(0, 4096, i & 1 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) break; }
  for (;;) pause();`,
    ),
    limits: { time_s: 4, memory_mb: 512 },
    tests: TWICE,
    want: ["time_limit", "memory_limit"],
    withinMs: 20_000,
  },
  {
    name: "frames and words of our own protocol printed",
    language: "python",
    program:
      'import sys, struct\nfor s in (sys.stdout.buffer, sys.stderr.buffer):\n    for t in b"DOPSFRIE":\n        s.write(struct.pack("<II", t, 48) + bytes(48)); s.write(struct.pack("<II", t, 0xffffffff))\n    s.write(b\'{ "exit-code": 0 }\\n{"child-pid": 1}\\n\')\nsys.exit(3)',
    want: "runtime_error",
  },
  {
    name: "the words of a missing tool, status 127",
    language: "bash",
    program: "echo 'bash: No such file or directory' >&2; echo '/bin/sh: 1: bash: not found' >&2; exit 127",
    want: "runtime_error",
  },
  {
    name: "a program of twenty megabytes",
    language: "lua",
    program: `print("ok") --${"x".repeat(20 << 20)}`,
    want: ["accepted", "compile_error", "runtime_error", "memory_limit"],
  },
];
