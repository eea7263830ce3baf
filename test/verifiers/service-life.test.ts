import { expect, test } from "vitest";
import {
  type Answer,
  get,
  holdPrograms,
  metric,
  post,
  type ServiceProcess,
  startService,
  total,
  until,
} from "./service-process.js";

const run = (service: ServiceProcess, code: string, more = {}): Promise<Answer> =>
  post(service, "/run_code", { language: "bash", code, ...more });
const task = { id: "t", prompt: "", tests: [{ input: "", output: "ok\n" }] };
const batch = (programs: readonly string[]) => ({
  submissions: programs.map((program) => ({ task, language: "bash", program })),
});
const gauge = async (service: ServiceProcess, name: string): Promise<number> =>
  (await metric(service, name))[""] ?? 0;
const untilRunning = (service: ServiceProcess, programs: number): Promise<void> =>
  until(`${programs} run`, async () => (await gauge(service, "retort_running")) === programs);
const untilWaiting = (service: ServiceProcess, programs: number): Promise<void> =>
  until(`${programs} wait`, async () => (await gauge(service, "retort_queue_length")) === programs);

test("programs wait up to --max-queue; beyond it 429 with a time to come back, and no program runs twice or is lost", async () => {
  const service = await startService(["--workers", "1", "--max-queue", "2"]);
  const hold = holdPrograms(service);
  try {
    const held = run(service, "echo held");
    await untilRunning(service, 1);
    const waiting = [run(service, "echo one"), run(service, "echo two")];
    await untilWaiting(service, 2);
    for (const [path, body] of [
      ["/run_code", { language: "bash", code: "" }],
      ["/v1/verify", batch(["echo ok"])],
      ["/api/v2/execute", { language: "bash", version: "*", files: [{ content: "" }] }],
    ] as const) {
      const refused = await post(service, path, body);
      expect(refused.status).toBe(429);
      expect(Number(refused.headers.get("retry-after"))).toBeGreaterThanOrEqual(1);
    }
    expect((await post(service, "/v1/verify", batch(["a", "b", "c", "d"]))).status).toBe(413); // never would fit
    hold.release();
    const outputs = await Promise.all([held, ...waiting]);
    expect(outputs.map(({ body }) => body.run_result.stdout)).toEqual(["held\n", "one\n", "two\n"]);
    expect(await metric(service, "retort_rejected_total")).toEqual({
      '{reason="queue"}': 3,
      '{reason="too_large"}': 1,
    });
    expect(total(await metric(service, "retort_programs_total"))).toBe(3);
    expect(await metric(service, "retort_queue_length")).toEqual({ "": 0 });
  } finally {
    hold.release();
    await service.stop();
  }
});

test("a large batch does not keep the single program behind it waiting", async () => {
  const service = await startService(["--workers", "1"]);
  const hold = holdPrograms(service);
  try {
    const slow = Array.from({ length: 12 }, (_, i) => `sleep 0.3; echo ok # ${i}`);
    const ended: string[] = [];
    const large = post(service, "/v1/verify", batch(slow)).finally(() => ended.push("large"));
    await untilWaiting(service, 11);
    const quick = run(service, "echo quick").finally(() => ended.push("quick"));
    await untilWaiting(service, 12);
    hold.release();
    expect((await quick).body.run_result.stdout).toBe("quick\n");
    expect((await large).body.results.map((row: { status: string }) => row.status)).toEqual(
      slow.map(() => "accepted"),
    );
    expect(ended).toEqual(["quick", "large"]);
  } finally {
    hold.release();
    await service.stop();
  }
});

test("a client that goes takes with it what has not started, and only that", async () => {
  const service = await startService(["--workers", "1"]);
  try {
    for (const accept of ["application/json", "application/x-ndjson"]) {
      const hold = holdPrograms(service);
      const before = total(await metric(service, "retort_programs_total"));
      const gone = await gauge(service, "retort_called_off_total");
      const leave = new AbortController();
      const asked = fetch(`${service.url}/v1/verify`, {
        method: "POST",
        headers: { "content-type": "application/json", accept },
        body: JSON.stringify(batch(Array.from({ length: 20 }, (_, i) => `echo ok # ${accept} ${i}`))),
        signal: leave.signal,
      }).then((response) => response.text());
      await untilWaiting(service, 19);
      leave.abort();
      await expect(asked).rejects.toThrow();
      await untilWaiting(service, 0);
      hold.release();
      await untilRunning(service, 0);
      expect(total(await metric(service, "retort_programs_total")) - before).toBe(1);
      expect(await gauge(service, "retort_called_off_total")).toBe(gone + 19);
    }
  } finally {
    await service.stop();
  }
});

test("past the deadline a single program is 504, and a batch keeps the verdicts that it has", async () => {
  const service = await startService(["--workers", "1", "--deadline-s", "2"]);
  const hold = holdPrograms(service);
  try {
    const held = run(service, "echo late");
    await untilRunning(service, 1);
    const late = await Promise.all([
      held,
      post(service, "/api/v2/execute", { language: "bash", version: "*", files: [{ content: "echo x" }] }),
      post(service, "/v1/verify", batch(["echo ok"])),
    ]);
    expect(late.map(({ status }) => status)).toEqual([504, 504, 200]);
    expect(late[0]?.headers.get("retry-after")).toBe("1");
    expect(late[2]?.body.results[0]).toMatchObject({ status: "infrastructure", reward: null });
    expect(late[2]?.body.results[0].reason).toContain("no answer within 2 s");
    hold.release();
    await untilRunning(service, 0);
    const rows = async (...programs: string[]): Promise<string[]> => {
      const { body } = await post(service, "/v1/verify", batch(programs));
      return body.results.map(({ status }: { status: string }) => status);
    };
    // A verdict that is known costs no time: the second program begins before the deadline on any machine.
    await until("it is judged within 2 s", async () => (await rows("echo ok"))[0] === "accepted");
    expect(await rows("echo ok", "sleep 4; echo ok", "echo ok # after")).toEqual([
      "accepted",
      "accepted",
      "infrastructure",
    ]);
  } finally {
    hold.release();
    await service.stop();
  }
});

