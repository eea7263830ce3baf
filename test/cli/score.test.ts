import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { retort } from "./retort.js";

const folder = mkdtempSync(join(tmpdir(), "cli-score-"));
afterAll(() => rmSync(folder, { recursive: true }));
const ids = join(folder, "ids.jsonl");
const policies = join(packageRoot, "test", "vectors", "policies");

test.each(["llama", "qwen2", "qwen3"])(
  "retort score of %s gives the log-probs of an independent implementation",
  async (family) => {
    const policy = join(policies, family);
    const expected = JSON.parse(readFileSync(join(policy, "expected.json"), "utf8")) as {
      ids: number[][];
      log_probs: number[][];
    };
    writeFileSync(ids, expected.ids.map((row) => `${JSON.stringify({ ids: row })}\n`).join(""));
    const { code, stdout } = await retort(["score", "--policy", policy, "--ids", ids, "--device", "cpu"]);
    const scored = stdout
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { log_probs: number[] }).log_probs);
    expect([code, scored.map((row) => row.length)]).toEqual([0, expected.log_probs.map((row) => row.length)]);
    const worst = Math.max(
      ...scored.flatMap((row, i) => row.map((x, t) => Math.abs(x - expected.log_probs[i]![t]!))),
    );
    expect(worst).toBeLessThan(1e-4);
  },
);

test("sequences of different lengths keep their order", async () => {
  writeFileSync(ids, '{"ids":[3,4,5,6,7]}\n\n{"ids":[3,4,5]}\n{"ids":[3,4]}\n');
  const { stdout } = await retort([
    "score",
    "--policy",
    join(policies, "llama"),
    "--ids",
    ids,
    "--device",
    "cpu",
  ]);
  const scored = stdout
    .trimEnd()
    .split("\n")
    .map((line) => (JSON.parse(line) as { log_probs: number[] }).log_probs);
  expect(scored.map((row) => row.length)).toEqual([4, 2, 1]);
  expect(scored[2]![0]).toBeCloseTo(scored[0]![0]!, 4); // what comes after does not matter
});

test.each([
  { line: "[1]", says: 'need lines of {"ids": [two or more token ids]}' },
  { line: '{"ids":[3]}', says: 'need lines of {"ids": [two or more token ids]}' },
  { line: '{"ids":[1.5]}', says: 'need lines of {"ids": [two or more token ids]}' },
])("a wrong line of ids is exit 2, with its place: $line", async ({ line, says }) => {
  writeFileSync(ids, `{"ids":[1,2]}\n${line}\n`);
  const { code, stdout, stderr } = await retort([
    "score",
    "--policy",
    join(policies, "llama"),
    "--ids",
    ids,
    "--device",
    "cpu",
  ]);
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr).toContain(says);
  expect(stderr).toContain(":2");
});

test("an id outside of the vocabulary is exit 2 and named with file and line, blank lines counted", async () => {
  writeFileSync(ids, '{"ids":[1,2]}\n\n{"ids":[1,100000]}\n');
  const args = ["score", "--policy", join(policies, "llama"), "--ids", ids, "--device", "cpu"];
  const { code, stdout, stderr } = await retort(args);
  expect([code, stdout, stderr]).toEqual([2, "", `retort: ${ids}:3: need ids from 0 to 96, got 100000.\n`]);
});

test("ids that cannot be read are exit 2 and named", async () => {
  const gone = join(folder, "gone.jsonl");
  const args = ["score", "--policy", join(policies, "llama"), "--ids", gone, "--device", "cpu"];
  const { code, stderr } = await retort(args);
  expect([code, stderr]).toEqual([
    2,
    `retort: ${gone}: need a file that can be read (ENOENT: no such file or directory, open '${gone}').\n`,
  ]);
});

test("a folder that is no policy is exit 2 and named", async () => {
  const { code, stderr } = await retort(["score", "--policy", folder, "--ids", ids, "--device", "cpu"]);
  expect([code, stderr.startsWith(`retort: ${folder}`)]).toEqual([2, true]);
});
