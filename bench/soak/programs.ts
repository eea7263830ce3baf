/** What the soak feeds to the judge: nine programs in ten are what a policy writes, one is hostile. */
import type { Limits, Status } from "../../core/index.js";

export interface SoakProgram {
  readonly kind: string;
  readonly isHostile: boolean;
  readonly language: string;
  readonly program: string;
  readonly limits?: Limits;
  /** Inputs "n n+1" want their sum: every program here is one for that task. */
  readonly want: readonly Status[];
}

type Kind = Omit<SoakProgram, "isHostile" | "program"> & { readonly write: (n: number) => string };

const honest: readonly Kind[] = [
  {
    kind: "right, lua",
    language: "lua",
    want: ["accepted"],
    write: (n) => `local a, b = io.read("n", "n")\nprint(a + b) -- ${n}`,
  },
  {
    kind: "wrong, lua",
    language: "lua",
    want: ["wrong_answer"],
    write: (n) => `local a, b = io.read("n", "n")\nprint(a - b - ${n + 1})`,
  },
  {
    kind: "nil index, lua",
    language: "lua",
    want: ["runtime_error"],
    write: (n) => `local t = nil\nprint(t.field${n})`,
  },
  {
    kind: "syntax error, lua",
    language: "lua",
    want: ["runtime_error"],
    write: (n) => `if ${n} then print(1`,
  },
  {
    kind: "right, python",
    language: "python",
    want: ["accepted"],
    write: (n) => `a, b = map(int, input().split())\nprint(a + b)  # ${n}`,
  },
  {
    kind: "traceback, python",
    language: "python",
    want: ["runtime_error"],
    write: (n) => `def f(x):\n    return x / 0 + ${n}\nf(1)`,
  },
  {
    kind: "right, c",
    language: "c",
    want: ["accepted"],
    write: (n) =>
      `#include <stdio.h>\nint main(void) { int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); return 0; } // ${n}`,
  },
  {
    kind: "does not compile, c",
    language: "c",
    want: ["compile_error"],
    write: (n) => `int main(void) { return nothing${n}; }`,
  },
  {
    kind: "segmentation fault, c",
    language: "c",
    want: ["runtime_error"],
    write: (n) => `int main(void) { volatile int *p = 0; return *p + ${n}; }`,
  },
  {
    kind: "right, bash",
    language: "bash",
    want: ["accepted"],
    write: (n) => `read a b\necho $((a + b)) # ${n}`,
  },
  {
    kind: "right, with children, bash",
    language: "bash",
    want: ["accepted"],
    write: (n) => `read a b\necho "$a $b ${n}" | awk '{ print $1 + $2 }'`,
  },
  {
    kind: "right, javascript",
    language: "javascript",
    want: ["accepted"],
    write: (n) =>
      `const [a, b] = require("fs").readFileSync(0, "utf8").split(" ").map(Number);\nconsole.log(a + b); // ${n}`,
  },
];

const QUICK: Limits = { time_s: 0.5, memory_mb: 64, output_kb: 64 };
const sum = "a, b = map(int, input().split())\n";

const hostile: readonly Kind[] = [
  {
    kind: "fork bomb",
    language: "bash",
    limits: QUICK,
    want: ["time_limit", "runtime_error", "wrong_answer", "memory_limit"],
    write: (n) => `bomb() { bomb | bomb & }; bomb; sleep 9 # ${n}`,
  },
  {
    kind: "endless loop",
    language: "lua",
    limits: QUICK,
    want: ["time_limit"],
    write: (n) => `while true do local x = ${n} end`,
  },
  {
    kind: "memory without end",
    language: "python",
    limits: { ...QUICK, time_s: 5 },
    want: ["memory_limit", "runtime_error"],
    write: (n) => `x = [b"${n}"]\nwhile True:\n    x.append(bytearray(1 << 20))`,
  },
  {
    kind: "output without end",
    language: "lua",
    limits: { ...QUICK, time_s: 5 },
    want: ["output_limit"],
    write: (n) => `while true do print(("x"):rep(1000), ${n}) end`,
  },
  {
    kind: "daemon that outlives its parent",
    language: "python",
    want: ["accepted"],
    write: (n) =>
      `import os, time\n${sum}print(a + b, flush=True)\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(${100 + n})\n    os._exit(0)`,
  },
  {
    kind: "a full /tmp and /dev/shm",
    language: "python",
    want: ["accepted"],
    write: (n) =>
      `${sum}for place in ("/tmp", "/dev/shm"):\n    try:\n        with open(f"{place}/${n}", "wb") as file:\n            for _ in range(200): file.write(bytes(1 << 20))\n    except OSError: pass\nprint(a + b)`,
  },
  {
    kind: "ten thousand files in deep folders",
    language: "python",
    want: ["accepted"],
    write: (n) =>
      `import os\n${sum}try:\n    for i in range(2000):\n        os.mkdir("d${n}"); os.chdir("d${n}"); open("f", "w").close()\nexcept OSError: pass\nprint(a + b)`,
  },
  {
    kind: "kills all that it may",
    language: "python",
    want: ["accepted", "runtime_error"],
    write: (n) =>
      `import os, signal\n${sum}for pid in range(1, 30 + ${n % 7}):\n    if pid != os.getpid():\n        try: os.kill(pid, signal.SIGKILL)\n        except OSError: pass\nprint(a + b)`,
  },
  {
    kind: "shared memory and queues left behind",
    language: "c",
    want: ["accepted"],
    write: (n) =>
      `#include <stdio.h>\n#include <sys/ipc.h>\n#include <sys/shm.h>\n#include <sys/msg.h>\nint main(void) { shmget(${n + 1}, 4096, 01666); msgget(${n + 1}, 01666); int a, b; scanf("%d %d", &a, &b); printf("%d\\n", a + b); return 0; }`,
  },
  {
    kind: "zombies",
    language: "python",
    want: ["accepted"],
    write: (n) =>
      `import os\n${sum}for _ in range(${20 + (n % 9)}):\n    if os.fork() == 0: os._exit(0)\nprint(a + b)`,
  },
  {
    kind: "reads what it should not",
    language: "bash",
    want: ["accepted"],
    write: (n) =>
      `read a b\ncat /etc/shadow /proc/1/environ /root/* /proc/1/mem > /tmp/${n} 2>/dev/null\necho $((a + b))`,
  },
  {
    kind: "a compiler that never ends",
    language: "c",
    want: ["compile_error"],
    write: (n) => `#include "/dev/zero" // ${n}\nint main(void) { return 0; }`,
  },
];

const ONE_IN = 10;
/** The quick languages come more often, as they do in training; positions in `honest`. */
const MIX = [0, 0, 0, 1, 1, 2, 3, 4, 4, 4, 5, 6, 7, 8, 9, 9, 10, 11];

/** The same for the same `index`: pass after pass the judge sees the same programs. */
export function soakProgram(index: number): SoakProgram {
  const isHostile = index % ONE_IN === ONE_IN - 1;
  const turn = Math.floor(index / ONE_IN);
  const { write, ...kind } = isHostile
    ? hostile[turn % hostile.length]!
    : honest[MIX[(turn * (ONE_IN - 1) + (index % ONE_IN)) % MIX.length]!]!;
  return { ...kind, isHostile, program: write(index) };
}
