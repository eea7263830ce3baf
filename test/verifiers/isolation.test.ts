/** What the host must hold: dropped uid, nothing left after a kill, refusal where isolation cannot be had. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ConfigError, packageRoot, type Verdict } from "../../core/index.js";
import { mustDropUid } from "../../verifiers/host.js";
import {
  buildSupervisor,
  createLocalPool,
  type LocalPoolOptions,
  loadLanguages,
  type Submission,
} from "../../verifiers/index.js";
import { writableCache } from "../../verifiers/supervisor-build.js";
import { ALL_CASES, type Case, caseLanguages, ESCAPE, GROUPS, SURVIVAL } from "./hostile.js";
import { MACRO_LANGUAGES } from "./hostile-machinery.js";
import { admissible, taskOf } from "./sandbox-contract.js";

const isRoot = process.getuid?.() === 0;
/** The compiled judge where every user may read it: the checkout may stand in a closed home. */
const copy = mkdtempSync(join(tmpdir(), "retort-copy-"));
const script = join(copy, "test", "verifiers", "child-judge.mjs");
beforeAll(() => {
  buildSupervisor();
  const parts = [
    "package.json",
    ".cache/supervisor",
    "dist",
    "configs/languages",
    "verifiers/supervisor.c",
    "verifiers/supervisor.pl",
    "verifiers/hosts",
  ];
  const needs = ["node_modules/zod", "node_modules/yaml", "test/verifiers/child-judge.mjs"];
  for (const part of [...parts, ...needs])
    cpSync(join(packageRoot, part), join(copy, part), { recursive: true });
  for (const [file, text] of Object.entries(MACRO_LANGUAGES))
    writeFileSync(join(copy, "configs", "languages", file), text);
  chmodSync(copy, 0o755);
});
afterAll(() => rmSync(copy, { recursive: true }));
/** Groups that take seconds, not minutes. */
const QUICK = ["survival", "our own processes", "escape", "what is counted elsewhere", "compile time"];
const sleeper: Submission = {
  id: "sleeper",
  language: "bash",
  program: "sleep 300",
  task: {
    id: "t",
    prompt: "",
    tests: [{ input: "", output: "x", visible: true }],
    comparator: "tokens",
    limits: { time_s: 60 },
  },
};

const isRunning = (pid: number) =>
  existsSync(`/proc/${pid}`) && !/^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));

async function until(condition: () => boolean | Promise<boolean>, ms = 60_000): Promise<boolean> {
  for (const start = Date.now(); Date.now() - start < ms; await sleep(20)) if (await condition()) return true;
  return false;
}

/** `find` rather than a walk of our own: other tests' groups come and go meanwhile. */
function cgroupsOf(brokerPid: number): string[] {
  const found = spawnSync("find", ["/sys/fs/cgroup", "-name", `retort-${brokerPid}-*`], { encoding: "utf8" });
  return found.stdout.split("\n").filter(Boolean);
}

