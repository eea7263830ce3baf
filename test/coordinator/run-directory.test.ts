import { spawn } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeEach, expect, test } from "vitest";
import { loadRunConfig } from "../../coordinator/config.js";
import { differences } from "../../coordinator/config-difference.js";
import { openRunDirectory } from "../../coordinator/run-directory.js";
import { builtModule, packageRoot } from "../../core/index.js";

const root = mkdtempSync(join(tmpdir(), "run-"));
afterAll(() => rmSync(root, { recursive: true }));
let folder = "";
let count = 0;
beforeEach(() => {
  folder = join(root, `run${count++}`);
});

const config = { run: { seed: 1, dir: "x" }, optimizer: { lr: 0.001 }, logging: { every: 1 } };
const open = (resume: boolean, changed: object = {}, note?: (line: string) => void) =>
  openRunDirectory(folder, { config: { ...config, ...changed }, resume, ...(note ? { note } : {}) });
const read = (name: string): string => readFileSync(join(folder, name), "utf8");

test("rows are appended, and a resumed run is cut back to what its checkpoint recorded", async () => {
  const first = await open(false);
  first.appendMetrics({ kind: "step", step: 1 });
  first.appendRollouts("step-1", [{ id: "a" }, { id: "b" }]);
  const marks = first.marks();
  first.appendMetrics({ kind: "step", step: 2 });
  first.appendRollouts("step-1", [{ id: "c" }]);
  first.appendRollouts("step-2", [{ id: "d" }]);
  await first.writeReport({ steps: 2 });
  first.close();

  const second = await open(true);
  expect(second.isResumed).toBe(true);
  second.cutBack(marks);
  second.appendMetrics({ kind: "step", step: 2, again: true });
  second.close();
  expect(read("metrics.jsonl")).toBe('{"kind":"step","step":1}\n{"kind":"step","step":2,"again":true}\n');
  expect(read("rollouts/step-1.jsonl")).toBe('{"id":"a"}\n{"id":"b"}\n');
  expect([readdirSync(join(folder, "rollouts")), existsSync(join(folder, "report.json"))]).toEqual([
    ["step-1.jsonl"],
    false,
  ]);
});

test("half a row that a kill left behind is cut away", async () => {
  const first = await open(false);
  first.appendMetrics({ step: 1 });
  const marks = first.marks();
  first.close();
  writeFileSync(join(folder, "metrics.jsonl"), `${read("metrics.jsonl")}{"step":2,"lo`);
  const second = await open(true);
  second.cutBack(marks);
  second.close();
  expect(read("metrics.jsonl")).toBe('{"step":1}\n');
});

test("a journal shorter than its mark is refused: rows were lost", async () => {
  const run = await open(false);
  run.appendMetrics({ step: 1 });
  const marks = run.marks();
  run.close();
  truncateSync(join(folder, "metrics.jsonl"), 3);
  const resumed = await open(true);
  expect(() => resumed.cutBack(marks)).toThrow(
    "need the 11 bytes that the checkpoint recorded, but it has 3",
  );
  resumed.close();
});

test("resuming with a changed configuration is refused with every changed key named", async () => {
  (await open(false)).close();
  await expect(open(true, { optimizer: { lr: 0.01 }, extra: 1 })).rejects.toThrow(
    "changed: extra (absent in the run, 1 now); optimizer.lr (0.001 in the run, 0.01 now)",
  );
  (await open(true)).close(); // the refusal left no lock behind
});

test("what cannot change the numbers may change on resume", async () => {
  (await open(false)).close();
  (await open(true, { run: { seed: 1, dir: "elsewhere" }, logging: { every: 5 } })).close();
});

test("differences looks into lists and empty sections", () => {
  expect(differences({ a: [1, 2], b: {} }, { a: [1, 3, 4], b: { c: 1 } })).toEqual([
    "a.1 (2 in the run, 3 now)",
    "a.2 (absent in the run, 4 now)",
    "b ({} in the run, absent now)",
    "b.c (absent in the run, 1 now)",
  ]);
});

