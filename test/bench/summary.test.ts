import { expect, test } from "vitest";
import type { Contestant } from "../../bench/contestant.js";
import { floatingPointOperations, SHAPES } from "../../bench/shapes.js";
import { median, summarize, tableOf } from "../../bench/summary.js";

const side = (name: string, threads: string): Contestant => ({
  name,
  threads,
  trains: true,
  ask: async (): Promise<never> => {
    throw new Error("this side only has a name");
  },
  close: () => {},
});

test("the median of an even count lies between the two in the middle", () => {
  expect([median([3, 1, 2]), median([4, 1, 3, 2])]).toEqual([2, 2.5]);
});

test("operations of a step are those of its matrix products, three times over in training", () => {
  const shape = SHAPES[0]!;
  const matrices = 2 * (4 * (4 * 256 * 256 + 3 * 256 * 768) + 512 * 256);
  const { trainPerToken, samplePerToken } = floatingPointOperations(shape);
  expect(trainPerToken).toBe(3 * (matrices + 4 * 4 * 256 * 256));
  expect(samplePerToken).toBe(matrices + 4 * 4 * 256 * (12 + 99.5));
});

test("each side enters the ratio at its best setting, compared round by round", () => {
  const rates = [
    { contestant: side("Retort", "1"), train: [10, 10, 10], sample: [5, 5, 5] },
    { contestant: side("Retort", "2"), train: [30, 60, 10], sample: [4, 4, 4] },
    { contestant: side("PyTorch, products", "1"), train: [10, 10, 10], sample: [1, 1, 1] },
    { contestant: side("PyTorch, sums", "1"), train: [], sample: [2, 2.5, 1] },
  ];
  const summary = summarize(SHAPES[0]!, rates);
  expect(summary.ratios).toEqual({ train: 3, sample: 2.5 });
  expect(summary.rows.map((row) => row.train)).toEqual([10, 30, 10, null]);
  const lines = tableOf(summary, 100);
  expect(lines.at(-1)).toBe("best of Retort over best of PyTorch: training 3.00x, sampling 2.50x");
  expect(lines.some((line) => /^PyTorch, sums +1 +- +- +2 +0 %$/.test(line))).toBe(true);
});
