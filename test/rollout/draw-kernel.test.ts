import fc from "fast-check";
import { expect, test } from "vitest";
import { BLOCK, weigh } from "../../rollout/draw-kernel.js";

/** exp((logit - top) / temperature), where the top is 0. */
const exponential = (logit: number, temperature: number): number =>
  weigh(Float32Array.of(logit, 0), temperature).weights[0]!;

test("a weight is exp within (20 + |x|) 1e-16 for every x from -700 to 0", () =>
  fc.assert(
    fc.property(
      fc.float({ min: -700, max: 0, noNaN: true }),
      fc.double({ min: 1, max: 50, noNaN: true }),
      (logit, temperature) => {
        const x = logit / temperature;
        expect(Math.abs(exponential(logit, temperature) / Math.exp(x) - 1)).toBeLessThan((20 - x) * 1e-16);
      },
    ),
    { numRuns: 20_000 },
  ));

test("a weight is exactly 1 at the top, 0 far below it, and NaN where the logit is", () => {
  const { weights, top } = weigh(Float32Array.of(3, 3, -698, Number.NEGATIVE_INFINITY), 1);
  expect([top, ...weights.subarray(0, 4)]).toEqual([3, 1, 1, 0, 0]);
  const broken = weigh(Float32Array.of(1, Number.NaN), 1);
  expect([broken.top, broken.weights[1], broken.total]).toEqual([1, Number.NaN, Number.NaN]);
});

test.each([1, 2, 3, 4, 5, 63, 64, 65, 127, 128, 1000, 70_001, 7])(
  "%d words: the largest logit wherever it stands, and sums in the words' order to the bit",
  (vocabulary) => {
    for (const place of new Set([0, vocabulary >> 2, vocabulary >> 1, vocabulary - 1])) {
      const logits = Float32Array.from({ length: vocabulary }, (_, id) => -((id * 7919) % 1009) / 64 - 0.5);
      logits[place] = 0.25;
      const { top, weights, sums, total } = weigh(logits, 0.7);
      expect(top).toBe(0.25);
      const wanted = [0];
      let sum = 0;
      for (let id = 0; id < vocabulary; id++) {
        sum += weights[id]!;
        if (id % BLOCK === BLOCK - 1 || id === vocabulary - 1) wanted.push(sum);
      }
      expect([...sums.subarray(0, wanted.length)]).toEqual(wanted);
      expect(total).toBe(sum);
      expect(total).toBeCloseTo(
        logits.reduce((all, logit) => all + Math.exp((logit - top) / 0.7), 0),
        6,
      );
    }
  },
);