describe.skipIf(!isRoot)("as root (skipped for an ordinary user)", () => {
  test("every process of a sandbox, bubblewrap included, runs under a uid of 61000 or more", async () => {
    const pool = await createLocalPool({ languages: loadLanguages(), workers: 2 });
    const runs = [1, 2].map((n) => pool.verify({ ...sleeper, program: `sleep 30${n}` }));
    const uids = async () => {
      const pids = await pool.survivors();
      return pids.flatMap((pid) => {
        try {
          return /^Uid:\s*(.+)$/m
            .exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]!
            .split("\t")
            .map(Number);
        } catch {
          return [];
        }
      });
    };
    expect(await until(async () => new Set(await uids()).size === 2 && (await uids()).length >= 24)).toBe(
      true,
    );
    expect(new Set(await uids())).toEqual(new Set([61000, 61001]));
    await pool.close();
    await Promise.all(runs);
  });

  test("why: bubblewrap started by uid 0 lets its program open the kernel's settings, by uid 61000 it does not", () => {
    const open = "exec 3>>/proc/sys/kernel/core_pattern && echo opened || echo refused";
    const args = [
      "--unshare-all",
      "--cap-drop",
      "ALL",
      "--ro-bind",
      "/",
      "/",
      "--proc",
      "/proc",
      "sh",
      "-c",
      `${open} 2>/dev/null`,
    ];
    const as = (uid: number) => spawnSync("bwrap", args, { uid, gid: uid, encoding: "utf8" }).stdout.trim();
    expect(as(0)).toBe("opened");
    expect(as(61000)).not.toBe("opened");
  });

  /** Judges cases in a process started through `wrapper`; what was not admissible, with the first and last line said. */
  function judgeUnder(
    wrapper: readonly string[],
    cases: readonly Case[],
    options: Partial<LocalPoolOptions> = {},
  ) {
    const submissions = cases.map((one) => ({
      id: one.name,
      language: one.language,
      program: one.program,
      task: taskOf(one),
    }));
    const done = spawnSync(wrapper[0]!, [...wrapper.slice(1), process.execPath, script], {
      input: JSON.stringify({ options: { workers: 3, cache: false, ...options }, submissions }),
      encoding: "utf8",
      maxBuffer: 1 << 28,
      env: { PATH: process.env.PATH, HOME: "/nonexistent" },
    });
    const lines = done.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const verdicts = new Map(
      lines.filter((line) => "verdict" in line).map((line) => [line.id, line.verdict as Verdict]),
    );
    const wrong = cases
      .map((one) => ({ one, verdict: verdicts.get(one.name) }))
      .filter(
        ({ one, verdict }) =>
          !verdict ||
          !admissible(one, false).includes(verdict.status) ||
          one.never?.test(JSON.stringify(verdict)),
      )
      .map(({ one, verdict }) => [
        one.name,
        verdict?.status,
        verdict?.reason,
        verdict?.feedback.slice(0, 200),
      ]);
    return { first: lines[0], last: lines.at(-1), wrong };
  }
  const asUser = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"];
  const withoutCgroup = { user: "caller", memory: "per process", tree_memory_accounting: false };

  const withoutNode = ALL_CASES.filter((one) => one.language !== "javascript");

  test("an ordinary user gets the same protection, without cgroups", () => {
    const { first, last, wrong } = judgeUnder(asUser, withoutNode);
    expect(first).toMatchObject({ isolation: { ...withoutCgroup, mode: "supervisor" } });
    expect(wrong).toEqual([]);
    expect(last).toEqual({ survivors: [] });
  }, 300_000);

  test.each(["perl", "single"] as const)(
    "an ordinary user with mode %s: no escape, nothing left",
    (mode) => {
      const cases = Object.entries(GROUPS).flatMap(([name, group]) => (QUICK.includes(name) ? group : []));
      const offered = cases.filter((one) => mode !== "single" || !one.onlySupervisor);
      const { first, last, wrong } = judgeUnder(asUser, offered, { mode });
      expect(first).toMatchObject({ isolation: { ...withoutCgroup, mode } });
      expect(wrong).toEqual([]);
      expect(last).toEqual({ survivors: [] });
    },
    300_000,
  );

  test("root without cgroups: its programs' uids are dropped all the same", () => {
    // An ordinary user's run has every group without cgroups, and test/verifiers/supervised every one under these uids.
    const OF_NO_UID = ["kinds of time", "compilers", "odd endings", "tricky but right"];
    const groups = Object.entries(GROUPS).filter(([name]) => !OF_NO_UID.includes(name));
    expect(groups.length).toBe(Object.keys(GROUPS).length - OF_NO_UID.length);
    const cases = groups.flatMap(([, group]) => group).filter((one) => one.language !== "javascript");
    const { first, last, wrong } = judgeUnder(["env"], cases, { useCgroups: false });
    expect(first).toMatchObject({ isolation: { ...withoutCgroup, user: "61000+" } });
    expect(wrong).toEqual([]);
    expect(last).toEqual({ survivors: [] });
  }, 300_000);

  test("so does the root of a rootless container, who is an ordinary user outside and has no uid to drop to", () => {
    const { first, last, wrong } = judgeUnder(
      [...asUser, "unshare", "-U", "--map-root-user"],
      [...ESCAPE, ...SURVIVAL],
    );
    expect(first).toMatchObject({ isolation: withoutCgroup });
    expect(wrong).toEqual([]);
    expect(last).toEqual({ survivors: [] });
  });

  test("the host's root in a user namespace without uids to drop to is refused", () => {
    const { first } = judgeUnder(["unshare", "-U", "--map-root-user"], []);
    expect(first).toMatchObject({
      error: "ConfigError",
      message: expect.stringMatching(/Run as an ordinary user\.$/),
    });
  });

  test("a container that masks parts of /proc is refused, with the option that helps", () => {
    const mask = 'mount --make-rprivate / && mount -t tmpfs none /proc/fs && exec "$@"';
    const { first } = judgeUnder(["unshare", "-m", "sh", "-c", mask, "sh"], []);
    expect(first).toMatchObject({
      error: "ConfigError",
      message: expect.stringMatching(/systempaths=unconfined/),
    });
  });
});

