import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import type { Verdict } from "../../core/index.js";
import { loadLanguages } from "../../verifiers/index.js";
import { listPoisoned, type RedisPool } from "../../verifiers/redis/index.js";
import { retort } from "../cli/retort.js";
import {
  doubling,
  endWorkers,
  keysOf,
  openClient,
  openPlace,
  type Place,
  startWorker,
  until,
  type WorkerProcess,
} from "./redis-place.js";

const pools: RedisPool[] = [];
const places: Place[] = [];
const newPlace = async (...args: Parameters<typeof openPlace>): Promise<Place> => {
  const place = await openPlace(...args);
  places.push(place);
  return place;
};
const client = async (...args: Parameters<typeof openClient>): Promise<RedisPool> => {
  const pool = await openClient(...args);
  pools.push(pool);
  return pool;
};
afterEach(async () => {
  await Promise.all(pools.splice(0).map((pool) => pool.close()));
  await endWorkers();
  await Promise.all(places.splice(0).map((place) => place.end()));
});

const silent = doubling({ tests: [{ input: "", output: "ok", visible: true }] });
/** Thirty programs that take a while; every third is wrong. */
const thirty = (pool: RedisPool, seconds = 0.2): Promise<Verdict>[] =>
  Array.from({ length: 30 }, (_, i) =>
    pool.verify({
      id: String(i),
      task: silent,
      language: "bash",
      program: `sleep ${seconds}; echo ${i % 3 === 0 ? "no" : "ok"} # ${i}`,
    }),
  );
const RIGHT_STATUSES = Array.from({ length: 30 }, (_, i) => (i % 3 === 0 ? "wrong_answer" : "accepted"));
const statusesOf = async (verdicts: readonly Promise<Verdict>[]) =>
  (await Promise.all(verdicts)).map(({ status }) => status);
const judgedBy = async (verdicts: readonly Promise<Verdict>[]) =>
  new Set((await Promise.all(verdicts)).map((verdict) => verdict.judgedBy?.worker));

/** What is in Redis when all have left. */
async function leaveAll(place: Place, workers: readonly WorkerProcess[]): Promise<string[]> {
  await Promise.all(pools.splice(0).map((pool) => pool.close()));
  expect(await Promise.all(workers.map((worker) => worker.end("SIGTERM")))).toEqual(workers.map(() => 0));
  return keysOf(place);
}

