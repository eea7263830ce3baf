import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadRunConfig, RunConfig } from "../../coordinator/config.js";
import { inputSchema, keysAt } from "../../coordinator/json-schema.js";
import { SCHEMAS, type SchemaName, schemaText } from "../../coordinator/schemas.js";
import { ConfigError, packageRoot } from "../../core/index.js";
import { loadLanguages } from "../../verifiers/index.js";

const configs = join(packageRoot, "configs");
const filesOf = (folder: string): string[] =>
  readdirSync(join(configs, folder)).map((name) => join(configs, folder, name));
const runs = filesOf("runs");
const quickstart = join(configs, "runs", "quickstart.yaml");

test.each(runs)("the shipped run file %s is right, and its language exists", (file) => {
  const config = loadRunConfig(file);
  expect(loadLanguages(config.languages.folders).names).toContain(config.languages.default);
});

test("every run file is YAML and names its schema for editors", () => {
  expect(runs.length).toBeGreaterThan(1);
  for (const file of runs) {
    expect(file).toMatch(/\.yaml$/);
    expect(readFileSync(file, "utf8").split("\n")[0]).toBe(
      "# yaml-language-server: $schema=../run.schema.json",
    );
  }
});

test.each(Object.keys(SCHEMAS) as SchemaName[])(
  "configs/%s.schema.json is current (npm run schemas)",
  (name) => {
    expect(readFileSync(join(configs, `${name}.schema.json`), "utf8")).toBe(schemaText(name));
  },
);

test("a run file has the contract's sections and no other", () => {
  expect(keysAt(inputSchema(RunConfig), undefined, [])).toEqual([
    "run",
    "policy",
    "tasks",
    "languages",
    "rollout",
    "verifier",
    "objective",
    "optimizer",
    "evaluation",
    "checkpoint",
    "logging",
  ]);
});

/** Dotted paths of the keys without a sentence; a key of several types has one above its variants. */
function undescribed(
  schema: ReturnType<typeof inputSchema> & { description?: string },
  at: string,
): string[] {
  const variants = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])];
  const keys = [schema, ...variants].flatMap((each) => Object.entries(each.properties ?? {}));
  const isKey = at.split(".").length > 2;
  const isSilent =
    isKey && schema.description === undefined && schema.const === undefined && keys.length === 0;
  return [...(isSilent ? [at] : []), ...keys.flatMap(([key, inner]) => undescribed(inner, `${at}.${key}`))];
}

test("every key of a run file has a sentence that an editor can show", () => {
  const missing = Object.entries(inputSchema(RunConfig).properties ?? {}).flatMap(([name, section]) =>
    undescribed(section, `run file.${name}`),
  );
  expect(missing).toEqual([]);
});

describe("what must agree between sections", () => {
  const complaint = (...sets: string[]): string => {
    try {
      loadRunConfig(quickstart, sets);
    } catch (error) {
      if (error instanceof ConfigError) return error.message;
      throw error;
    }
    return "";
  };

  test("GRPO needs siblings", () => {
    expect(complaint("objective={type: grpo}", "rollout.samples_per_prompt=1")).toBe(
      "--set rollout.samples_per_prompt=1: rollout.samples_per_prompt: need an integer of 2 or more. " +
        "GRPO compares siblings: raise it, or learn from feedback with objective.type: sdpo.",
    );
  });

  test("a step of more attempts than any machine ends, and a number that is none, are told", () => {
    expect(complaint("rollout.prompts_per_step=100000000")).toContain(
      "rollout.prompts_per_step: need at most 1000000 attempts in a step: with rollout.samples_per_prompt these are 400000000",
    );
    expect(complaint("optimizer.lr=1e400")).toContain("optimizer.lr: need a number, got Infinity");
  });

  test("a self-teacher needs something to be shown", () => {
    expect(complaint("objective={type: sdpo, feedback: never}", "rollout.samples_per_prompt=1")).toContain(
      "objective.feedback: with one sample there is no sibling",
    );
  });

  test("a server is handed adapters where the run learns one, and whole weights where it does not", () => {
    const engine = (push: string): string =>
      `rollout.engine={type: openai, base_url: "http://localhost:8000/v1", model: m, weights: {push: ${push}}}`;
    expect(complaint(engine("vllm_lora"))).toContain("vllm_lora hands over adapters: set policy.lora");
    expect(complaint(engine("sglang_disk"), "policy.lora.rank=4")).toContain(
      "with policy.lora use vllm_lora",
    );
    expect([complaint(engine("sglang_disk")), complaint(engine("vllm_lora"), "policy.lora.rank=4")]).toEqual([
      "",
      "",
    ]);
  });

  test("a key of another objective is refused by name", () => {
    expect(complaint("objective={type: raft, lambda: 1}")).toContain(
      "objective.lambda: not a key of this type",
    );
  });
});

test("the saved configuration says the thread count and the run directory", () => {
  const config = loadRunConfig(quickstart, ["run={name: x}"]);
  expect([config.run.dir, Number.isInteger(config.policy.threads)]).toEqual(["runs/x", true]);
});
