/** Who judges: Retort, Node's own spawn without any sandbox, and a bubblewrap for each test. `isolate` has a file of its own. */
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createLocalPool, loadLanguages } from "../../verifiers/index.js";
import { runCommand, words } from "./command.js";
import { asTask, type Workload } from "./workload.js";

export interface Contestant {
  readonly name: string;
  /** @param workers - programs at a time */
  open(workers: number): Promise<Session>;
}

export interface Session {
  /** Loops that keep the session busy. */
  readonly loops: number;
  /** Compiles the program, runs every test. @throws Error unless each printed what it must */
  judge(work: Workload, loop: number): Promise<void>;
  close(): Promise<void>;
}

/** The whole judge, as a trainer uses it: broker, a sandbox for each program, limits, verdict. No cache, none kept ready. */
export const retort: Contestant = {
  name: "Retort",
  async open(workers) {
    const pool = await createLocalPool({ languages: loadLanguages(), workers, cache: false });
    return {
      loops: workers + 2, // so that a worker never waits for the main process
      async judge(work) {
        const { language, program } = work;
        const verdict = await pool.verify({
          id: "bench",
          task: asTask(work),
          language: language.name,
          program,
        });
        if (verdict.status !== "accepted") throw new Error(JSON.stringify(verdict));
      },
      close: () => pool.close(),
    };
  },
};

/** Runs every test by `run` and compares. */
export async function runTests(
  { language, tests }: Workload,
  run: (argv: readonly string[], input: string) => Promise<string>,
): Promise<void> {
  const argv = words(language.execute);
  for (const { input, output } of tests) {
    const printed = await run(argv, input);
    if (printed.trim() !== output.trim()) throw new Error(`printed ${JSON.stringify(printed)}`);
  }
}

/** What a script without a judge does: a temporary folder, the compiler, one child process a test. No limits, no isolation. */
export const bare: Contestant = {
  name: "no sandbox (child_process.spawn)",
  open: async (workers) => ({
    loops: workers,
    async judge(work) {
      const { language, program } = work;
      const cwd = mkdtempSync(join(tmpdir(), "retort-bench-"));
      try {
        writeFileSync(join(cwd, language.filename), program);
        const env = language.env;
        if (language.compile !== undefined) await runCommand(words(language.compile), { cwd, env });
        await runTests(work, (argv, input) => runCommand(argv, { cwd, env, input }));
      } finally {
        rmSync(cwd, { recursive: true });
      }
    },
    close: async () => {},
  }),
};

const MIB = 1024 * 1024;
const WALL = [
  ...["--unshare-user", "--unshare-all", "--disable-userns", "--uid", "1000", "--gid", "1000"],
  ...["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr"],
  ...["--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin"],
  ...["--ro-bind-try", "/etc/alternatives", "/etc/alternatives"],
  ...["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache", "--proc", "/proc", "--dev", "/dev"],
  ...["--size", String(64 * MIB), "--tmpfs", "/tmp", "--size", String(64 * MIB), "--tmpfs", "/dev/shm"],
];
const FIRST_UID = 60000;

/** A bubblewrap around the compiler and around each test, by a dropped uid where we are root. No memory limit, no seccomp. */
export const bubblewrapPerTest: Contestant = {
  name: "bubblewrap per test",
  open: async (workers) => ({
    loops: workers,
    async judge(work, loop) {
      const { language, program } = work;
      const folder = mkdtempSync(join(tmpdir(), "retort-bench-"));
      const uid = process.getuid?.() === 0 ? { uid: FIRST_UID + loop } : {};
      try {
        writeFileSync(join(folder, language.filename), program);
        chmodSync(folder, 0o755);
        if (uid.uid !== undefined) chownSync(folder, uid.uid, uid.uid);
        const env = language.env;
        const inside = (bind: string) => ["bwrap", ...WALL, bind, folder, "/w", "--chdir", "/w"];
        if (language.compile !== undefined)
          await runCommand([...inside("--bind"), ...words(language.compile)], { env, ...uid });
        await runTests(work, (argv, input) =>
          runCommand([...inside("--ro-bind"), ...argv], { env, input, ...uid }),
        );
      } finally {
        rmSync(folder, { recursive: true });
      }
    },
    close: async () => {},
  }),
};
