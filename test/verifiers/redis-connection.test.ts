import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { parseLanguage, RedisConfig } from "../../verifiers/index.js";
import { connectRedis, readRedisUrl } from "../../verifiers/redis/connection.js";
import { languageDigest } from "../../verifiers/redis/names.js";
import { freePort, openPlace, type Place } from "./redis-place.js";

const folder = mkdtempSync(join(tmpdir(), "redis-tls-"));
const places: Place[] = [];
afterAll(async () => {
  await Promise.all(places.map((place) => place.end()));
  rmSync(folder, { recursive: true });
});

test.each([
  { url: "redis://localhost:6379", shown: "redis://localhost:6379", isWarned: false },
  { url: "redis://127.0.0.1", shown: "redis://127.0.0.1", isWarned: false },
  { url: "redis://[::1]:7000/2", shown: "redis://[::1]:7000/2", isWarned: false },
  { url: "redis://10.0.0.5:6379", shown: "redis://10.0.0.5:6379", isWarned: true },
  { url: "rediss://judge.example:6379/0", shown: "rediss://judge.example:6379/0", isWarned: true },
  { url: "rediss://anna:s3cret@judge.example", shown: "rediss://judge.example", isWarned: false },
  { url: "redis://:s3cret@10.0.0.5", shown: "redis://10.0.0.5", isWarned: false },
])("$shown is shown without a password; beyond loopback one is asked for", ({ url, shown, isWarned }) => {
  const address = readRedisUrl(url, "--redis");
  expect([address.url, address.shown, address.warning !== null]).toEqual([url, shown, isWarned]);
  expect(address.warning ?? shown).toContain(shown);
});

test.each(["", "localhost:6379", "http://:s3cret@host", "redis://", "s3cret"])(
  "%j is no address of a Redis, and is not repeated",
  (url) => {
    let message = "";
    try {
      readRedisUrl(url, "--redis");
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toMatch(/^--redis: need an address like redis:\/\/host:6379/);
    expect(message).not.toContain("s3cret");
  },
);

test("a run file may not hold a password, for the run keeps a copy of it", () => {
  const issue = RedisConfig.safeParse({ url: "redis://:s3cret@10.0.0.5:6379" }).error?.issues[0];
  expect(issue?.message).toMatch(/^an address without a password, .* REDIS_URL$/);
  expect(RedisConfig.parse({ url: "rediss://10.0.0.5:6379" })).toEqual({
    url: "rediss://10.0.0.5:6379",
    prefix: "retort",
    wait_s: 60,
  });
});

const OPENSSL = spawnSync("openssl", ["version"]).status === 0;
test.skipIf(!OPENSSL)(
  "rediss:// speaks TLS with a password (skipped where openssl is not there to make a certificate)",
  async () => {
    const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"];
    execFileSync(
      "openssl",
      ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, ...subject],
      {
        stdio: "ignore",
      },
    );
    const tls = [
      "--tls-cert-file",
      cert,
      "--tls-key-file",
      key,
      "--tls-ca-cert-file",
      cert,
      "--tls-auth-clients",
      "no",
    ];
    const place = await openPlace(tls, "s3cret");
    places.push(place);
    const port = await freePort();
    await place.redis.config("SET", "tls-port", String(port));
    const watcher = { onLost: () => {}, onBack: () => {} };
    const address = readRedisUrl(`rediss://:s3cret@127.0.0.1:${port}`, "--redis");
    // Nobody vouches for this certificate: refused, as it must be.
    await expect(connectRedis(address, "fail", watcher)).rejects.toThrow(
      `rediss://127.0.0.1:${port}: need a Redis server that lets us in. It said: self-signed certificate.`,
    );
    const script = `
    import { connectRedis, readRedisUrl } from "./dist/verifiers/redis/connection.js";
    const watcher = { onLost: () => {}, onBack: () => {} };
    const redis = await connectRedis(readRedisUrl(process.env.REDIS_URL, ""), "fail", watcher);
    process.stdout.write(await redis.ping());
    redis.disconnect();`;
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: cert, REDIS_URL: address.url };
    expect(
      spawnSync(process.execPath, ["--input-type=module", "-e", script], { env, encoding: "utf8" }).stdout,
    ).toBe("PONG");
  },
);

const language = (more: string) =>
  parseLanguage(`prompt: p\nfilename: a\nexecute: run a\n${more}`, "/somewhere/own.yaml");

test.each([
  {
    name: "prompt, install, self-test, mounts",
    more: "install: x\nmounts: [/opt]\nselftest: { program: a, output: b }",
    same: true,
  },
  {
    name: "the order of keys",
    more: "env: { A: '1', B: '2' }",
    other: "env: { B: '2', A: '1' }",
    same: true,
  },
  { name: "a limit", more: "limits: { time_s: 3 }", same: false },
  { name: "an environment variable", more: "env: { A: '1' }", same: false },
  { name: "what is cut out of messages", more: "messages: { remove: ['x'] }", same: false },
  { name: "the compiler", more: "compile: cc a", same: false },
])("a language with another $name is the same one: $same", ({ more, other = "", same }) => {
  expect(languageDigest(language(more)) === languageDigest(language(other))).toBe(same);
});
