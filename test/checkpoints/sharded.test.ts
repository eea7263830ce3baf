import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, expect, test } from "vitest";
import { type NamedTensor, readModelTensors, writeSafetensors } from "../../checkpoints/index.js";

const root = mkdtempSync(join(tmpdir(), "sharded-"));
afterAll(() => rmSync(root, { recursive: true }));
let folder = "";
beforeEach(() => {
  folder = mkdtempSync(join(root, "m-"));
});

const one = (value: number): NamedTensor => ({ dtype: "F32", shape: [1], data: Float32Array.of(value) });
const index = (weight_map: Record<string, string>): void =>
  writeFileSync(join(folder, "model.safetensors.index.json"), JSON.stringify({ metadata: {}, weight_map }));

test("the tensors of all shards are one model", async () => {
  await writeSafetensors(join(folder, "a.safetensors"), [["x", one(1)]]);
  await writeSafetensors(join(folder, "b.safetensors"), [["y", one(2)]]);
  index({ x: "a.safetensors", y: "b.safetensors" });
  expect([...readModelTensors(folder)].map(([name, { data }]) => [name, data[0]])).toEqual([
    ["x", 1],
    ["y", 2],
  ]);
});

test("a single file wins over an index", async () => {
  await writeSafetensors(join(folder, "model.safetensors"), [["x", one(3)]]);
  index({ x: "gone.safetensors" });
  expect(readModelTensors(folder).get("x")!.data[0]).toBe(3);
});

test("a tensor that its shard lacks is named", async () => {
  await writeSafetensors(join(folder, "a.safetensors"), [["x", one(1)]]);
  index({ x: "a.safetensors", y: "a.safetensors" });
  expect(() => readModelTensors(folder)).toThrow("a.safetensors lacks y");
});

test.each(["../a.safetensors", "/etc/a.safetensors", "..", "", "a.bin"])(
  "an index may not reach out of its folder, nor to another kind of file: %j",
  (file) => {
    index({ x: file });
    expect(() => readModelTensors(folder)).toThrow(
      `need safetensors files beside the index, got ${JSON.stringify(file)}`,
    );
  },
);

test("a shard that is not there is named, with what to do", () => {
  index({ x: "gone.safetensors" });
  expect(() => readModelTensors(folder)).toThrow(
    "model.safetensors.index.json: need every file that it names beside it; gone.safetensors is missing. The download is incomplete: fetch the model again.",
  );
});

test("a folder without weights names the file that it lacks", () => {
  expect(() => readModelTensors(folder)).toThrow(
    `${join(folder, "model.safetensors")}: need a safetensors file`,
  );
});