test("root drops its uid, an ordinary user has none to drop, a namespace's root does where it can", () => {
  expect(mustDropUid(1000, "0 0 4294967295", 2)).toBe(false);
  expect(mustDropUid(0, "         0          0 4294967295", 2)).toBe(true);
  expect(mustDropUid(0, "0 1000 1", 2)).toBe(false);
  expect(mustDropUid(0, "0 1000 1\n1 100000 65536", 2)).toBe(true);
  expect(() => mustDropUid(0, "0 0 1", 2)).toThrow(ConfigError);
});

describe("an end that nobody announced", () => {
  test("SIGKILL of the process that owns the pool ends broker, sandboxes and control groups", async () => {
    const child = spawn(process.execPath, [script], { stdio: ["pipe", "pipe", "inherit"] });
    child.stdin.end(
      JSON.stringify({
        options: { workers: 2 },
        submissions: [sleeper, { ...sleeper, program: "sleep 301" }],
      }),
    );
    const broker = await new Promise<number>((resolve) => {
      child.stdout.once("data", (bytes: Buffer) =>
        resolve((JSON.parse(bytes.toString().split("\n")[0]!) as { broker: number }).broker),
      );
    });
    const descendants = () => {
      const parents = new Map<number, number>();
      for (const name of readdirSync("/proc").filter((entry) => /^\d+$/.test(entry))) {
        try {
          parents.set(
            Number(name),
            Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${name}/status`, "utf8"))![1]),
          );
        } catch {
          // ended meanwhile
        }
      }
      const below = (pid: number): boolean =>
        parents.get(pid) === broker || ((parents.get(pid) ?? 0) > 1 && below(parents.get(pid)!));
      return [...parents.keys()].filter(below);
    };
    // Two sandboxes: bubblewrap, supervisor, the test's init and the program each.
    expect(await until(() => descendants().length >= 8)).toBe(true);
    const all = [broker, ...descendants()];
    child.kill("SIGKILL");
    expect(await until(() => !all.some(isRunning))).toBe(true);
    expect(cgroupsOf(broker)).toEqual([]);
  });

  test("Ctrl-C in the terminal's process group does not reach the broker", async () => {
    const pool = await createLocalPool({ languages: loadLanguages(), workers: 1 });
    const group = (pid: number) =>
      Number(readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]!.split(" ")[2]);
    expect(group(pool.brokerPid())).not.toBe(group(process.pid));
    await pool.close();
    expect(isRunning(pool.brokerPid())).toBe(false);
  });

  test("a pool made in a worker thread works, and ends with the thread", async () => {
    const folder = mkdtempSync(join(tmpdir(), "retort-worker-"));
    const file = join(folder, "worker.mjs");
    const index = join(packageRoot, "dist", "verifiers", "index.js");
    writeFileSync(
      file,
      `import { parentPort, workerData } from "node:worker_threads";
       import { createLocalPool, loadLanguages } from ${JSON.stringify(index)};
       const pool = await createLocalPool({ languages: loadLanguages(), workers: 1 });
       const verdict = await pool.verify({ ...workerData, program: "echo x" });
       void pool.verify(workerData);
       parentPort.postMessage({ status: verdict.status, broker: pool.brokerPid() });
       setInterval(() => {}, 1000);`,
    );
    const worker = new Worker(file, { workerData: sleeper });
    const answer = await new Promise<{ status: string; broker: number }>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
    expect(answer.status).toBe("accepted");
    expect(isRunning(answer.broker)).toBe(true);
    await worker.terminate();
    expect(await until(() => !isRunning(answer.broker))).toBe(true);
    rmSync(folder, { recursive: true });
  });

  test("an idle pool that nobody closed does not keep its process alive", () => {
    const index = JSON.stringify(join(packageRoot, "dist", "verifiers", "index.js"));
    const code = `const { createLocalPool, loadLanguages } = await import(${index}); await createLocalPool({ languages: loadLanguages(), workers: 1 }); console.log("made");`;
    expect(
      execFileSync(process.execPath, ["--input-type=module", "-e", code], {
        encoding: "utf8",
      }),
    ).toBe("made\n");
  });
});

describe("refusal", () => {
  test("without bubblewrap, naming the package", async () => {
    const pool = createLocalPool({ languages: loadLanguages(), bubblewrap: "/nonexistent/bwrap" });
    await expect(pool).rejects.toThrow(ConfigError);
    await expect(pool).rejects.toThrow(/apt-get install bubblewrap/);
  });

  test("where user namespaces are forbidden, naming the setting", () => {
    const wall = [
      "--unshare-user",
      "--uid",
      "1000",
      "--disable-userns",
      "--bind",
      "/",
      "/",
      "--dev",
      "/dev",
      "--proc",
      "/proc",
    ];
    const done = spawnSync("bwrap", [...wall, process.execPath, script], {
      input: JSON.stringify({ options: {}, submissions: [] }),
      encoding: "utf8",
      ...(isRoot ? { uid: 61000, gid: 61000 } : {}),
    });
    expect(JSON.parse(done.stdout)).toMatchObject({ error: "ConfigError" });
    expect(done.stdout).toMatch(/a working bubblewrap; programs never run outside one/);
    expect(done.stdout).toMatch(/user namespaces/);
    expect(done.status).toBe(2);
  });

  test("a supervisor that does not compile is reported, not fatal", () => {
    const folder = mkdtempSync(join(tmpdir(), "retort-broken-"));
    writeFileSync(join(folder, "broken.c"), "int main(void) { return x; }");
    expect(buildSupervisor(join(folder, "broken.c"))).toMatchObject({
      path: null,
      note: expect.stringMatching(/^no supervisor: /),
    });
    rmSync(folder, { recursive: true });
  });

  test("a supervisor is kept in the first folder that can be made, or else in one of the user's own", () => {
    const folder = mkdtempSync(join(tmpdir(), "retort-cache-"));
    writeFileSync(join(folder, "file"), "");
    const impossible = ["/proc/nowhere/retort", join(folder, "file", "below")];
    expect(writableCache([...impossible, join(folder, "a", "b")])).toBe(join(folder, "a", "b"));
    const own = writableCache(impossible);
    expect([own.startsWith(join(tmpdir(), "retort-supervisor-")), statSync(own).mode & 0o777]).toEqual([
      true,
      0o700,
    ]);
    rmSync(folder, { recursive: true });
  });
});

const NOT_LEAVING = [
  "output flood",
  "abort",
  "a daemon that left its session",
  "sixty stopped processes left behind",
  "children of pid 1 by CLONE_PARENT",
  "every writable place filled",
  "the program's folder closed after compiling",
];

test("three hundred programs, one in ten hostile, leave all as it was: descriptors, processes, control groups, files", async () => {
  const pool = await createLocalPool({ languages: caseLanguages(), workers: 2, cache: false });
  const descriptors = () => readdirSync(`/proc/${pool.brokerPid()}/fd`).length;
  // Other tests come and go beside this one; a program that got out would own what it left by its uid.
  const owned = (path: string) => (statSync(path, { throwIfNoEntry: false })?.uid ?? 0) >= 61_000;
  const temporaryFiles = () =>
    ["/tmp", "/dev/shm", "/var/tmp"].flatMap((folder) =>
      readdirSync(folder).filter((name) => owned(join(folder, name))),
    );
  // What other tests mount meanwhile, each in a folder of its own, is not counted.
  const mounts = () =>
    readFileSync(`/proc/${pool.brokerPid()}/mountinfo`, "utf8")
      .split("\n")
      .filter((line) => !line.split(" ")[4]?.startsWith(`${tmpdir()}/`));
  const hostile = ALL_CASES.filter((one) => NOT_LEAVING.includes(one.name));
  expect(hostile.length).toBe(NOT_LEAVING.length);
  const right: Case = { name: "right", language: "lua", program: 'print("ok")', want: "accepted" };
  const batch = (count: number) =>
    Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const one = i % 10 === 9 ? hostile[Math.floor(i / 10) % hostile.length]! : right;
        const verdict = await pool.verify({
          id: one.name,
          task: taskOf(one),
          language: one.language,
          program: one.program,
        });
        return admissible(one, pool.isolation.tree_memory_accounting).includes(verdict.status);
      }),
    );
  await batch(20);
  const before = descriptors();
  const [filesBefore, mountsBefore] = [temporaryFiles(), mounts()];
  expect(await batch(300)).not.toContain(false);
  expect(await until(() => descriptors() <= before + 2)).toBe(true);
  // Verdicts come before the sandbox is taken down, a moment later.
  expect(await until(async () => (await pool.survivors()).length === 0)).toBe(true);
  expect(await until(() => cgroupsOf(pool.brokerPid()).length === 0)).toBe(true);
  expect(mounts()).toEqual(mountsBefore);
  expect(temporaryFiles()).toEqual(filesBefore);
  await pool.close();
});
