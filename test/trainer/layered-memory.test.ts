import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { packageRoot } from "../../core/index.js";

const MEGABYTE = 2 ** 20;

/** MB that one update allocated at its peak, in a process of its own; the frozen base is mapped and not among them. */
async function peakOf(shape: Record<string, unknown>): Promise<number> {
  const script = join(packageRoot, "scripts/update-memory.mjs");
  const common = { vocabulary: 32_768, rows: 16, prompt: 64, completion: 64, threads: 1 };
  const run = promisify(execFile);
  const { stdout } = await run(process.execPath, [script, JSON.stringify({ ...common, ...shape })]);
  const { peak_mb, before_mb } = JSON.parse(stdout) as { peak_mb: number; before_mb: number };
  return peak_mb - before_mb;
}

test("layer by layer, six layers more cost little memory, and logits of all tokens do not exist", async () => {
  const [whole, wholeDeep] = [
    await peakOf({ recompute: "none", layers: 2 }),
    await peakOf({ recompute: "none", layers: 8 }),
  ];
  const [layered, layeredDeep] = [
    await peakOf({ recompute: "layers", layers: 2 }),
    await peakOf({ recompute: "layers", layers: 8 }),
  ];
  // 2,048 tokens of width 256 in float32: what a layer more has to keep is its input, and its adapter's state. Quiet, that is
  // 60 MB for six against 310 in one graph; on a busy machine the process's own heap moves by 40.
  const input = (2048 * 256 * 4) / MEGABYTE;
  expect(wholeDeep - whole, `${whole} -> ${wholeDeep} MB`).toBeGreaterThan(6 * 12 * input);
  expect(layeredDeep - layered, `${layered} -> ${layeredDeep} MB`).toBeLessThan((wholeDeep - whole) / 2);
  const logits = (1024 * 32_768 * 4) / MEGABYTE; // [tokens, vocabulary], of which one graph holds several
  expect(whole - layered, `${whole} against ${layered} MB`).toBeGreaterThan(2 * logits);
});