describe("a worker", () => {
  test("killed with -9 among thirty programs: others take what it held, each counts once, nothing is left", async () => {
    const place = await newPlace();
    const [first, second] = await Promise.all([
      startWorker(place.url, "first", ["--workers", "3"]),
      startWorker(place.url, "second", ["--workers", "3"]),
    ]);
    const pool = await client(place.url);
    const verdicts = thirty(pool, 0.5);
    await until(
      "the first judges",
      () => first.count("judged") >= 2 && first.count("taken") > first.count("judged"),
    );
    await first.end("SIGKILL");
    expect(await statusesOf(verdicts)).toEqual(RIGHT_STATUSES);
    expect(await judgedBy(verdicts)).toEqual(new Set(["first", "second"]));
    expect(pool.stats()).toMatchObject({ waiting: 0, running: 0, done: 30 });
    expect(second.count("stalled")).toBeGreaterThan(0);
    expect(await leaveAll(place, [second])).toEqual([]);
  });

  test("stopped past its lock and woken again: its program was given to another, and counts once", async () => {
    const place = await newPlace();
    const slow = await startWorker(place.url, "slow", ["--workers", "1"]);
    const pool = await client(place.url);
    const program = "sleep 2; echo ok";
    const verdict = pool.verify({ id: "s", task: silent, language: "bash", program });
    await until("it is being judged", () => pool.stats().running === 1);
    slow.child.kill("SIGSTOP");
    const other = await startWorker(place.url, "other", ["--workers", "1"]);
    expect(await verdict).toMatchObject({ status: "accepted", judgedBy: { worker: "other" } });
    slow.child.kill("SIGCONT");
    await until("the second result comes", () => pool.stats().repeated === 1);
    await until("the slow one notices", () => slow.has("dropped"));
    expect(pool.stats()).toMatchObject({ waiting: 0, running: 0, done: 1 });
    // It is a worker again as if nothing had been.
    await other.end("SIGTERM");
    const next = pool.verify({ id: "t", task: silent, language: "bash", program: "echo ok" });
    expect(await next).toMatchObject({ status: "accepted", judgedBy: { worker: "slow" } });
    expect(await leaveAll(place, [slow])).toEqual([]);
  });

  test("stopped past its lock with no other there: its program counts once, and nothing is left when all leave", async () => {
    const place = await newPlace();
    const slow = await startWorker(place.url, "slow", ["--workers", "1"]);
    const pool = await client(place.url);
    const program = "sleep 2; echo ok";
    const verdict = pool.verify({ id: "s", task: silent, language: "bash", program });
    await until("it is being judged", () => pool.stats().running === 1);
    slow.child.kill("SIGSTOP");
    await sleep(2500); // its lock lasts 2 s
    slow.child.kill("SIGCONT");
    expect(await verdict).toMatchObject({ status: "accepted" });
    expect(await leaveAll(place, [slow])).toEqual([]);
  });

  test("whose own machinery fails a program: it is sent again as often as allowed, then infrastructure with the reason", async () => {
    const folder = mkdtempSync("/var/tmp/redis-tools-");
    const tool = join(folder, "tool");
    writeFileSync(tool, "#!/bin/sh\necho ok\n", { mode: 0o755 });
    chmodSync(folder, 0o755);
    const yaml = `prompt: ''\nfilename: main\nexecute: ${tool} main\nmounts: [${folder}]\n`;
    writeFileSync(join(folder, "own.yaml"), yaml);
    try {
      const place = await newPlace();
      const own = ["--languages", folder, "--only", "own"];
      const worker = await startWorker(place.url, "w", own);
      const pool = await client(place.url, { languages: loadLanguages([folder]), retries: 1 });
      const judge = (program: string) => pool.verify({ id: "s", task: silent, language: "own", program });
      expect((await judge("1")).status).toBe("accepted");
      rmSync(tool);
      const verdict = await judge("2");
      expect([verdict.status, verdict.judgedBy?.worker]).toEqual(["infrastructure", "w"]);
      expect(verdict.reason).toMatch(/not found|No such file/);
      await until("it was judged 1 + 2 times", () => worker.count("judged") === 3);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test("that stops while Redis is gone exits with 0 all the same", async () => {
    const place = await newPlace();
    const worker = await startWorker(place.url, "w");
    await place.kill();
    await until("it notices", () => worker.has("redis_lost"));
    expect(await worker.end("SIGTERM")).toBe(0);
  });

  test("told to stop: finishes what runs, gives back the rest at once, exits with 0", async () => {
    const place = await newPlace();
    const leaving = await startWorker(place.url, "leaving", ["--workers", "2", "--silence-s", "60"]);
    const pool = await client(place.url, { inFlight: 8 });
    // The first are still running when the worker is told, however late that is.
    const seconds = (i: number): number => (i < 2 ? 4 : 0.2);
    // Of two languages: what one queue gives fills the machine, what the other gives waits inside the worker.
    const verdicts = ["bash", "lua"].flatMap((language) =>
      Array.from({ length: 4 }, (_, i) =>
        pool.verify({
          id: String(i),
          task: silent,
          language,
          program:
            language === "lua"
              ? `os.execute('sleep ${seconds(i)}') print('ok') -- ${i}`
              : `sleep ${seconds(i)}; echo ok # ${i}`,
        }),
      ),
    );
    await until("it is full", () => leaving.count("taken") === 2);
    await sleep(200);
    const staying = await startWorker(place.url, "staying", ["--workers", "2", "--silence-s", "60"], false);
    expect(await leaving.end("SIGTERM")).toBe(0);
    expect(await statusesOf(verdicts)).toEqual(Array(8).fill("accepted"));
    expect([leaving.count("judged"), leaving.count("given_back") > 0, leaving.has("stopped")]).toEqual([
      2,
      true,
      true,
    ]);
    await until("the other six are told", () => staying.count("judged") === 6);
    expect(staying.has("stalled")).toBe(false); // given back, not found after a silence
    expect(await leaveAll(place, [staying])).toEqual([]);
  });

  test("dies three times of one program: that one is set aside with the reason, its neighbours are judged", async () => {
    const place = await newPlace();
    const pool = await client(place.url, { inFlight: 4 });
    const poison = pool.verify({
      id: "p",
      task: { ...silent, id: "poison" },
      language: "bash",
      program: "sleep 3600",
    });
    const others = Array.from({ length: 12 }, (_, i) =>
      pool.verify({ id: String(i), task: silent, language: "bash", program: `sleep 0.1; echo ok # ${i}` }),
    );
    for (const name of ["a", "b", "c"]) {
      const worker = await startWorker(place.url, name, ["--workers", "4"]);
      await until("the poison is taken", () =>
        worker.events.some(({ event, task_id }) => event === "taken" && task_id === "poison"),
      );
      await worker.end("SIGKILL");
    }
    const last = await startWorker(place.url, "last", ["--workers", "4"]);
    const verdict = await poison;
    expect(verdict).toMatchObject({ status: "infrastructure", reward: null });
    expect(verdict.reason).toBe(
      "3 workers died or fell silent while they judged this program (a, b, c); it was set aside, and retort worker --poisoned shows it (worker last)",
    );
    expect(await statusesOf(others)).toEqual(Array(12).fill("accepted"));
    expect(last.count("set_aside")).toBe(1);
    expect(await listPoisoned(place.url)).toMatchObject([
      { task_id: "poison", language: "bash", program: "sleep 3600", workers: ["a", "b", "c"] },
    ]);
    const { code, stdout } = await retort(["worker", "--redis", place.url, "--poisoned"]);
    expect([code, stdout.split("\n").slice(0, 2)]).toEqual([
      0,
      [expect.stringMatching(/^20.*Z task poison, bash, by a, b, c$/), "sleep 3600"],
    ]);
    expect(await leaveAll(place, [last])).toEqual(["retort:poisoned"]);
  });
});

describe("Redis", () => {
  test("killed and started again with nothing: every verdict comes, each once", async () => {
    const place = await newPlace();
    const worker = await startWorker(place.url, "w", ["--workers", "3"]);
    const notices: string[] = [];
    const pool = await client(place.url, { onNotice: (text) => notices.push(text) });
    let counted = 0;
    const verdicts = thirty(pool, 0.4).map((verdict) => verdict.finally(() => counted++));
    await until("some are judged", () => pool.stats().done >= 6);
    await place.kill();
    await sleep(1000);
    expect(counted).toBeLessThan(30);
    await place.start();
    expect(await statusesOf(verdicts)).toEqual(RIGHT_STATUSES);
    expect([counted, pool.stats().done, pool.stats().resent > 0]).toEqual([30, 30, true]);
    const shown = `redis://127.0.0.1:${place.port}`;
    expect(notices).toEqual([
      expect.stringMatching(`^Redis at ${shown} is gone \\(.*\\); trying again until it is back\\.$`),
      `Redis at ${shown} is back.`,
    ]);
    expect([worker.count("redis_lost"), worker.count("redis_back")]).toEqual([1, 1]);
    expect(await leaveAll(place, [worker])).toEqual([]);
  });

  test("gone for longer than one waits: infrastructure that says so, and work goes on when it is back", async () => {
    const place = await newPlace();
    const worker = await startWorker(place.url, "w");
    const pool = await client(place.url, { waitS: 2 });
    await place.kill();
    const lost = pool.verify({ id: "s", task: silent, language: "bash", program: "echo ok" });
    expect(await lost).toMatchObject({
      status: "infrastructure",
      reason: expect.stringMatching(/^Redis at redis:\/\/127\.0\.0\.1:\d+ has been of no use for 2 s: /),
    });
    await place.start();
    await until("the worker is back", () => worker.has("redis_back"));
    const judge = () => pool.verify({ id: "t", task: silent, language: "bash", program: "echo ok" });
    await until("it judges again", async () => (await judge()).status === "accepted");
    expect(await leaveAll(place, [worker])).toEqual([]);
  });

  test("gone in the middle of a question: given up after the wait, closing ends, and a worker that is told to stop does", async () => {
    const place = await newPlace();
    const worker = await startWorker(place.url, "w");
    const pool = await client(place.url, { waitS: 2 });
    place.freeze();
    await sleep(1500); // both have asked it something meanwhile, and wait
    const lost = pool.verify({ id: "s", task: silent, language: "bash", program: "echo ok" });
    await place.kill();
    expect(await lost).toMatchObject({
      status: "infrastructure",
      reason: expect.stringMatching(/has been of no use for 2 s: /),
    });
    await until("the worker notices", () => worker.has("redis_lost"));
    expect(await worker.end("SIGTERM")).toBe(0);
    await pool.close();
  });

  test("silent, its connections open: taken for gone, and used again when it speaks", async () => {
    const place = await newPlace();
    const worker = await startWorker(place.url, "w");
    const notices: string[] = [];
    const pool = await client(place.url, { waitS: 1, answerS: 6, onNotice: (text) => notices.push(text) });
    place.freeze();
    const judge = () => pool.verify({ id: "s", task: silent, language: "bash", program: "echo ok" });
    expect(await judge()).toMatchObject({
      status: "infrastructure",
      reason: expect.stringMatching(/has been of no use for 1 s: Socket timeout/),
    });
    place.thaw();
    await until("it judges again", async () => (await judge()).status === "accepted");
    expect(notices).toContain(`Redis at redis://127.0.0.1:${place.port} is back.`);
    expect(await leaveAll(place, [worker])).toEqual([]);
  });

  test("full: what it refuses is told, given up after the wait, and judged when there is room again", async () => {
    const place = await newPlace();
    const worker = await startWorker(place.url, "w");
    const notices: string[] = [];
    const pool = await client(place.url, { waitS: 1, onNotice: (text) => notices.push(text) });
    await until(
      "it knows the worker",
      async () => (await pool.toolVersion(loadLanguages().get("bash"))) !== null,
    );
    await place.redis.config("SET", "maxmemory", "1");
    const judge = () => pool.verify({ id: "s", task: silent, language: "bash", program: "echo ok" });
    expect(await judge()).toMatchObject({
      status: "infrastructure",
      reason: expect.stringMatching(/of no use for 1 s: .*OOM command not allowed/),
    });
    expect(notices).toContainEqual(
      expect.stringMatching(/(takes no programs|answers with an error) \(.*OOM/),
    );
    await expect(openClient(place.url)).rejects.toThrow(
      /need a Redis server that takes what we write\. It said: OOM/,
    );
    await place.redis.config("SET", "maxmemory", "0");
    await until("it judges again", async () => (await judge()).status === "accepted");
    expect(await leaveAll(place, [worker])).toEqual([]);
  });

  test("that is not there: a client is told so, a worker waits for it and can be stopped", async () => {
    const place = await newPlace();
    await place.kill();
    await expect(openClient(place.url)).rejects.toThrow(
      `redis://127.0.0.1:${place.port}: need a Redis server that lets us in. It said: connect ECONNREFUSED`,
    );
    const [patient, impatient] = await Promise.all([
      startWorker(place.url, "patient", [], false),
      startWorker(place.url, "impatient", [], false),
    ]);
    await until("both say so", () => patient.has("redis_lost") && impatient.has("redis_lost"));
    expect(await impatient.end("SIGTERM")).toBe(0);
    expect(impatient.has("joined")).toBe(false);
    await place.start();
    await until("it joins", () => patient.has("joined"));
    expect(patient.count("redis_lost")).toBe(1);
  });

  test("with a password: it opens the door and is printed nowhere, a wrong one is the user's mistake", async () => {
    const place = await newPlace([], "s3cret");
    const notices: string[] = [];
    const pool = await client(place.url, { waitS: 1, onNotice: (text) => notices.push(text) });
    const nobody = await pool.verify({ id: "s", task: silent, language: "lua", program: "print('ok')" });
    expect(nobody.reason).toContain(`retort worker --redis redis://127.0.0.1:${place.port} `);
    const worker = await startWorker(place.url, "w");
    const judge = () => pool.verify({ id: "s", task: silent, language: "lua", program: "print('ok')" });
    await until("it is judged", async () => (await judge()).status === "accepted");
    expect(`${notices}${nobody.reason}${worker.stderr()}`).not.toContain("s3cret");
    const { code, stderr } = await retort(["worker", "--redis", `redis://:wr0ng@127.0.0.1:${place.port}`]);
    expect([code, stderr]).toEqual([2, expect.stringContaining("WRONGPASS")]);
    expect(stderr).not.toContain("wr0ng");
  });
});
