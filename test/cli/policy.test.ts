import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";
import { writeSmallPolicy } from "../coordinator/small-policy.js";
import { retort } from "./retort.js";

const root = mkdtempSync(join(tmpdir(), "cli-policy-"));
const small = join(root, "policy");
afterAll(() => rmSync(root, { recursive: true }));
beforeAll(() => writeSmallPolicy(small));

describe("retort score refuses", () => {
  const folder = join(packageRoot, "test/vectors/policies/llama");
  test.each([
    { line: '{"ids":[1,2]}\n{"ids":[1,"x"]}', says: "ids.jsonl:2: need lines of" },
    { line: '{"ids":[1,97]}', says: "ids.jsonl:1: need ids from 0 to 96, got 97." },
    { line: '{"ids":[1]}', says: 'ids.jsonl:1: need lines of {"ids": [two or more token ids]}.' },
    { line: `{"ids":[${new Array(257).fill(1).join()}]}`, says: "ids.jsonl:1: need at most 256 ids" },
  ])("$line", async ({ line, says }) => {
    const file = join(root, "ids.jsonl");
    writeFileSync(file, line);
    const { code, stdout, stderr } = await retort([
      "score",
      "--policy",
      folder,
      "--ids",
      file,
      "--device",
      "cpu",
    ]);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(says);
  });
});

describe("retort generate", () => {
  const generate = (...args: string[]) => retort(["generate", "--policy", small, "--device", "cpu", ...args]);

  test("prints what the policy learned, greedily, and nothing else", async () => {
    const { code, stdout, stderr } = await generate("--prompt", "3");
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^print\([34]\)\n$/);
  });

  test("samples by its seed", async () => {
    const sample = async (seed: string): Promise<string> =>
      (await generate("--prompt", "3", "--temperature", "3", "--seed", seed, "--max-new-tokens", "24"))
        .stdout;
    const [first, again, other] = await Promise.all([sample("1"), sample("1"), sample("2")]);
    expect(again).toBe(first);
    expect(other).not.toBe(first);
  });

  test("refuses a prompt that is longer than the policy's positions, and a folder that is no policy", async () => {
    const long = await generate("--prompt", "9".repeat(300));
    expect([long.code, long.stdout]).toEqual([2, ""]);
    expect(long.stderr).toContain(
      "retort: --prompt: need fewer than 256 tokens, the policy's positions, got 302.",
    );
    const nothing = await retort(["generate", "--policy", join(root, "none"), "--prompt", "x"]);
    expect(nothing.code).toBe(2);
    expect(nothing.stderr).toContain(`${join(root, "none", "config.json")}: need a Hugging Face config.json`);
  });
});
