import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { currentEnvironment, recordEnvironment } from "../../coordinator/environment.js";
import { packageRoot } from "../../core/index.js";
import { createLocalPool, loadLanguages } from "../../verifiers/index.js";

const folder = mkdtempSync(join(tmpdir(), "environment-"));
const languages = loadLanguages();
const verifier = await createLocalPool({ languages, workers: 1 });
afterAll(async () => {
  await verifier.close();
  rmSync(folder, { recursive: true });
});

const here = () =>
  currentEnvironment({
    provider: "cpu",
    sampler: "cpu",
    threads: 2,
    verifier,
    languages: [languages.get("lua"), languages.get("bash")],
  });

test("a run's machine, threads and tools are written down once", async () => {
  const environment = await here();
  expect(await recordEnvironment(folder, environment)).toBeNull();
  expect(JSON.parse(readFileSync(join(folder, "environment.json"), "utf8"))).toEqual(environment);
  const { version } = JSON.parse(readFileSync(join(packageRoot, "package.json"), "utf8")) as {
    version: string;
  };
  expect(environment).toMatchObject({ retort: version, node: process.version, provider: "cpu", threads: 2 });
  expect(environment["language lua"]).toMatch(/^Lua 5\.4/);
  expect(environment["language bash"]).toMatch(/bash/);
  expect(environment.onnxruntime).toMatch(/^1\.\d+/);
  expect(await recordEnvironment(folder, await here())).toBeNull();
});

test("going on elsewhere is told, and what the run began on stays on record", async () => {
  const before = readFileSync(join(folder, "environment.json"), "utf8");
  const elsewhere = { ...(await here()), "language lua": "Lua 5.3.6", cpu_flags: "sse2" };
  const { "language lua": lua } = await here();
  expect(await recordEnvironment(folder, elsewhere)).toBe(
    `This is not what the run began on: cpu_flags; language lua was ${lua}, is Lua 5.3.6. Its numbers may differ from an uninterrupted run's.`,
  );
  expect(readFileSync(join(folder, "environment.json"), "utf8")).toBe(before);
});