test("a new run moves an earlier one aside and loses nothing of it", async () => {
  const first = await open(false);
  first.appendMetrics({ step: 1 });
  first.close();
  const notes: string[] = [];
  (await open(false, {}, (line) => notes.push(line))).close();
  const third = await open(false); // nothing came of the second
  expect(readFileSync(`${folder}.1/metrics.jsonl`, "utf8")).toBe('{"step":1}\n');
  expect([existsSync(join(folder, "metrics.jsonl")), existsSync(`${folder}.2`)]).toEqual([false, false]);
  expect(existsSync(join(folder, "config.yaml"))).toBe(true);
  expect(existsSync(`${folder}.1/run.lock`)).toBe(false);
  expect(notes[0]).toContain(`was moved to ${folder}.1; use --resume`);
  third.close();
  expect(existsSync(join(folder, "run.lock"))).toBe(false);
});

test("resuming where there is no run starts one", async () => {
  const notes: string[] = [];
  const run = await open(true, {}, (line) => notes.push(line));
  expect([run.isResumed, notes]).toEqual([
    false,
    [`There is no run in ${folder} yet: starting from the beginning.`],
  ]);
  run.close();
});

test("a directory that this process uses is refused", async () => {
  const run = await open(false);
  await expect(open(false)).rejects.toThrow(
    `need a run directory that no other process uses; process ${process.pid} on ${hostname()} does`,
  );
  run.close();
});

/** A child that opens the directory and holds it until it is killed. */
async function holdInChild(): Promise<{ pid: number; kill: () => Promise<void> }> {
  const module = pathToFileURL(builtModule("coordinator/run-directory.js")).href;
  const script = `
    import { openRunDirectory } from "${module}";
    await openRunDirectory(process.argv[1], { config: ${JSON.stringify(config)}, resume: true });
    process.stdout.write("held"); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, folder], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  await new Promise((done) => child.stdout.once("data", done));
  const gone = new Promise<void>((done) => child.once("exit", () => done()));
  return {
    pid: child.pid!,
    kill: async () => {
      child.kill("SIGKILL");
      await gone;
    },
  };
}

test("a directory that another process uses is refused, and taken over once that process was killed", async () => {
  const holder = await holdInChild();
  await expect(open(true)).rejects.toThrow(`process ${holder.pid} on`);
  await holder.kill();
  const run = await open(true);
  expect(JSON.parse(read("run.lock")).pid).toBe(process.pid);
  run.close();
});

test("a lock whose process number now belongs to another process is stale", async () => {
  mkdirSync(folder);
  writeFileSync(
    join(folder, "run.lock"),
    JSON.stringify({ pid: process.pid, started: "1", host: hostname() }),
  );
  (await open(false)).close();
});

test("a lock from another machine is never taken over", async () => {
  mkdirSync(folder);
  writeFileSync(join(folder, "run.lock"), JSON.stringify({ pid: 1, started: "1", host: "elsewhere" }));
  utimesSync(join(folder, "run.lock"), 1e9, 1e9);
  await expect(open(false)).rejects.toThrow(
    `process 1 on elsewhere does, since 2001-09-09 01:46 UTC. If that process is over, remove ${join(folder, "run.lock")}.`,
  );
});

test("a run that began before a key was there is resumed with its default, and with no other value", async () => {
  const run = loadRunConfig(join(packageRoot, "configs", "runs", "quickstart.yaml"));
  (await openRunDirectory(folder, { config: run, resume: false })).close();
  const { device, ...known } = run.rollout;
  expect(device).toBe("auto");
  writeFileSync(join(folder, "config.yaml"), JSON.stringify({ ...run, rollout: known }));
  const resumed = await openRunDirectory(folder, { config: run, resume: true });
  expect(resumed.isResumed).toBe(true);
  resumed.close();
  const other = { ...run, rollout: { ...run.rollout, device: "cpu" } };
  await expect(openRunDirectory(folder, { config: other, resume: true })).rejects.toThrow(
    /changed: rollout\.device \("auto" in the run, "cpu" now\)/,
  );
});

test("a configuration that cannot be read is named on resume, and nothing of the run is touched", async () => {
  (await open(false)).close();
  writeFileSync(join(folder, "config.yaml"), "run: [cut");
  await expect(open(true)).rejects.toThrow(`${join(folder, "config.yaml")}: need the run's configuration (`);
  expect(read("config.yaml")).toBe("run: [cut");
});
