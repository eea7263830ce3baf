import { expect, test } from "vitest";
import { CELLS, type SampleWork, selectedCells, tokensOfTurn } from "../../bench/cells.js";
import { highWaterMark } from "../../bench/contestant.js";
import { type CellResult, logProbDifference, othersShare, type SideResult } from "../../bench/duel.js";
import { busySeconds } from "../../bench/machine.js";
import {
  benchWeights,
  POLICIES,
  sampleBytes,
  sampleOperations,
  trainOperations,
} from "../../bench/policies.js";
import { inWords } from "../../bench/sides.js";
import { median, ratioOf, shareOfLimits, tableOf } from "../../bench/summary.js";
import { parameterCount } from "../../policy/index.js";

const side = (name: string, rates: number[], others = 0): SideResult => ({
  side: name,
  setting: { threads: 2 },
  turns: rates.map((tokens_per_s) => ({ tokens_per_s, cpu_seconds: 1, others })),
  peak_bytes: 300 * 2 ** 20,
  device_mib: null,
  version: "1",
});

const cellNamed = (id: string) => CELLS.find((cell) => cell.id === id)!;

test("the median of an even count lies between the two in the middle", () => {
  expect([median([3, 1, 2]), median([4, 1, 3, 2])]).toEqual([2, 2.5]);
});

test("the policies have the number of parameters that they are named by, within a tenth", () => {
  const millions = ["1M", "10M", "100M"].map((name) => parameterCount(POLICIES[name]!) / 1e6);
  expect(millions.map(Math.round)).toEqual([1, 10, 100]);
});

test("operations of a step are those of its matrix products, three times over in training", () => {
  const config = POLICIES["10M"]!;
  const layer = 2 * 384 * 384 + 2 * 384 * 128 + 3 * 384 * 1024;
  const matrices = 2 * (6 * layer + 2048 * 384);
  const train = { kind: "train", rows: 8, length: 256, steps: 1 } as const;
  expect(trainOperations(config, train)).toBe(3 * (matrices + 6 * 4 * 384 * 256));
  const sample = { kind: "sample", prompts: 2, samples: 8, promptLength: 192, newTokens: 64 } as const;
  expect(sampleOperations(config, sample)).toBe(matrices + 6 * 4 * 384 * (192 + 31.5));
});

test("every cell has a name of its own, and fewer are measured the shorter the run", () => {
  expect(new Set(CELLS.map(({ id }) => id)).size).toBe(CELLS.length);
  const counts = (["quick", "usual", "long"] as const).map((run) =>
    selectedCells({ tables: ["train"], policies: ["100M"], run }).map(({ id }) => id),
  );
  expect(counts).toEqual([
    ["train 100M 4x256"],
    ["train 100M 4x256", "train 100M 1x1024"],
    ["train 100M 4x256", "train 100M 1x1024", "train 100M 1x4096"],
  ]);
  expect(tokensOfTurn(cellNamed("train 1M 8x256").work)).toBe(5 * 8 * 256);
  expect(tokensOfTurn(cellNamed("sample 1M 16x256").work)).toBe(16 * 64);
});

test("the ratio is taken round by round, since a busy minute hits both turns of a round alike", () => {
  const result: CellResult = {
    id: "x",
    sides: [side("Retort", [30, 60, 10]), side("PyTorch", [10, 15, 10])],
    difference: 0,
  };
  expect(ratioOf(result)).toEqual({ median: 3, least: 1, most: 4 });
});

