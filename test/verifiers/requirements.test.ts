/** What an operator may demand of a host, and what a host says that it lacks. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { ConfigError, packageRoot } from "../../core/index.js";
import {
  createLocalPool,
  type Isolation,
  loadLanguages,
  readRequirements,
  shortcomings,
  VerifierConfig,
} from "../../verifiers/index.js";
import { demand, type Requirements } from "../../verifiers/requirements.js";

const STRONG: Isolation = {
  sandbox: "bubblewrap 0.8.0",
  mode: "supervisor",
  user: "61000+",
  network: "none",
  seccomp: true,
  memory: "cgroup v1",
  processes: "cgroup v1",
  cpu: "cgroup v1",
  proc: "fresh",
  tree_memory_accounting: true,
  notes: [],
};
const WEAK: Isolation = {
  ...STRONG,
  mode: "single",
  user: "caller",
  memory: "per process",
  processes: "per user",
  cpu: "per process",
  proc: "of the sandbox",
  tree_memory_accounting: false,
  notes: ["no cgroup for memory"],
};
const ALL: Requirements = {
  memory: "cgroup",
  processes: "cgroup",
  cpu: "cgroup",
  proc: "fresh",
  seccomp: true,
  mode: "supervisor",
  user: "separate",
};
const folder = mkdtempSync(join(tmpdir(), "retort-require-"));
afterAll(() => rmSync(folder, { recursive: true }));
function file(text: string): string {
  const path = join(folder, `${Math.random()}.yaml`);
  writeFileSync(path, text);
  return path;
}

describe("demands", () => {
  test("a host that enforces everything meets all of them, one of cgroup version 2 too", () => {
    demand(ALL, STRONG);
    demand(ALL, { ...STRONG, memory: "cgroup v2", processes: "cgroup v2", cpu: "cgroup v2" });
  });

  test.each(Object.entries(ALL).filter(([key]) => key !== "seccomp"))(
    "%s is missed where it is not",
    (key, wanted) => {
      expect(() => demand({ [key]: wanted }, WEAK)).toThrow(ConfigError);
      expect(() => demand({ [key]: wanted }, WEAK)).toThrow(new RegExp(`${key}: ${String(wanted)}`));
    },
  );

  test("a supervisor in C is more than the one in Perl that is demanded, not the other way round", () => {
    demand({ mode: "perl" }, STRONG);
    demand({ mode: "perl" }, { ...STRONG, mode: "perl" });
    expect(() => demand({ mode: "supervisor" }, { ...STRONG, mode: "perl" })).toThrow(/got "mode: perl"/);
  });

  test("CPU time summed over the process tree is less than by control group", () => {
    demand({ cpu: "process tree" }, STRONG);
    demand({ cpu: "process tree" }, { ...STRONG, cpu: "process tree" });
    expect(() => demand({ cpu: "cgroup" }, { ...STRONG, cpu: "process tree" })).toThrow(ConfigError);
    expect(() => demand({ cpu: "process tree" }, WEAK)).toThrow(ConfigError);
  });

  test("the error names all that is missing, what there is, and how to get it", () => {
    expect(() => demand({ memory: "cgroup", user: "separate" }, WEAK)).toThrow(
      new ConfigError({
        at: "verifier.require",
        need: "memory: cgroup, user: separate",
        got: "memory: per process, user: caller",
        fix: "Run as root, or have a group delegated: systemd-run --user --scope -p Delegate=yes -- retort ...; in Docker: --privileged --cgroupns=host. Run as root: programs then run as uid 61000 and up. Here: no cgroup for memory.",
      }),
    );
  });
});

test("what is not enforced is one line, and none where all is", () => {
  expect(shortcomings(STRONG)).toBeNull();
  expect(shortcomings({ ...STRONG, mode: "perl" })).toBeNull();
  expect(shortcomings(WEAK)).toBe(
    "Not enforced on this host: memory of a whole process tree (each process alone is held); processes by control group (the user's count is held); CPU time of a whole process tree; a /proc of its own for each test; a uid other than yours (a user namespace alone separates them). See docs/sandbox.md.",
  );
});

test("a file of demands: read, and refused with its line and the nearest right key", () => {
  expect(readRequirements(file("memory: cgroup\nseccomp: true\n"))).toEqual({
    memory: "cgroup",
    seccomp: true,
  });
  expect(() => readRequirements(file("memory: cgroup\nprocesess: cgroup\n"))).toThrow(
    /:2: procesess: need a known key\. Did you mean processes\?/,
  );
  expect(() => readRequirements(join(folder, "absent"))).toThrow(ConfigError);
  expect(() => VerifierConfig.parse({ require: { memory: "lots" } })).toThrow();
});

test("a pool on a host that falls short is refused before any program, and its broker ends", async () => {
  const brokers = () =>
    spawnSync("pgrep", ["-P", String(process.pid), "-f", "broker-main"], { encoding: "utf8" }).stdout;
  const pool = createLocalPool({
    languages: loadLanguages(),
    workers: 1,
    useCgroups: false,
    require: { memory: "cgroup" },
  });
  await expect(pool).rejects.toThrow(ConfigError);
  await expect(pool).rejects.toThrow(/verifier\.require: need memory: cgroup, got "memory: per process"/);
  expect(brokers()).toBe("");
});

const main = join(packageRoot, "dist", "cli", "main.js");
describe.skipIf(!existsSync(main))("on the command line (skipped without a build)", () => {
  const run = (requirements: string) => {
    const program = file("print('ok')");
    const args = [main, "run", "--language", "lua", "--require", file(requirements), program];
    return spawnSync(process.execPath, args, { encoding: "utf8", input: "" });
  };

  test("what this host enforces is accepted", () => {
    const done = run("seccomp: true\nproc: fresh\n");
    expect([done.status, done.stdout]).toEqual([0, "ok\n"]);
  });

  test("a mistake in the file is the user's: exit code 2", () => {
    const done = run("secomp: true\n");
    expect([done.status, done.stdout]).toEqual([2, ""]);
    expect(done.stderr).toMatch(/Did you mean seccomp\?/);
  });
});