test("SandboxFusion's clients hear 504 before they give up waiting: both timeouts and nine seconds", async () => {
  const service = await startService(["--workers", "1", "--max-time-s", "60"]);
  const hold = holdPrograms(service);
  try {
    const held = run(service, "echo held", { run_timeout: 60 });
    await untilRunning(service, 1);
    const startedMs = performance.now();
    const { status } = await run(service, "echo", { compile_timeout: 0.2, run_timeout: 0.3 });
    expect(status).toBe(504);
    expect(performance.now() - startedMs).toBeGreaterThan(9000);
    hold.release();
    expect((await held).body.status).toBe("Success");
  } finally {
    hold.release();
    await service.stop();
  }
});

test("SIGTERM: no more requests, what runs and waits is finished, exit 0", async () => {
  const service = await startService(["--workers", "1"]);
  const hold = holdPrograms(service);
  const answers = [run(service, "echo first"), run(service, "echo second")];
  await untilWaiting(service, 1);
  service.child.kill("SIGTERM");
  await until("it says that it stops", () => service.stderr().includes("stopping"));
  await until("it is not healthy any more", () =>
    get(service, "/health").then(
      ({ status }) => status === 503,
      () => true,
    ),
  );
  await expect(
    run(service, "echo third").then(
      ({ status }) => status,
      () => "refused",
    ),
  ).resolves.toSatisfy((how: unknown) => how === "refused" || how === 503);
  hold.release();
  const outputs = await Promise.all(answers);
  expect(outputs.map(({ body }) => body.run_result.stdout)).toEqual(["first\n", "second\n"]);
  expect(await service.ended).toBe(0);
});

test("stopping is bounded by --grace-s: what is left then is answered, never as a verdict", async () => {
  const service = await startService(["--workers", "1", "--max-time-s", "60", "--grace-s", "1"]);
  const single = run(service, "sleep 50", { run_timeout: 60 });
  await untilRunning(service, 1);
  const rows = post(service, "/v1/verify", batch(["echo ok"]));
  await untilWaiting(service, 1);
  service.child.kill("SIGINT");
  expect((await single).status).toBe(503);
  expect((await rows).body.results[0]).toMatchObject({ status: "infrastructure", reward: null });
  expect(await service.ended).toBe(0);
});

test("a second signal ends it at once, and no program outlives it", async () => {
  const service = await startService(["--workers", "1", "--max-time-s", "60"]);
  const held = run(service, "sleep 50", { run_timeout: 60 }).catch(() => "cut off");
  await untilRunning(service, 1);
  service.child.kill("SIGTERM");
  await until("it says that it stops", () => service.stderr().includes("stopping"));
  service.child.kill("SIGTERM");
  expect(await service.ended).toBe(143);
  expect(await held).toBe("cut off");
});

test("200 requests at once over all three APIs are each answered, and the counters add up", async () => {
  const service = await startService(["--workers", "4"]);
  try {
    const asked = Array.from({ length: 200 }, async (_, i): Promise<unknown> => {
      if (i % 3 === 0) return (await run(service, `echo ${i}`)).body.run_result.stdout;
      if (i % 3 === 1) {
        const files = [{ content: `print(${i})` }];
        return (await post(service, "/api/v2/execute", { language: "lua", version: "*", files })).body.run
          .stdout;
      }
      const tests = [{ input: "", output: `${i}` }];
      const submission = { task: { id: `${i}`, prompt: "", tests }, language: "lua", program: `print(${i})` };
      const { body } = await post(service, "/v1/verify", { submissions: [submission] });
      return `${body.results[0].task_id}\n${body.results[0].status}`;
    });
    const answers = await Promise.all(asked);
    expect(answers).toEqual(answers.map((_, i) => (i % 3 === 2 ? `${i}\naccepted` : `${i}\n`)));
    const programs = await metric(service, "retort_programs_total");
    expect(programs).toEqual({
      '{api="sandbox-fusion",language="bash",status="accepted"}': 67,
      '{api="piston",language="lua",status="accepted"}': 67,
      '{api="verify",language="lua",status="accepted"}': 66,
    });
    expect(await metric(service, "retort_queue_wait_seconds_count")).toEqual({ "": 200 });
    expect(total(await metric(service, "retort_program_seconds_count"))).toBe(200);
    const requests = await metric(service, "retort_request_seconds_count");
    const answered = Object.entries(requests).filter(([labels]) => !labels.includes("/metrics"));
    expect(Object.fromEntries(answered)).toEqual({
      '{route="/run_code",code="200"}': 67,
      '{route="/api/v2/execute",code="200"}': 67,
      '{route="/v1/verify",code="200"}': 66,
    });
    expect([
      await metric(service, "retort_running"),
      await metric(service, "retort_infrastructure_total"),
    ]).toEqual([{ "": 0 }, { "": 0 }]);
    await post(service, "/v1/verify", batch(["echo ok", "echo ok", "echo ok"]));
    expect(await metric(service, "retort_cache_hits_total")).toEqual({ "": 2 });
    expect(service.stderr().trim().split("\n")).toHaveLength(1); // where it listens, and no warning
  } finally {
    expect(await service.stop()).toBe(0);
  }
});
