import { expect, test } from "vitest";
import type { Contestant } from "../../bench/contestant.js";
import type { Turn } from "../../bench/measure.js";
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
  const turns = (...walls: number[]): Turn[] => walls.map((wall, round) => ({ round, wall, cpu: wall / 2 }));
  const rates = [
    { contestant: side("Retort", "1"), train: turns(10, 10, 10), sample: turns(5, 5, 5) },
    { contestant: side("Retort", "2"), train: turns(30, 60, 10), sample: turns(4, 4, 4) },
    { contestant: side("PyTorch, products", "1"), train: turns(10, 10, 10), sample: turns(1) },
    { contestant: side("PyTorch, sums", "1"), train: [], sample: turns(2, 2.5, 1) },
  ];
  const summary = summarize(SHAPES[0]!, rates);
  expect(summary.ratios).toEqual({ train: 3, sample: 2.5 });
  expect(summary.cpu_ratios).toEqual({ train: 1, sample: 2.5 });
  expect(summary.rows.map((row) => row.train?.tokens_per_s)).toEqual([10, 30, 10, undefined]);
  const lines = tableOf(summary, 100);
  expect(lines.at(-2)).toBe("Retort over PyTorch, each at its best: training 3.00x, sampling 2.50x");
  expect(lines.some((line) => /^PyTorch, sums +1 +- +- +- +2 +1 +0 %$/.test(line))).toBe(true);
});
