import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, expect, test } from "vitest";
import { CheckpointStore, float32Values, readSafetensors } from "../../checkpoints/index.js";
import { builtModule } from "../../core/index.js";

const folder = mkdtempSync(join(tmpdir(), "kill-"));
afterAll(() => rmSync(folder, { recursive: true }));

const store = pathToFileURL(builtModule("checkpoints/index.js")).href;

/** Saves step after step for ever; every value of a step's tensor is the step, so a mixture would show. */
const CHILD = `
import { CheckpointStore, writeSafetensors } from "${store}";
const store = new CheckpointStore(process.argv[1], { keepLast: 2, keepBest: "score" });
const latest = await store.latest();
process.stdout.write("ready");
for (let step = (latest?.step ?? 0) + 1; ; step++) {
  const data = new Float32Array(40_000).fill(step);
  await store.save(step, {
    "policy/model.safetensors": (path) => writeSafetensors(path, [["w", { dtype: "F32", shape: [data.length], data }]]),
    "state.json": JSON.stringify({ step }),
  }, { score: step % 3 });
}`;

/** Runs the saving child and kills it, that many milliseconds after it began to save. */
const killAfter = (ms: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--input-type=module", "-e", CHILD, folder], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    child.stdout.once("data", () => setTimeout(() => child.kill("SIGKILL"), ms));
    child.once("exit", (code, signal) =>
      signal === "SIGKILL" ? resolve() : reject(new Error(`child: ${code}`)),
    );
  });

test("after SIGKILL at any moment of a save the latest checkpoint is whole, and no older than the one before", async () => {
  const warnings: string[] = [];
  const reader = new CheckpointStore(folder, { warn: (line) => warnings.push(line) });
  let last = 0;
  // Where the disk is busy a save takes longer: then all again, with more patience.
  const delays = [40, 1, 3, 7, 13, 20, 33, 50, 5, 27, 61, 2];
  for (let round = 0, turn = 0; turn < delays.length || (last <= 2 && round < 5); turn++) {
    if (turn === delays.length) [turn, round] = [0, round + 1];
    await killAfter(delays[turn]! * 2 ** round);
    const latest = await reader.latest();
    if (latest === null) continue;
    expect(latest.step).toBeGreaterThanOrEqual(last);
    last = latest.step;
    const weights = readSafetensors(join(latest.folder, "policy/model.safetensors")).tensors.get("w")!;
    expect(new Set(float32Values(weights))).toEqual(new Set([latest.step]));
  }
  expect(last).toBeGreaterThan(2);
  expect(warnings).toEqual([]);
  await reader.save(last + 1, { "state.json": "{}" });
  expect(readdirSync(folder).filter((name) => !name.startsWith("step-"))).toEqual([]);
});
