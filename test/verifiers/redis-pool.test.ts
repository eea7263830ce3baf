import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Queue } from "bullmq";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { ConfigError, packageRoot, type TestOutcome, type Verdict } from "../../core/index.js";
import { createLocalPool, loadLanguages } from "../../verifiers/index.js";
import type { RedisPool } from "../../verifiers/redis/index.js";
import { queueName } from "../../verifiers/redis/names.js";
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

const folder = mkdtempSync(join(tmpdir(), "redis-pool-"));
const pools: RedisPool[] = [];
const client = async (...args: Parameters<typeof openClient>): Promise<RedisPool> => {
  const pool = await openClient(...args);
  pools.push(pool);
  return pool;
};
let place: Place;
let worker: WorkerProcess;

beforeAll(async () => {
  place = await openPlace();
  worker = await startWorker(place.url, "anna", ["--workers", "2"]);
});
afterEach(() => Promise.all(pools.splice(0).map((pool) => pool.close())));
afterAll(async () => {
  await endWorkers();
  await place.end();
  rmSync(folder, { recursive: true });
});

/** All but what differs from one run to the next: how much came through before a limit, too. */
const comparable = ({ judgedBy: _by, tests, ...verdict }: Verdict) => ({
  ...verdict,
  tests: tests.map(({ time_ms: _t, memory_kb: _m, stdout, ...test }: TestOutcome) =>
    test.status === "output_limit" ? test : { ...test, stdout },
  ),
});

describe("verdicts", () => {
  const programs: readonly (readonly [string, string | null])[] = [
    ["lua", "print(io.read('n') * 2)"],
    ["lua", "print(io.read('n') + 1)"],
    ["lua", "local x = nil\nprint(x.y)"],
    ["lua", "for x in io.lines() do print(x)"],
    ["lua", "io.write('\\0\\255\\n') io.stderr:write('\\27[31m') os.exit(3)"],
    ["lua", "print(('x'):rep(30000))"],
    ["lua", "-- \ud800 \u0000 half a pair\nprint(2 * io.read('n'))"],
    ["lua", null],
    ["bash", "read n; echo $((n * 2))"],
    ["bash", "kill -9 $$"],
    ["bash", "while :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done"],
  ];

  test("are those of a local pool, feedback included, with the run's limits", async () => {
    const task = doubling({ limits: {} });
    const options = { limits: { time_s: 20, output_kb: 64 }, cache: false, stopAfterFailures: 1 };
    const local = await createLocalPool({ languages: loadLanguages(), ...options });
    const remote = await client(place.url, options);
    const judge = (pool: RedisPool | typeof local) =>
      Promise.all(
        programs.map(([language, program], i) => pool.verify({ id: String(i), task, language, program })),
      );
    const [here, there] = [await judge(local), await judge(remote)];
    await local.close();
    expect(there.map(comparable)).toEqual(here.map(comparable));
    expect(new Set(here.map(({ status }) => status))).toEqual(
      new Set(["accepted", "wrong_answer", "runtime_error", "output_limit", "no_program"]),
    );
    expect(remote.stats()).toMatchObject({ waiting: 0, running: 0, done: 10, cached: 0 });
  });

  test("say which worker judged, with what version and what isolation", async () => {
    const pool = await client(place.url);
    const program = "print(io.read('n') * 2)";
    const verdict = await pool.verify({ id: "s", task: doubling(), language: "lua", program });
    expect(verdict.judgedBy).toMatchObject({
      worker: "anna",
      tool_version: expect.stringMatching(/^Lua 5\.\d/),
      isolation: { sandbox: expect.stringMatching(/^bubblewrap/), network: "none", seccomp: true },
    });
    expect(await pool.toolVersion(loadLanguages().get("lua"))).toBe(verdict.judgedBy?.tool_version);
  });

  test("a checker program judges there too, in a language that both define alike", async () => {
    const pool = await client(place.url);
    const checker = {
      language: "bash",
      accepts_answer: false,
      program: "grep -q ok stdout.txt || { echo no ok; exit 1; }",
    };
    const task = doubling({ comparator: { checker } });
    const judge = (program: string) => pool.verify({ id: "s", task, language: "lua", program });
    expect(await judge("print('all ok')")).toMatchObject({ status: "accepted", comparator: "checker" });
    expect(await judge("print('bad')")).toMatchObject({
      status: "wrong_answer",
      feedback: expect.stringContaining("no ok"),
    });
    const elsewhere = doubling({
      comparator: { checker: { language: "python", accepts_answer: true, program: "1" } },
    });
    expect(await pool.verify({ id: "s", task: elsewhere, language: "lua", program: "" })).toMatchObject({
      status: "infrastructure",
      reason: "its checker is a python program, and that language does not work here (worker anna)",
    });
  });

  test("a program that is asked for again is not sent again", async () => {
    const pool = await client(place.url, { cache: true });
    const submission = { id: "s", task: doubling(), language: "lua", program: "print(1)" };
    const verdicts = await Promise.all([pool.verify(submission), pool.verify(submission)]);
    expect(verdicts.map(({ cached, status }) => [cached, status])).toEqual([
      [false, "wrong_answer"],
      [true, "wrong_answer"],
    ]);
    expect(pool.stats()).toMatchObject({ done: 1, cached: 1 });
  });

  test("two clients with the same task ids get each their own", async () => {
    const clients = await Promise.all([client(place.url), client(place.url)]);
    const verdicts = await Promise.all(
      Array.from({ length: 24 }, (_, i) => {
        const program = `print(${i % 2 === 0 ? "io.read('n') * 2" : "-1"}) -- ${i}`;
        return clients[i % 2]!.verify({ id: "same", task: doubling(), language: "lua", program });
      }),
    );
    expect(verdicts.map(({ status }) => status)).toEqual(
      Array.from({ length: 24 }, (_, i) => (i % 2 === 0 ? "accepted" : "wrong_answer")),
    );
    expect(clients.map((each) => each.stats().done)).toEqual([12, 12]);
  });
});

