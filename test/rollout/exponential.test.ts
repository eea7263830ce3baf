import fc from "fast-check";
import { expect, test } from "vitest";
import { exponential } from "../../rollout/exponential.js";

test("is exp within (20 + |x|) 1e-16 for every x from -700 to 0", () =>
  fc.assert(
    fc.property(fc.double({ min: -700, max: 0, noNaN: true }), (x) => {
      expect(Math.abs(exponential(x) / Math.exp(x) - 1)).toBeLessThan((20 - x) * 1e-16);
    }),
    { numRuns: 20_000 },
  ));

test("is exactly 1 at 0, 0 far below, and NaN for NaN", () => {
  expect([exponential(0), exponential(-701), exponential(-Infinity)]).toEqual([1, 0, 0]);
  expect(exponential(Number.NaN)).toBeNaN();
});
