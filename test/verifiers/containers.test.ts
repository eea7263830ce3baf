/** Podman and Docker as the outer wall, each the real program. */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Limits, Task, Verdict } from "../../core/index.js";
import { createLocalPool, type LocalPool, loadLanguages } from "../../verifiers/index.js";
import { importTestImage } from "./container-image.js";

const isInstalled = (tool: string): boolean => spawnSync(tool, ["--version"]).status === 0;
const isRoot = process.getuid?.() === 0;

/** Why this tool cannot be tried here; "" where it can. */
function obstacle(needs: readonly string[]): string {
  if (!isRoot) return "needs root";
  return needs.every(isInstalled) ? "" : `${needs.join(" and ")} are not installed`;
}

const folder = mkdtempSync(join(tmpdir(), "retort-containers-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Podman's usual runtime refuses a machine with both versions of control groups; runc does not. */
function podmanEnvironment(): NodeJS.ProcessEnv {
  const file = join(folder, "containers.conf");
  writeFileSync(file, '[engine]\nruntime = "runc"\n');
  return { CONTAINERS_CONF: file };
}

/** A Docker daemon of the test's own, without a network. */
async function startDocker(): Promise<{ env: NodeJS.ProcessEnv; stop: () => Promise<void> }> {
  const socket = `unix://${join(folder, "docker.sock")}`;
  const paths = ["--data-root", join(folder, "docker"), "--exec-root", join(folder, "docker-exec")];
  const network = ["--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"];
  const pidFile = ["--pidfile", join(folder, "docker.pid")];
  const daemon = spawn("dockerd", [...network, ...paths, ...pidFile, "-H", socket], { stdio: "ignore" });
  const env = { DOCKER_HOST: socket };
  while (spawnSync("docker", ["ps"], { env: { ...process.env, ...env } }).status !== 0) {
    if (daemon.exitCode !== null) throw new Error("dockerd did not start");
    await sleep(200);
  }
  const stop = async (): Promise<void> => {
    daemon.kill("SIGTERM");
    while (daemon.exitCode === null) await sleep(100);
  };
  return { env, stop };
}

const taskOf = (tests: readonly (readonly [string, string])[], limits: Limits = {}): Task => ({
  id: "task",
  prompt: "",
  tests: tests.map(([input, output]) => ({ input, output, visible: true })),
  comparator: "tokens",
  limits,
});
const SUM = taskOf([
  ["1 2\n", "3\n"],
  ["5 5\n", "10\n"],
]);
const OK = taskOf([["", "ok"]], { time_s: 2, memory_mb: 64, output_kb: 64 });

for (const tool of ["podman", "docker"] as const) {
  const why = obstacle(tool === "podman" ? ["podman", "runc"] : ["docker", "dockerd"]);
  describe.skipIf(why !== "")(`programs in containers of ${tool}${why === "" ? "" : ` (${why})`}`, () => {
    let pool: LocalPool;
    let env: NodeJS.ProcessEnv = {};
    let stop = async (): Promise<void> => {};
    const saved = { ...process.env };

    beforeAll(async () => {
      if (tool === "podman") env = podmanEnvironment();
      else ({ env, stop } = await startDocker());
      Object.assign(process.env, env);
      const image = importTestImage(tool, process.env);
      const base = `prompt: Lua.\nfilename: main.lua\nexecute: lua5.4 main.lua\nlimits: {time_s: 5}\n`;
      const languages = {
        lua: `${base}container: {image: "${image}"}\nprobe: lua5.4 -v\n`,
        "lua-compiled": `${base.replace("main.lua\nlimits", "main.out\nlimits")}compile: luac5.4 -o main.out main.lua\ncontainer: {image: "${image}"}\n`,
        absent: `${base}container: {base-image: "localhost/retort-test:absent"}\n`,
        "without-image": base,
      };
      for (const [name, text] of Object.entries(languages)) writeFileSync(join(folder, `${name}.yaml`), text);
      const files = Object.keys(languages).map((name) => join(folder, `${name}.yaml`));
      pool = await createLocalPool({
        languages: loadLanguages(files),
        workers: 2,
        backend: tool,
        cache: false,
        retries: 0,
      });
    });
    afterAll(async () => {
      await pool?.close();
      await stop();
      process.env = saved;
    });

    const judge = (program: string, task: Task = OK, language = "lua"): Promise<Verdict> =>
      pool.verify({ id: "one", task, language, program });

    test("the tool is named in the isolation, and what it enforces", () => {
      expect(pool.isolation.sandbox.toLowerCase()).toContain(tool);
      expect(pool.isolation).toMatchObject({
        mode: "supervisor",
        user: "61000+",
        network: "none",
        seccomp: true,
      });
    });

    test.each([
      ["right", 'print(io.read("n") + io.read("n"))', "lua", "accepted", 2],
      ["right, compiled once", 'print(io.read("n") + io.read("n"))', "lua-compiled", "accepted", 2],
      ["wrong", "print(0)", "lua", "wrong_answer", 0],
      ["stopped by an error", "error('no')", "lua", "runtime_error", 0],
      ["not compiling", "if then", "lua-compiled", "compile_error", 0],
    ])("a program that is %s", async (_, program, language, status, passed) => {
      const verdict = await judge(program, SUM, language);
      expect([verdict.status, verdict.passed, verdict.reason], verdict.feedback).toEqual([
        status,
        passed,
        undefined,
      ]);
    });

    test.each([
      ["loops without end", "while true do end", ["time_limit"]],
      ["prints without end", 'while true do print(("x"):rep(999)) end', ["output_limit"]],
      [
        "takes memory without end",
        'local t = {} while true do t[#t + 1] = ("x"):rep(1 << 20) .. #t end',
        ["memory_limit", "runtime_error"],
      ],
      ["bombs with forks", 'os.execute("b() { b | b & }; b; sleep 9")', ["time_limit", "wrong_answer"]],
      ["kills all it may", 'os.execute("kill -9 -1 2>/dev/null") print("ok")', ["accepted", "runtime_error"]],
      ["leaves a daemon", 'os.execute("sleep 987 & ") print("ok")', ["accepted"]],
    ])("a program that %s is stopped", async (_, program, statuses) => {
      expect(statuses).toContain((await judge(program)).status);
    });

    test("a program is nobody, without capabilities, behind a system-call filter, and cannot write to the kernel", async () => {
      const program = `
for line in io.lines("/proc/self/status") do
  local key, value = line:match("^(%w+):%s*(%S+)")
  if key == "CapEff" or key == "CapBnd" or key == "NoNewPrivs" or key == "Seccomp" then print(key, value) end
  if key == "Uid" then print(key, tonumber(value) >= 61000) end
end
for _, place in ipairs{"/proc/sys/kernel/core_pattern", "/sys/kernel/x", "/w/x", "/etc/x", "/x", "/dev/x", "/proc/1/mem"} do
  if io.open(place, "w") then print("wrote", place) end
end`;
      const [outcome] = (await judge(program)).tests;
      expect(outcome?.stdout.trim().split("\n").sort()).toEqual([
        "CapBnd\t0000000000000000",
        "CapEff\t0000000000000000",
        "NoNewPrivs\t1",
        "Seccomp\t2",
        "Uid\ttrue",
      ]);
    });

    test("a test does not see what an earlier one left", async () => {
      const program = `print(io.open("/tmp/left") and "seen" or "fresh") io.open("/tmp/left", "w"):close()`;
      const task = taskOf([
        ["", "fresh"],
        ["", "fresh"],
      ]);
      expect((await judge(program, task)).status).toBe("accepted");
    });

    test("there is no network: only the loopback device", async () => {
      const program =
        'for line in io.lines("/proc/net/dev") do local d = line:match("^%s*(%w+):") if d then print(d) end end';
      expect((await judge(program, taskOf([["", "lo"]]))).status).toBe("accepted");
    });

    test("the image's environment reaches the program", async () => {
      const task = taskOf([["", "hello"]]);
      expect((await judge('print(os.getenv("GREETING"))', task)).status).toBe("accepted");
    });

    test("an image that is not on this machine is our own failure, and is never pulled", async () => {
      const verdict = await judge("print(1)", OK, "absent");
      expect(verdict).toMatchObject({ status: "infrastructure", reward: null });
      expect(verdict.reason).toContain(`${tool} pull localhost/retort-test:absent`);
    });

    test("a language without an image is refused, naming its file", async () => {
      await expect(judge("print(1)", OK, "without-image")).rejects.toThrow(
        /without-image\.yaml: container\.image/,
      );
    });

    test("after all that no container is left", async () => {
      const list = () =>
        execFileSync(tool, ["ps", "--all", "--quiet", "--filter", "label=retort"], {
          encoding: "utf8",
        }).trim();
      for (let tries = 0; tries < 100 && list() !== ""; tries++) await sleep(100);
      expect(list()).toBe("");
    });
  });
}

test("a container tool that is not installed is the user's to install", async () => {
  const path = process.env.PATH;
  process.env.PATH = join(folder, "nothing");
  try {
    const opening = createLocalPool({ languages: loadLanguages(), workers: 1, backend: "podman" });
    await expect(opening).rejects.toThrow(/verifier\.backend: need podman on this machine, got "podman"/);
  } finally {
    process.env.PATH = path;
  }
});