describe("backpressure", () => {
  test("no more programs than allowed are in Redis, and the counts say where each is", async () => {
    const pool = await client(place.url, { inFlight: 3 });
    const gate = doubling({ tests: [{ input: "", output: "", visible: true }] });
    const verdicts = Array.from({ length: 12 }, (_, i) =>
      pool.verify({ id: String(i), task: gate, language: "bash", program: `sleep 0.3 # ${i}` }),
    );
    let [most, mostRunning, isConsistent] = [0, 0, true];
    const watch = (async () => {
      while (pool.stats().done < 12) {
        const jobs = (await place.redis.keys("retort:queue:bash-*:*.*.*")).filter(
          (key) => !key.endsWith(":lock"),
        );
        most = Math.max(most, jobs.length);
        const { waiting, running, done } = pool.stats();
        mostRunning = Math.max(mostRunning, running);
        isConsistent &&= waiting + running + done === 12;
      }
    })();
    await Promise.all(verdicts);
    await watch;
    expect([mostRunning, isConsistent]).toEqual([2, true]);
    expect(most).toBeGreaterThanOrEqual(3);
    expect(most).toBeLessThanOrEqual(5); // a job ends a moment after its result is told, and two are judged at a time
  });
});

describe("what cannot be judged", () => {
  test("a language that nobody offers: said at once, infrastructure after the wait, with the command", async () => {
    const notices: string[] = [];
    const pool = await client(place.url, { waitS: 1, onNotice: (text) => notices.push(text) });
    const program = "print(int(input()) * 2)";
    const verdict = await pool.verify({ id: "s", task: doubling(), language: "python", program });
    const why = `no worker offers python; on a machine that has its tools, start: retort worker --redis redis://127.0.0.1:${place.port}`;
    expect(notices).toEqual([`Waiting up to 1 s: ${why}`]);
    expect(verdict).toMatchObject({ status: "infrastructure", reward: null, reason: `${why} (waited 1 s)` });
    expect(await keysOf(place)).not.toContainEqual(expect.stringContaining("queue:python"));
  });

  test("a worker whose YAML of the language differs takes nothing, and is named", async () => {
    const own = join(folder, "own");
    mkdirSync(own, { recursive: true });
    const shipped = readFileSync(join(packageRoot, "configs", "languages", "lua.yaml"), "utf8");
    writeFileSync(join(own, "lua.yaml"), `${shipped}\nenv: { LUA_INIT: "print(1)" }\n`);
    const pool = await client(place.url, { waitS: 1, languages: loadLanguages([own]) });
    const before = worker.count("taken");
    const verdict = await pool.verify({ id: "s", task: doubling(), language: "lua", program: "print(1)" });
    expect(verdict.status).toBe("infrastructure");
    expect(verdict.reason).toMatch(
      /^no worker offers this lua: anna has another lua\.yaml\. Give each the file used here: retort worker .* --languages FOLDER/,
    );
    expect(worker.count("taken")).toBe(before);
  });

  test("another prompt or installation text is no other language", async () => {
    const own = join(folder, "words");
    mkdirSync(own, { recursive: true });
    const shipped = readFileSync(join(packageRoot, "configs", "languages", "lua.yaml"), "utf8");
    writeFileSync(join(own, "lua.yaml"), shipped.replace(/^prompt:.*$/m, "prompt: Sing it in Lua."));
    const languages = loadLanguages([own]);
    expect(languages.get("lua").prompt).toBe("Sing it in Lua.");
    const pool = await client(place.url, { waitS: 1, languages });
    const program = "print(io.read('n') * 2)";
    expect(await pool.verify({ id: "s", task: doubling(), language: "lua", program })).toMatchObject({
      status: "accepted",
    });
  });

  test("a task that asks for more than the worker allows is refused, not judged under less", async () => {
    const pool = await client(place.url);
    const task = doubling({ limits: { time_s: 601 } });
    expect(await pool.verify({ id: "s", task, language: "lua", program: "print(2)" })).toMatchObject({
      status: "infrastructure",
      reason: "it asks for time_s 601, and this worker allows 600 (worker anna)",
    });
  });

  test("a language that no file defines is the caller's error", async () => {
    const pool = await client(place.url);
    const verdict = pool.verify({ id: "s", task: doubling(), language: "luaa", program: "" });
    await expect(verdict).rejects.toThrow(ConfigError);
  });

  test("foreign and malformed jobs put into a queue harm nobody: dropped, told where one listens, work goes on", async () => {
    const pool = await client(place.url);
    const name = queueName(loadLanguages().get("lua"));
    const queue = new Queue(name, { connection: { url: place.url }, prefix: "retort:queue" });
    const [alive] = await place.redis.smembers("retort:clients");
    await queue.add("judge", { execute: "touch /tmp/owned", program: 3 });
    await queue.add("judge", { protocol: 2 }, { jobId: `${alive}.999.1` });
    await queue.add("judge", {}, { jobId: "00000000-0000-0000-0000-000000000000.1.1" });
    // At once, by hand: a worker that took a job before its data were spoilt would find nothing wrong with it.
    const broken = { name: "judge", data: "{no json", opts: "{}", timestamp: String(Date.now()) };
    await place.redis
      .multi()
      .hset(`retort:queue:${name}:broken.1.1`, broken)
      .lpush(`retort:queue:${name}:wait`, "broken.1.1")
      .zadd(`retort:queue:${name}:marker`, 0, "0")
      .exec();
    const verdict = await pool.verify({ id: "s", task: doubling(), language: "lua", program: "print(2)" });
    expect(verdict.status).toBe("wrong_answer");
    const reasons = () => worker.events.map(({ reason }) => reason);
    for (const reason of ["no client of ours made it", "its client is gone", "it is no JSON"])
      await until(reason, () => reasons().includes(reason));
    expect(reasons()).toContainEqual(
      expect.stringMatching(/^a job that this version of Retort cannot read: protocol: /),
    );
    await until("the queue is empty", async () => (await queue.getJobCountByTypes()) === 0);
    await queue.close();
    expect(worker.child.exitCode).toBeNull();
  });
});

