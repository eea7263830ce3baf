import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import fc from "fast-check";
import { afterAll, expect, test } from "vitest";
import { z } from "zod";
import { ConfigFileError, loadConfigFile } from "../../coordinator/config-file.js";
import { ConfigError } from "../../core/index.js";
import { editDistance, nearest } from "../../core/nearest.js";

const folder = mkdtempSync(join(tmpdir(), "config-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = join(folder, "run.yaml");

const Schema = z.strictObject({
  run: z.strictObject({ seed: z.int().min(0).default(0), name: z.string().default("x") }).prefault({}),
  policy: z.strictObject({
    path: z.string().meta({ format: "path" }),
    device: z.enum(["auto", "cpu"]).default("auto"),
  }),
  rollout: z
    .strictObject({
      samples_per_prompt: z.int().min(2).default(4),
      temperature: z.number().positive().default(1),
      folders: z.array(z.string().meta({ format: "path" })).default([]),
    })
    .prefault({}),
  objective: z
    .discriminatedUnion("type", [
      z.strictObject({ type: z.literal("grpo"), clip_low: z.number().default(0.2) }),
      z.strictObject({ type: z.literal("sdpo"), alpha: z.number().min(0).max(1).default(0.5) }),
    ])
    .default({ type: "grpo", clip_low: 0.2 }),
});

function load(text: string, overrides: readonly string[] = []): z.infer<typeof Schema> {
  writeFileSync(file, text);
  return loadConfigFile(file, Schema, overrides);
}

/** The lines of the error, without the folder. */
function complaints(text: string, overrides: readonly string[] = []): string[] {
  try {
    load(text, overrides);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error.message.replaceAll(`${folder}/`, "").split("\n");
  }
  throw new Error("the configuration was accepted");
}

test("defaults fill what is left out, and paths resolve relative to the file", () => {
  expect(load("policy: {path: ../model}\nrollout: {folders: [a, /b]}\n")).toEqual({
    run: { seed: 0, name: "x" },
    policy: { path: resolve(folder, "../model"), device: "auto" },
    rollout: { samples_per_prompt: 4, temperature: 1, folders: [join(folder, "a"), "/b"] },
    objective: { type: "grpo", clip_low: 0.2 },
  });
});

test("--set wins over the file, reads YAML values, and its paths are relative to the working directory", () => {
  const config = load("policy: {path: m}\n", [
    "run.seed=7",
    "policy.path=here",
    "objective={type: sdpo, alpha: 1}",
  ]);
  expect([config.run.seed, config.policy.path, config.objective]).toEqual([
    7,
    resolve("here"),
    { type: "sdpo", alpha: 1 },
  ]);
});

test.each([
  {
    name: "a misspelt key",
    text: "policy: {path: m}\nrollout:\n  temprature: 0.5\n",
    says: ["run.yaml:3:3: rollout.temprature: unknown key. Did you mean rollout.temperature?"],
  },
  {
    name: "camelCase",
    text: "policy: {path: m}\nrollout:\n  samplesPerPrompt: 4\n",
    says: ["run.yaml:3:3: rollout.samplesPerPrompt: unknown key. Did you mean rollout.samples_per_prompt?"],
  },
  {
    name: "a key in the wrong section",
    text: "policy: {path: m}\nseed: 3\n",
    says: ["run.yaml:2:1: seed: unknown key here. It belongs at run.seed."],
  },
  {
    name: "a key like nothing",
    text: "policy: {path: m}\nrun: {zzz: 1}\n",
    says: ["run.yaml:2:7: run.zzz: unknown key. Keys of run: seed, name."],
  },
  {
    name: "a key of another variant",
    text: "policy: {path: m}\nobjective:\n  type: grpo\n  alpha: 0.5\n",
    says: [
      "run.yaml:4:3: objective.alpha: not a key of this type of objective, whose keys are: type, clip_low.",
    ],
  },
  {
    name: "a wrong type",
    text: "policy: {path: m}\nrollout:\n  temperature: hot\n",
    says: ['run.yaml:3:16: rollout.temperature: need a number, got "hot".'],
  },
  {
    name: "out of range",
    text: "policy: {path: m}\nrollout: {samples_per_prompt: 1, temperature: 0}\n",
    says: [
      "run.yaml:2:31: rollout.samples_per_prompt: need a number of at least 2, got 1.",
      "run.yaml:2:47: rollout.temperature: need a number above 0, got 0.",
    ],
  },
  {
    name: "a fraction for an integer",
    text: "policy: {path: m}\nrun: {seed: 1.5}\n",
    says: ["run.yaml:2:13: run.seed: need an integer, got 1.5."],
  },
  {
    name: "an unknown choice",
    text: "policy: {path: m, device: cpuu}\n",
    says: ['run.yaml:1:27: policy.device: need one of auto, cpu, got "cpuu". Did you mean cpu?'],
  },
  {
    name: "an unknown variant",
    text: "policy: {path: m}\nobjective: {type: gpro}\n",
    says: ['run.yaml:2:19: objective.type: need one of grpo, sdpo, got "gpro". Did you mean grpo?'],
  },
  {
    name: "a missing key",
    text: "policy:\n  device: cpu\n",
    says: ["run.yaml:1:1: policy.path: missing: need text."],
  },
  { name: "an empty file", text: "", says: ["run.yaml:1:1: the file: need a map, got null."] },
  {
    name: "a section that is no map",
    text: "policy: {path: m}\nrun: 3\n",
    says: ["run.yaml:2:6: run: need a map, got 3."],
  },
  {
    name: "broken YAML",
    text: "policy: {path: m\nrun: [\n",
    says: [expect.stringMatching(/^run\.yaml:\d+:\d+: need valid YAML \(/) as unknown as string],
  },
  {
    name: "a key written twice",
    text: "policy: {path: m}\npolicy: {path: n}\n",
    says: ["run.yaml:2:1: need valid YAML (Map keys must be unique)."],
  },
])("$name is told with its place and the way out", ({ text, says }) => {
  expect(complaints(text)).toEqual(says);
});

test.each([
  {
    set: "rollout.temprature=1",
    says: "--set rollout.temprature=1: rollout.temprature: unknown key. Did you mean rollout.temperature?",
  },
  { set: "run.seed=x", says: '--set run.seed=x: run.seed: need a number, got "x".' },
  { set: "run.seed", says: '--set: need KEY=VALUE, got "run.seed". For example --set run.seed=3' },
  { set: "run..seed=1", says: '--set: need KEY=VALUE, got "run..seed=1". For example --set run.seed=3' },
])("a wrong --set is told as such: $set", ({ set, says }) => {
  expect(complaints("policy: {path: m}\n", [set])).toEqual([says]);
});

test("a missing file is named", () => {
  expect(() => loadConfigFile(join(folder, "none.yaml"), Schema)).toThrow(
    `${join(folder, "none.yaml")}: need a file`,
  );
});

test("every mistake is told at once", () => {
  writeFileSync(file, "run: {sed: 1}\nrollot: {}\npolicy: {path: 3}\n");
  const error = ((): unknown => {
    try {
      return loadConfigFile(file, Schema);
    } catch (thrown) {
      return thrown;
    }
  })();
  expect(error).toBeInstanceOf(ConfigFileError);
  expect((error as Error).message.split("\n").map((line) => line.replace(`${folder}/`, ""))).toEqual([
    "run.yaml:1:7: run.sed: unknown key. Did you mean run.seed?",
    "run.yaml:3:16: policy.path: need text, got 3.",
    "run.yaml:2:1: rollot: unknown key. Did you mean rollout?",
  ]);
});

test.each([
  ["kitten", "sitting", 3],
  ["ab", "ba", 1],
  ["", "abc", 3],
  ["same", "same", 0],
] as const)("the distance of %s and %s is %d", (a, b, want) => {
  expect(editDistance(a, b)).toBe(want);
});

test("the distance is symmetric and at most the longer word", () => {
  fc.assert(
    fc.property(fc.string(), fc.string(), (a, b) => {
      const distance = editDistance(a, b);
      expect(distance).toBe(editDistance(b, a));
      expect(distance).toBeLessThanOrEqual(Math.max(a.length, b.length));
    }),
  );
});

test("one slip in a long enough key still finds it", () => {
  const keys = ["samples_per_prompt", "temperature", "max_new_tokens", "checkpoint"];
  fc.assert(
    fc.property(fc.constantFrom(...keys), fc.nat(), fc.constantFrom("", "x", "_"), (key, at, put) => {
      const i = at % key.length;
      expect(nearest(key.slice(0, i) + put + key.slice(i + 1), keys)).toBe(key);
    }),
  );
});
