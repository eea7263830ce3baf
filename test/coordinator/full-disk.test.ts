/** A disk that is full while a checkpoint is saved: a real file system of a few megabytes, which needs no root. */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { CheckpointStore } from "../../checkpoints/index.js";
import { main } from "../cli/retort.js";
import { prepareRun } from "./small-policy.js";
import { numbersOf, stepRows, train } from "./training-process.js";

const root = mkdtempSync(join(tmpdir(), "full-disk-"));
const disk = join(root, "disk");
const kept = join(root, "kept");
const SETTINGS = ["checkpoint.every=1", "checkpoint.keep=100", "evaluation.every=0"].flatMap((each) => [
  "--set",
  each,
]);
let file = "";
afterAll(() => rmSync(root, { recursive: true }));
beforeAll(async () => {
  for (const folder of [disk, kept]) mkdirSync(folder);
  file = await prepareRun(root);
});

/** What happens on the disk, which ends with its mount: all that is asked about it is copied out to `kept`. */
const script = (command: string): string => `
head -c 1500000 /dev/zero > ${disk}/other
${command} 2> ${kept}/stderr; echo $? > ${kept}/code
cp -r ${disk}/run ${kept}/full
rm ${disk}/other
${command} --resume 2> ${kept}/stderr-resumed; echo $? > ${kept}/code-resumed
cp -r ${disk}/run ${kept}/resumed
`;
const said = (name: string): string => readFileSync(join(kept, name), "utf8").trimEnd();

test("a disk that is full while a checkpoint is saved costs that checkpoint alone; with space the run goes on to the same numbers", async () => {
  const arguments_ = ["train", file, "--set", `run.dir=${disk}/run`, ...SETTINGS];
  writeFileSync(join(root, "script.sh"), script(["node", main, ...arguments_].join(" ")));
  const wall = ["--dev-bind", "/", "/", "--size", "3500000", "--tmpfs", disk];
  const done = spawnSync("bwrap", [...wall, "sh", join(root, "script.sh")], { encoding: "utf8" });
  expect([done.status, done.stderr]).toEqual([0, ""]);

  const full = join(kept, "full");
  const lost = stepRows(full).length;
  expect(lost).toBeGreaterThan(0);
  expect(lost).toBeLessThanOrEqual(6);
  const message = said("stderr").split("\n").slice(-2).join("\n");
  expect(said("code")).toBe("1");
  expect(message).toContain(
    `retort: the checkpoint of step ${lost} could not be saved: ${disk}/run/checkpoints/`,
  );
  expect(message).toContain("could not be written: ENOSPC: no space left on device");
  expect(message).toContain("Those before it are whole: make room, then go on with --resume.");
  const store = new CheckpointStore(join(full, "checkpoints"));
  const before = Array.from({ length: lost }, (_, step) => step);
  expect(await store.steps()).toEqual(before);
  for (const step of before) expect((await store.load(step)).step).toBe(step); // each file against its checksum
  expect(readdirSync(store.folder).filter((name) => name.startsWith("."))).toEqual([]);

  expect(said("stderr-resumed")).toContain(`going on after step ${lost - 1}`);
  expect(said("code-resumed")).toBe("0");
  const whole = join(root, "whole");
  await train([file, "--set", `run.dir=${whole}`, ...SETTINGS]);
  expect(numbersOf(join(kept, "resumed"))).toEqual(numbersOf(whole));
});
