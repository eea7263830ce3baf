import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { keptSteps } from "../../checkpoints/retention.js";
import { CheckpointError, CheckpointStore } from "../../checkpoints/store.js";

const root = mkdtempSync(join(tmpdir(), "store-"));
afterAll(() => rmSync(root, { recursive: true }));
let folder = "";
let count = 0;
beforeEach(() => {
  folder = join(root, String(count++));
});

const names = (): string[] => readdirSync(folder).sort();

test("a saved step comes back with its files and its metrics", async () => {
  const store = new CheckpointStore(folder);
  await store.save(7, { "state.json": "{}", "policy/config.json": "[1]" }, { pass_rate: 0.5 });
  const { step, folder: at, files, metrics } = (await store.latest())!;
  expect({ step, files, metrics }).toEqual({
    step: 7,
    files: ["state.json", "policy/config.json"],
    metrics: { pass_rate: 0.5 },
  });
  expect(readFileSync(join(at, "policy/config.json"), "utf8")).toBe("[1]");
});

test("an empty or missing folder has no latest checkpoint", async () => {
  expect(await new CheckpointStore(folder).latest()).toBeNull();
});

test("a file may be written by a function, and is summed after it", async () => {
  const store = new CheckpointStore(folder);
  await store.save(1, { a: async (path) => writeFileSync(path, "made") });
  writeFileSync(join(folder, "step-000001", "a"), "mode");
  await expect(store.load(1)).rejects.toThrow("a does not match its checksum");
});

const damages = [
  {
    how: "a flipped byte",
    harm: (at: string) => writeFileSync(join(at, "w"), "0123456788"),
    says: "w does not match its checksum",
  },
  {
    how: "a cut file",
    harm: (at: string) => truncateSync(join(at, "w"), 4),
    says: "w has 4 bytes instead of 10",
  },
  { how: "a missing file", harm: (at: string) => rmSync(join(at, "w")), says: "ENOENT" },
  {
    how: "a cut manifest",
    harm: (at: string) => truncateSync(join(at, "manifest.json"), 40),
    says: "need an undamaged checkpoint",
  },
  {
    how: "a changed manifest",
    harm: (at: string) => {
      const path = join(at, "manifest.json");
      writeFileSync(path, readFileSync(path, "utf8").replace('"loss": 2', '"loss": 3'));
    },
    says: "manifest.json does not match its own checksum",
  },
  { how: "no manifest", harm: (at: string) => rmSync(join(at, "manifest.json")), says: "ENOENT" },
];

test.each(damages)("with $how the newest is passed over, with a warning", async ({ harm, says }) => {
  const warnings: string[] = [];
  const store = new CheckpointStore(folder, { warn: (line) => warnings.push(line) });
  await store.save(1, { w: "old" });
  await store.save(2, { w: "0123456789" }, { loss: 2 });
  harm(join(folder, "step-000002"));
  expect((await store.latest())!.step).toBe(1);
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toContain(says);
  expect(warnings[0]).toContain("step-000002");
});

test("the newest N and the best stay, the others go", async () => {
  const store = new CheckpointStore(folder, { keepLast: 2, keepBest: "score" });
  for (const [step, score] of [
    [1, 0.1],
    [2, 0.9],
    [3, 0.3],
    [4, 0.9],
    [5, 0.2],
  ] as const) {
    await store.save(step, { w: "x" }, { score });
  }
  expect(await store.steps()).toEqual([2, 4, 5]);
});

test.each([
  {
    name: "all without a limit",
    rule: { newest: 9, keepLast: Infinity, scores: new Map() },
    want: [1, 2, 3],
  },
  { name: "never none", rule: { newest: 9, keepLast: 0, scores: new Map() }, want: [3] },
  { name: "a later history goes", rule: { newest: 2, keepLast: 5, scores: new Map([[3, 1]]) }, want: [1, 2] },
  {
    name: "NaN is not the best",
    rule: {
      newest: 3,
      keepLast: 1,
      scores: new Map([
        [1, Number.NaN],
        [2, 0],
      ]),
    },
    want: [2, 3],
  },
])("kept steps: $name", ({ rule, want }) => {
  expect([...keptSteps([1, 2, 3], rule)].sort()).toEqual(want);
});

test("saving a step again replaces it, and drops later steps of a history that was cut back", async () => {
  const store = new CheckpointStore(folder);
  for (const step of [1, 2, 3]) await store.save(step, { w: "first" });
  await store.save(2, { w: "second" });
  expect(names()).toEqual(["step-000001", "step-000002"]);
  expect(readFileSync(join(folder, "step-000002/w"), "utf8")).toBe("second");
});

test("what a killed save left behind is removed by the next one and never taken for a checkpoint", async () => {
  const store = new CheckpointStore(folder);
  mkdirSync(join(folder, ".saving-3/policy"), { recursive: true });
  writeFileSync(join(folder, ".saving-3/policy/w"), "half");
  expect(await store.latest()).toBeNull();
  await store.save(3, { w: "x" });
  expect(names()).toEqual(["step-000003"]);
});

test("a save that fails leaves the earlier checkpoint as the latest", async () => {
  const store = new CheckpointStore(folder);
  await store.save(1, { w: "x" });
  const failing = store.save(2, { w: async () => Promise.reject(new Error("disk full")) });
  await expect(failing).rejects.toThrow("disk full");
  expect((await store.latest())!.step).toBe(1);
});

test.each([
  { where: "below /proc, where no folder can be", at: () => "/proc/nowhere/checkpoints", says: "ENOENT" },
  {
    where: "below a file",
    at: () => {
      writeFileSync(folder, "a file");
      return join(folder, "checkpoints");
    },
    says: "ENOTDIR",
  },
])("a store $where says that the step could not be saved, and why", async ({ at, says }) => {
  const failure = await new CheckpointStore(at()).save(4, { w: "x" }).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(CheckpointError);
  expect((failure as Error).message).toMatch(`the checkpoint of step 4 could not be saved: ${says}`);
});