describe("leaving", () => {
  test("a closed client leaves nothing of its own, and answers infrastructure instead of hanging", async () => {
    const before = await keysOf(place);
    const pool = await openClient(place.url, { inFlight: 8 });
    const task = doubling({ tests: [{ input: "", output: "", visible: true }] });
    const running = Array.from({ length: 10 }, (_, i) =>
      pool.verify({ id: String(i), task, language: "bash", program: `sleep 1 # ${i}` }),
    );
    await until("two are judged", () => pool.stats().running === 2);
    await pool.close();
    expect((await Promise.all(running)).map(({ status }) => status)).toEqual(
      Array(10).fill("infrastructure"),
    );
    const late = await pool.verify({ id: "s", task, language: "bash", program: "true" });
    expect(late).toMatchObject({ status: "infrastructure", reason: "the pool was closed" });
    await until("the two end", async () => (await place.redis.keys("*.*.*")).length === 0);
    const ofQueues = /^retort:queue:(lua|bash)-[0-9a-f]{16}:(id|meta|events|marker|stalled|stalled-check)$/;
    expect((await keysOf(place)).filter((key) => !before.includes(key) && !ofQueues.test(key))).toEqual([]);
  });

  test("every key ends by itself where whoever made it was killed", async () => {
    const pool = await client(place.url);
    await pool.verify({ id: "s", task: doubling(), language: "lua", program: "print(2)" });
    await until("each key has its end", async () => {
      const keys = await keysOf(place);
      const ends = await Promise.all(keys.map((key) => place.redis.ttl(key)));
      return keys.length > 5 && ends.every((seconds) => seconds >= 0 || seconds === -2);
    });
  });
});
