/** rollout.base_precision and --base-precision where int8 has no use: told before anything is sampled. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { retort } from "../cli/retort.js";
import { prepareRun } from "./small-policy.js";

const root = mkdtempSync(join(tmpdir(), "base-precision-"));
let file = "";
beforeAll(async () => {
  file = await prepareRun(root);
});
afterAll(() => rmSync(root, { recursive: true }));

const SMALL = "need float32 for a policy of fewer than 64 million parameters";

test.each([
  { what: "all weights are learned", set: [], says: "set policy.lora, or leave it out" },
  {
    what: "nothing weighs the samples by their importance",
    set: ["policy.lora.rank=4", "objective.importance_clip=null"],
    says: "set objective.importance_clip (2 is usual), or leave it out",
  },
  {
    what: "a server samples",
    set: [
      "policy.lora.rank=4",
      "rollout.engine={type: openai, base_url: 'http://127.0.0.1:9/v1', model: m, weights: {push: vllm_lora}}",
    ],
    says: "int8 is for our own engine",
  },
  { what: "the policy is small", set: ["policy.lora.rank=4"], says: SMALL },
])("a run with int8 where $what ends with 2 and says what to set", async ({ set, says }) => {
  const keys = ["rollout.base_precision=int8", `run.dir=${join(root, "run")}`, ...set];
  const { code, stderr } = await retort(["train", file, ...keys.flatMap((key) => ["--set", key])]);
  expect(stderr).toContain("rollout.base_precision");
  expect(stderr).toContain(says);
  expect(code).toBe(2);
});

test.each([
  ["generate", "--prompt", "3"],
  ["serve", "--port", "0"],
  ["eval", "--language", "lua", "--tasks", "TASKS", "--out", "OUT"],
])("retort %s --base-precision int8 of a small policy ends with 2", async (...command) => {
  const places: Record<string, string> = { TASKS: join(root, "heldout.jsonl"), OUT: join(root, "out.jsonl") };
  const [name, ...rest] = command.map((word) => places[word] ?? word);
  const policy = ["--policy", join(root, "policy"), "--device", "cpu", "--base-precision", "int8"];
  const { code, stderr } = await retort([name!, ...policy, ...rest]);
  expect(stderr).toContain("--base-precision");
  expect(stderr).toContain(SMALL);
  expect(code).toBe(2);
});
