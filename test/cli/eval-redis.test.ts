import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { packageRoot, type TestOutcome } from "../../core/index.js";
import { endWorkers, keysOf, openPlace, type Place, startWorker } from "../verifiers/redis-place.js";
import { retort } from "./retort.js";

const folder = mkdtempSync(join(tmpdir(), "eval-redis-"));
const tasks = join(packageRoot, "configs", "tasks", "mbpp-sample.jsonl");
let place: Place;
beforeAll(async () => {
  place = await openPlace();
});
afterAll(async () => {
  await endWorkers();
  await place.end();
  rmSync(folder, { recursive: true });
});

type Row = Record<string, unknown> & { readonly tests: readonly TestOutcome[] };
const rowsOf = (path: string): Row[] =>
  readFileSync(path, "utf8")
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Row);
/** What does not depend on where and when it was judged. */
const comparable = ({ tests, isolation: _i, worker: _w, tool_version: _v, ...row }: Row) => ({
  ...row,
  tests: tests.map(({ time_ms: _t, memory_kb: _m, ...test }) => test),
});

test("an evaluation by two workers gives the rows of a local one, each with its worker, and leaves nothing in Redis", async () => {
  const [here, there] = [join(folder, "here.jsonl"), join(folder, "there.jsonl")];
  const common = ["eval", "--tasks", tasks, "--references", "--json"];
  const local = await retort([...common, "--out", here]);
  const only = ["--only", "python", "--workers", "2"];
  const workers = await Promise.all(["one", "two"].map((name) => startWorker(place.url, name, only)));
  const remote = await retort([...common, "--out", there, "--pool", "redis", "--redis", place.url]);
  expect([local.code, remote.code]).toEqual([0, 0]);
  const rows = rowsOf(there);
  expect(rows).toHaveLength(40);
  expect(rows.map(comparable)).toEqual(rowsOf(here).map(comparable));
  expect(new Set(rows.map(({ worker }) => worker))).toEqual(new Set(["one", "two"]));
  for (const { isolation, tool_version } of rows) {
    expect(isolation).toMatchObject({ network: "none", seccomp: true });
    expect(tool_version).toMatch(/^Python 3/);
  }
  expect(JSON.parse(remote.stdout)).toMatchObject({ samples: 40, "pass@1": 1, infrastructure: 0 });
  await Promise.all(workers.map((worker) => worker.end("SIGTERM")));
  expect(await keysOf(place)).toEqual([]);
});

test("with no worker at all it says that it waits, and a later run judges what is missing", async () => {
  const out = join(folder, "missing.jsonl");
  const one = join(folder, "one.jsonl");
  writeFileSync(one, `${readFileSync(tasks, "utf8").split("\n")[0]}\n`);
  const args = ["eval", "--tasks", one, "--references", "--json", "--out", out, "--pool", "redis"];
  const first = await retort([...args, "--redis", place.url, "--wait-s", "1"]);
  expect(first.code).toBe(0);
  expect(first.stderr).toContain(
    `Waiting up to 1 s: no worker offers python; on a machine that has its tools, start: retort worker --redis ${place.url}`,
  );
  expect(JSON.parse(first.stdout)).toMatchObject({ samples: 1, infrastructure: 1 });
  expect(rowsOf(out)).toMatchObject([{ status: "infrastructure", reward: null, isolation: null }]);
  const worker = await startWorker(place.url, "late", ["--only", "python"]);
  const second = await retort([...args, "--redis", place.url]);
  expect(JSON.parse(second.stdout)).toMatchObject({ samples: 1, infrastructure: 0, "pass@1": 1 });
  expect(rowsOf(out)).toMatchObject([{ status: "accepted", worker: "late" }]);
  await worker.end("SIGTERM");
});

test.each([
  { name: "--redis without --pool redis", args: ["--redis", "redis://127.0.0.1:1"], says: "--redis: need" },
  {
    name: "--workers with --pool redis",
    args: ["--pool", "redis", "--workers", "3"],
    says: "--workers: need",
  },
  {
    name: "no address",
    args: ["--pool", "redis"],
    says: "verifier.redis.url: need the address of the Redis where workers are met. Set it, or the environment variable REDIS_URL; --redis does on a command line.",
  },
  {
    name: "an address that is none, which is not repeated",
    args: ["--pool", "redis", "--redis", "http://:pass@host"],
    says: "the address of Redis: need an address like redis://host:6379",
  },
])("wrong usage is exit 2: $name", async ({ args, says }) => {
  const out = join(folder, "never.jsonl");
  const { code, stderr } = await retort(["eval", "--tasks", tasks, "--references", "--out", out, ...args]);
  expect([code, stderr]).toEqual([2, expect.stringContaining(says)]);
  expect(stderr).not.toContain("pass@");
});
