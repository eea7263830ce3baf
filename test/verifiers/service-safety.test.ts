import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { retort } from "../cli/retort.js";
import {
  brokerOf,
  get,
  metric,
  post,
  processesWith,
  type ServiceProcess,
  startService,
  total,
  until,
} from "./service-process.js";

const folder = mkdtempSync(join(tmpdir(), "service-safety-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ECHO = { language: "bash", code: "cat", stdin: "hi" };

/** A request as bytes, for what fetch would not send. */
function raw(
  service: ServiceProcess,
  options: { path: string; method?: string; headers?: Record<string, string>; body?: string },
): Promise<{ status: number; headers: Record<string, unknown>; text: string }> {
  return new Promise((resolve, reject) => {
    const { path, method = "POST", headers = {}, body = "" } = options;
    const sent = request(`${service.url}${path}`, { method, headers }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += String(chunk);
      });
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text }),
      );
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

describe("who may ask", () => {
  test("an address that others can reach is refused without a token, as usage", async () => {
    for (const host of ["0.0.0.0", "::"]) {
      const { code, stderr } = await retort(["serve", "--verifier", "--port", "0", "--host", host]);
      expect(code).toBe(2);
      expect(stderr).toContain("need a token on an address that other machines can reach");
      expect(stderr).toContain("RETORT_TOKEN");
    }
    const empty = join(folder, "empty");
    writeFileSync(empty, "\n");
    const { code, stderr } = await retort([
      "serve",
      "--verifier",
      "--token-file",
      empty,
      "--host",
      "0.0.0.0",
    ]);
    expect([code, stderr]).toEqual([
      2,
      `retort: ${empty}: need a token: one word. Make one: openssl rand -hex 24\n`,
    ]);
  });

  test("with a token every API asks for it, as Bearer or in the address; health does not", async () => {
    const file = join(folder, "token");
    writeFileSync(file, "right-token\n");
    const service = await startService(["--host", "0.0.0.0", "--token-file", file]);
    try {
      const local = { ...service, url: service.url.replace("0.0.0.0", "127.0.0.1") };
      const basic = (pair: string) => `Basic ${Buffer.from(pair).toString("base64")}`;
      for (const wrong of [
        {},
        { authorization: "Bearer wrong" },
        { authorization: "Bearer right-token2" },
        { authorization: "right-token" },
        { authorization: basic("right-token:") },
      ] as Record<string, string>[]) {
        const answer = await post(local, "/run_code", ECHO, wrong);
        expect([answer.status, answer.headers.get("www-authenticate")]).toEqual([
          401,
          'Bearer realm="retort"',
        ]);
      }
      for (const path of ["/v1/languages", "/api/v2/runtimes", "/metrics", "/nothing"])
        expect((await get(local, path)).status).toBe(401);
      for (const right of ["Bearer right-token", basic("anyone:right-token")]) {
        const answer = await post(local, "/run_code", ECHO, { authorization: right });
        expect([answer.status, answer.body.run_result.stdout]).toEqual([200, "hi"]);
      }
      expect((await get(local, "/health")).status).toBe(200);
      const rejected = await metric({ ...local, url: local.url }, "retort_rejected_total");
      expect(rejected).toEqual({}); // metrics too need the token
      const { body } = await get(local, "/metrics", { authorization: "Bearer right-token" });
      expect(body).toContain('retort_rejected_total{reason="token"} 10');
      expect(service.stderr()).not.toContain("right-token");
    } finally {
      await service.stop();
    }
  });
});

describe("on a loopback address", () => {
  let service: ServiceProcess;
  beforeAll(async () => {
    service = await startService([
      "--workers",
      "2",
      "--max-body-mb",
      "1",
      "--receive-s",
      "2",
      "--allow-host",
      "judge.local",
    ]);
  });
  afterAll(() => service.stop());
  const json = { "content-type": "application/json" };
  const body = JSON.stringify(ECHO);

  test.each([
    ["another Origin", { ...json, origin: "http://evil.example" }, 403],
    ["no Origin to speak of", { ...json, origin: "null" }, 403],
    ["a fetch from another site", { ...json, "sec-fetch-site": "cross-site" }, 403],
    ["a name of someone else's DNS", { ...json, host: "evil.example" }, 403],
    ["a name that begins as ours", { ...json, host: "127.0.0.1.evil.example:80" }, 403],
    ["a form", { "content-type": "application/x-www-form-urlencoded" }, 415],
    ["plain text, which a page may send unasked", { "content-type": "text/plain" }, 415],
    ["no content type", {}, 415],
    ["localhost", { ...json, host: "localhost:1" }, 200],
    ["a name that the operator allowed", { ...json, host: "judge.local" }, 200],
  ] as const)("a request with %s", async (_, headers, status) => {
    for (const path of ["/run_code", "/v1/verify", "/api/v2/execute"]) {
      const answer = await raw(service, { path, headers, body });
      if (status !== 200) expect([path, answer.status]).toEqual([path, status]);
      expect(answer.headers["access-control-allow-origin"]).toBeUndefined();
      if (path === "/run_code") expect(answer.status).toBe(status);
    }
  });

  test("a page's preflight is refused", async () => {
    const headers = { origin: "http://evil.example", "access-control-request-method": "POST" };
    const { status, headers: said } = await raw(service, { path: "/run_code", method: "OPTIONS", headers });
    expect([status, said["access-control-allow-origin"]]).toEqual([403, undefined]);
  });

  test.each([
    ["nothing", "", "not JSON"],
    ["half of it", '{"a":', "not JSON"],
    ["invalid UTF-8", Buffer.from([0x22, 0xff, 0x22]).toString("latin1"), "not UTF-8"],
    ["a list", "[]", ""],
    ["100,000 levels", "[".repeat(100_000), "32 levels"],
    ["250,000 empty objects", `[${"{},".repeat(250_000)}{}]`, ""],
    ["a million values in a megabyte", `[${",".repeat(1_000_001)}]`, "values"],
  ])("a body of %s is refused before it costs anything", async (name, text, words) => {
    for (const path of ["/v1/verify", "/run_code", "/api/v2/execute"]) {
      const bytes = Buffer.from(text, name === "invalid UTF-8" ? "latin1" : "utf8");
      const answer = await fetch(`${service.url}${path}`, { method: "POST", headers: json, body: bytes });
      const said = await answer.text();
      expect([400, 422]).toContain(answer.status);
      expect(said).toContain(words);
    }
  });

  test("a body beyond --max-body-mb is 413, said or sent", async () => {
    const said = await raw(service, {
      path: "/run_code",
      headers: { ...json, "content-length": "99999999" },
      body: "",
    }).catch((error: Error) => error.message);
    expect(said).toMatchObject({ status: 413 });
    const code = "x".repeat(1_100_000);
    const answer = await post(service, "/run_code", { ...ECHO, code });
    expect([answer.status, answer.body.detail]).toEqual([
      413,
      "The body is larger than --max-body-mb allows.",
    ]);
    expect((await metric(service, "retort_rejected_total"))['{reason="too_large"}']).toBe(2);
    // One that is still being sent when it is refused: the answer comes all the same.
    for (let turn = 0; turn < 6; turn++)
      expect((await post(service, "/run_code", { ...ECHO, code: "x".repeat(8_000_000) })).status).toBe(413);
  });

  test("a connection that dribbles its request is closed", async () => {
    const { port } = new URL(service.url);
    for (const start of [
      "POST /run_code HTTP/1.1\r\nHost: localhost\r\n",
      "POST /run_code HTTP/1.1\r\nHost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
    ]) {
      const socket = connect(Number(port), "127.0.0.1");
      socket.on("error", () => {});
      socket.write(start);
      const drip = setInterval(() => socket.write(start.endsWith("{") ? " " : "a: b\r\n"), 300);
      await new Promise((resolve) => socket.once("close", resolve));
      clearInterval(drip);
    }
    expect((await post(service, "/run_code", ECHO)).status).toBe(200);
  });

  test("hostile programs leave nothing behind, and the service judges on", async () => {
    const marker = `8${process.pid}.25`;
    const programs = [
      ":(){ :|:& };:; :",
      `setsid sleep ${marker} & disown; sleep ${marker} & echo done`,
      "yes > /tmp/fill; yes > /dev/shm/fill; cat /dev/zero",
      "kill -9 -1; kill -9 1 2 3; echo alive",
      "cat /etc/shadow /proc/1/environ; ls /root /home; echo x > /w/main.sh; exit 0",
      "exec 3<>/dev/tcp/127.0.0.1/80",
    ];
    const answers = await Promise.all(
      programs.map((code) => post(service, "/run_code", { language: "bash", code, run_timeout: 3 })),
    );
    expect(answers.map(({ status }) => status)).toEqual(programs.map(() => 200));
    expect(answers.map(({ body: { status } }) => status)).not.toContain("SandboxError");
    expect(answers[4]?.body.run_result.stdout).toBe("");
    await until("they are gone", () => processesWith(marker).length === 0);
    const after = await post(service, "/run_code", ECHO);
    expect(after.body.run_result.stdout).toBe("hi");
  });

  test("a dead broker is noticed and replaced: health is good again, and programs run", async () => {
    process.kill(brokerOf(service), "SIGKILL");
    await until("it is healthy", async () => (await get(service, "/health/ready")).status === 200);
    expect((await post(service, "/run_code", ECHO)).body.status).toBe("Success");
  });
});

test("a missing tool is our own failure in each API's own words, and never the program's", async () => {
  const own = join(folder, "own");
  mkdirSync(own);
  const yaml = (probe: string) =>
    `prompt: x\nfilename: main.gh\nexecute: no-such-tool main.gh\ninstall: apt-get install ghost\n${probe}`;
  writeFileSync(join(own, "ghost.yaml"), yaml("probe: no-such-tool --version\n"));
  writeFileSync(join(own, "phantom.yaml"), yaml(""));
  const service = await startService(["--languages", own, "--workers", "2"]);
  try {
    const task = { id: "t", prompt: "", tests: [{ input: "", output: "" }] };
    const { body } = await post(service, "/v1/verify", {
      submissions: [{ task, language: "ghost", program: "x" }],
    });
    expect(body.results[0]).toMatchObject({ status: "infrastructure", reward: null, tests: [] });
    expect(body.results[0].reason).toContain("apt-get install ghost");
    const fusion = await post(service, "/run_code", { language: "ghost", code: "x" });
    expect([fusion.status, fusion.body.status, fusion.body.run_result]).toEqual([200, "SandboxError", null]);
    expect(fusion.body.message).toContain("apt-get install ghost");
    const files = [{ content: "x" }];
    const ghost = await post(service, "/api/v2/execute", { language: "ghost", version: "*", files });
    expect([ghost.status, ghost.body.message]).toEqual([400, "ghost-* runtime is unknown"]);
    const phantom = await post(service, "/api/v2/execute", { language: "phantom", version: "*", files });
    expect([phantom.status, Object.keys(phantom.body)]).toEqual([500, ["message"]]);
    const listed = (await get(service, "/v1/languages")).body as { name: string; status: string }[];
    const status = (name: string) => listed.find((row) => row.name === name)?.status;
    expect([status("ghost"), status("phantom"), status("bash")]).toEqual(["missing", "unknown", "ok"]);
    expect(await metric(service, "retort_infrastructure_total")).toEqual({ "": 3 });
    expect(total(await metric(service, "retort_programs_total"))).toBe(3);
    expect(service.stderr()).toContain("infrastructure (ghost)");
  } finally {
    await service.stop();
  }
});

test("a port that is taken, and options that make no sense, are usage errors with a fix", async () => {
  const holder = spawn(process.execPath, [
    "-e",
    "require('net').createServer().listen(0,'127.0.0.1',function(){console.log(this.address().port)})",
  ]);
  const port = await new Promise<string>((resolve) =>
    holder.stdout.once("data", (data) => resolve(String(data).trim())),
  );
  try {
    const taken = await retort(["serve", "--verifier", "--port", port]);
    expect(taken.code).toBe(2);
    expect(taken.stderr).toBe(
      `retort: retort serve: need a free port: something listens there, got "127.0.0.1:${port}". Choose another with --port, or --port 0 for any.\n`,
    );
  } finally {
    holder.kill();
  }
  expect((await retort(["serve"])).code).toBe(2);
  expect((await retort(["serve", "--verifier", "--port", "70000"])).code).toBe(2);
  expect(
    (await retort(["serve", "--verifier", "--host", "203.0.113.7", "--token-file", join(folder, "none")]))
      .code,
  ).toBe(2);
});

test("what the operator demands of the host is demanded before anything listens", async () => {
  const file = join(folder, "require.yaml");
  writeFileSync(file, "nonsense: true\n");
  const { code, stderr } = await retort(["serve", "--verifier", "--port", "0", "--require", file]);
  expect(code).toBe(2);
  expect(stderr).toContain(file);
});