test("a table shows rates, settings, ratio and memory, marks what was busy and says what was left out", () => {
  const [small, large] = [cellNamed("train 1M 8x256"), cellNamed("train 1M 1x4096")];
  const theirs = { ...side("PyTorch", [1000, 1000], 0.3), setting: { threads: 1, blas: 2 } };
  const sides = [side("Retort", [2000, 3000], 0.1), theirs] as const;
  const results = { [small.id]: { id: small.id, sides, difference: 0 } };
  expect(othersShare(results[small.id]!)).toBe(0.2);
  const lines = tableOf([small, large], results, { [large.id]: "needs 5 GiB, 2.0 were free" });
  expect(lines[2]).toMatch(
    /^\| 1M +\| 8 +\| 256 +\| 2,500 \(2\) +\| 1,000 \(1, BLAS 2\) \| 2\.50 \(2\.00-3\.00\) \* \| 20 \/ 8 +\| 300 \/ 300 +\|$/,
  );
  expect(lines[3]).toMatch(/^\| 1M +\| 1 +\| 4096 +\| needs 5 GiB, 2\.0 were free \|/);
  expect(lines.at(-1)).toContain("others used 20 to 20 % of the CPUs");
});

test("greedy continuations are compared up to their first fork, the fork included", () => {
  const a = { seconds: 1, cpu_seconds: 1, tokens: 3, ids: [[1, 2, 3]], log_probs: [[-1, -2, -9]] };
  const b = { ...a, ids: [[1, 4, 5]], log_probs: [[-1, -2.5, -1]] };
  expect(logProbDifference(a, b)).toBe(0.5);
  expect(logProbDifference(a, { ...a, log_probs: [[-1, -2, -8]] })).toBe(1);
  expect(logProbDifference(a, { ...a, log_probs: [[-1.25, -2]] })).toBe(0.25);
});

test("a setting is told in words", () => {
  expect(inWords({ threads: 2, blas: 2, attention: "products" })).toBe("2");
  expect(inWords({ threads: 1, blas: 2, attention: "sums" })).toBe("1, BLAS 2 sums");
  expect(inWords({ threads: 1, weights: "F16" })).toBe("1 F16");
});

test("what Linux tells of memory and of busy CPUs is read", () => {
  expect(highWaterMark("VmPeak:\t 900 kB\nVmHWM:\t    1024 kB\n")).toBe(1024 * 1024);
  expect(busySeconds("cpu  100 200 300 9000 50 10 20 30 0 0\ncpu0 1 1 1 1\n")).toBe(6.6);
});

test("benchmark weights spread by 0.02 in the embedding and by 0.6 / sqrt(fan-in) in a matrix", () => {
  const weights = benchWeights(POLICIES["1M"]!);
  const spread = (name: string): number => {
    const values = weights[name]!;
    return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
  };
  expect(spread("model.embed_tokens.weight")).toBeCloseTo(0.02, 3);
  expect(spread("model.layers.0.mlp.up_proj.weight")).toBeCloseTo(0.6 / Math.sqrt(128), 3);
  expect(spread("model.layers.3.mlp.down_proj.weight")).toBeCloseTo(0.6 / Math.sqrt(384 * 8), 3);
  expect(new Set(weights["model.norm.weight"])).toEqual(new Set([1]));
});

test("the distance to a card's limits is told: arithmetic, and in sampling the bytes that a step must read", () => {
  const cell = cellNamed("sample 10M 16x256");
  const work = cell.work as SampleWork;
  const config = POLICIES["10M"]!;
  const matrices = 6 * (2 * 384 * 384 + 2 * 384 * 128 + 3 * 384 * 1024) + 2048 * 384;
  expect(sampleBytes(config, work)).toBe(4 * (matrices / 16 + 2 * 6 * 128 * 223.5));
  const results = {
    [cell.id]: {
      id: cell.id,
      sides: [side("Retort", [1000]), side("PyTorch", [2000])] as const,
      difference: 0,
    },
  };
  const limits = {
    name: "card",
    tflops: sampleOperations(config, work) * 1e-6,
    tf32_tflops: 1,
    gb_per_s: sampleBytes(config, work) * 1e-5,
  };
  expect(shareOfLimits([cell], results, limits)).toEqual([
    "- sample 10M 16x256: of the card's arithmetic Retort 0.1 %, of its memory's 10.0 %; PyTorch 0.2 %, of its memory's 20.0 %",
  ]);
});
