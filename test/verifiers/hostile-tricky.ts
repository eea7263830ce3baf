/** Programs that do unusual things and are right: what a sandbox must not break. */
import type { Case } from "./hostile.js";

const TWICE = [
  ["", "ok"],
  ["", "ok"],
] as const;

export const MORE_THAT_IS_RIGHT: readonly Case[] = [
  {
    name: "recursion a million deep in C",
    language: "c",
    program:
      '#include <stdio.h>\nlong f(long n) { volatile char room[100]; room[n % 100] = 1; return n ? f(n - 1) + room[n % 100] : 0; }\nint main(void) { puts(f(1000000) == 1000000 ? "ok" : "no"); }',
    limits: { memory_mb: 512 },
    want: "accepted",
  },
  {
    name: "recursion fifty thousand deep in Python",
    language: "python",
    program:
      "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\nprint('ok' if f(50000) == 50000 else 'no')",
    want: "accepted",
  },
  {
    name: "a thread with a stack of its own size, for recursion",
    language: "python",
    program:
      "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(128 << 20)\ndef f(n): return 0 if n == 0 else 1 + sorted([n], key=lambda _: f(n - 1))[0] * 0 + 0\ndef main(): f(20000); print('ok')\nt = threading.Thread(target=main); t.start(); t.join()",
    limits: { memory_mb: 512 },
    want: ["accepted"],
  },
  {
    name: "forty threads in 64 MiB",
    language: "c",
    program:
      '#include <pthread.h>\n#include <stdio.h>\nvoid *f(void *x) { return x; }\nint main(void) { pthread_t t[40]; for (long i = 0; i < 40; i++) if (pthread_create(&t[i], 0, f, (void *)i)) return 1; long s = 0; for (int i = 0; i < 40; i++) { void *r; pthread_join(t[i], &r); s += (long)r; } puts(s == 780 ? "ok" : "no"); }',
    limits: { memory_mb: 64 },
    want: "accepted",
    withoutCgroup: ["accepted", "runtime_error"],
  },
  {
    name: "an alarm that is handled",
    language: "c",
    program:
      '#include <signal.h>\n#include <stdio.h>\n#include <unistd.h>\nvoid on(int s) { (void)s; }\nint main(void) { signal(SIGALRM, on); ualarm(50000, 0); pause(); puts("ok"); }',
    want: "accepted",
  },
  {
    name: "SIGTERM caught, SIGINT to itself",
    language: "python",
    program:
      'import os, signal\nsignal.signal(signal.SIGTERM, lambda *a: print("ok"))\nos.kill(os.getpid(), signal.SIGTERM)\ntry:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt: pass',
    want: "accepted",
  },
  {
    name: "no terminal anywhere",
    language: "python",
    program: 'import os, sys\nprint("ok" if not any(os.isatty(fd) for fd in range(3)) else "tty")',
    want: "accepted",
  },
  {
    name: "process substitution, here documents, /dev/fd",
    language: "bash",
    program: "cat <(printf o) <<< unused; cat <<END\nk\nEND\nread -r x < /dev/fd/0 || true",
    want: "accepted",
  },
  {
    name: "its own executable found and started again",
    language: "c",
    program:
      '#include <stdio.h>\n#include <unistd.h>\nint main(int n, char **a) { if (n > 1) return puts("ok") < 0; execl("/proc/self/exe", a[0], "again", (char *)0); return 1; }',
    want: "accepted",
  },
  {
    name: "exec from a thread that is not the first",
    language: "c",
    program:
      '#include <pthread.h>\n#include <unistd.h>\nvoid *f(void *x) { execl("/bin/echo", "echo", "ok", (char *)0); return x; }\nint main(void) { pthread_t t; pthread_create(&t, 0, f, 0); pthread_join(t, 0); return 1; }',
    want: "accepted",
  },
  {
    name: "files mapped, extended, shared with a child",
    language: "python",
    program:
      'import mmap, os\nf = open("data", "w+b"); f.truncate(1 << 20)\nm = mmap.mmap(f.fileno(), 1 << 20)\nif os.fork() == 0:\n    m[5:7] = b"ok"; os._exit(0)\nos.wait()\nprint(m[5:7].decode())',
    want: "accepted",
  },
  {
    name: "fork, wait and the exit status of a child",
    language: "python",
    program:
      'import os\npid = os.fork()\nif pid == 0: os._exit(42)\nprint("ok" if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42 else "no")',
    want: "accepted",
  },
  {
    name: "a locale, Unicode names of files, sorting",
    language: "python",
    program:
      'import locale, os\nlocale.setlocale(locale.LC_ALL, "")\nopen("naïve-日本", "w").close()\nprint("ok" if "naïve-日本" in os.listdir(".") and locale.getpreferredencoding() == "UTF-8" else "no")',
    want: "accepted",
  },
  {
    name: "a megabyte of right output at once, after closing stdin",
    language: "python",
    program: 'import os, sys\nos.close(0)\nsys.stdout.write("ab " * 300000)',
    tests: [["never read", "ab ".repeat(300000)]],
    want: "accepted",
  },
  {
    name: "output after stdout was duplicated and closed",
    language: "python",
    program: 'import os\nfd = os.dup(1)\nos.close(1)\nos.write(fd, b"ok\\n")',
    want: "accepted",
  },
  {
    name: "stdout closed and opened again by its path",
    language: "bash",
    program: "exec 3>&1 1>&-; exec 1>/proc/self/fd/3; echo ok",
    want: "accepted",
    onlySupervisor: "the fallback's stdout is a socket",
  },
  {
    name: "input that arrives after the program has slept",
    language: "bash",
    program: "sleep 0.2; read -r a; read -r b; echo $b",
    tests: [["no\nok\n", "ok"]],
    want: "accepted",
  },
  {
    name: "nothing printed where nothing is expected",
    language: "lua",
    program: "",
    tests: [["", ""]],
    want: "accepted",
  },
  {
    name: "a status of 256, which is 0",
    language: "c",
    program: '#include <stdio.h>\n#include <stdlib.h>\nint main(void) { puts("ok"); exit(256); }',
    want: "accepted",
  },
  {
    name: "semaphores and locks by name, in each of two tests",
    language: "c",
    program:
      '#include <fcntl.h>\n#include <semaphore.h>\n#include <stdio.h>\nint main(void) { sem_t *s = sem_open("/mine", O_CREAT | O_EXCL, 0600, 1); puts(s != SEM_FAILED && sem_wait(s) == 0 ? "ok" : "left"); }',
    tests: TWICE,
    want: "accepted",
  },
  {
    name: "a port of its own, in each of two tests, without SO_REUSEADDR",
    language: "python",
    program:
      'import socket\ns = socket.socket(); s.bind(("127.0.0.1", 8080)); s.listen()\nc = socket.create_connection(("127.0.0.1", 8080))\na, _ = s.accept()\na.sendall(b"ok"); a.close()\nprint(c.recv(9).decode()); c.close(); s.close()',
    tests: TWICE,
    want: "accepted",
  },
  {
    name: "localhost by its name",
    language: "python",
    program:
      'import socket\ns = socket.create_server(("localhost", 0)); c = socket.create_connection(("localhost", s.getsockname()[1])); print("ok")',
    want: "accepted",
  },
  {
    name: "a local socket with a path, one without",
    language: "python",
    program:
      'import socket\nfor name in ["/tmp/s", "\\0mine"]:\n    s = socket.socket(socket.AF_UNIX); s.bind(name); s.listen(); socket.socket(socket.AF_UNIX).connect(name)\nprint("ok")',
    tests: TWICE,
    want: "accepted",
  },
  {
    name: "priorities lowered, processors chosen, limits lowered",
    language: "python",
    program:
      'import os, resource\nos.nice(5); os.sched_setaffinity(0, os.sched_getaffinity(0))\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); resource.prlimit(os.getpid(), resource.RLIMIT_NPROC)\nprint("ok")',
    want: "accepted",
  },
  {
    name: "watching files, where the host refuses it",
    language: "bash",
    program: "echo ok > f; timeout 5 tail -n 1 f",
    want: "accepted",
  },
  {
    name: "an asynchronous program: event loop, subprocess, timeouts",
    language: "python",
    program:
      'import asyncio\nasync def main():\n    p = await asyncio.create_subprocess_exec("echo", "ok", stdout=-1)\n    await asyncio.wait_for(asyncio.sleep(0.05), 5)\n    print((await p.communicate())[0].decode())\nasyncio.run(main())',
    want: "accepted",
  },
  {
    name: "a child process of Node, and its file system",
    language: "javascript",
    program:
      'const fs = require("fs"); fs.writeFileSync("x", "ok"); console.log(require("child_process").execSync("cat x").toString());',
    want: "accepted",
  },
];
