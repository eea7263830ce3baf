import fc from "fast-check";
import { expect, test } from "vitest";
import { createDrawOrder } from "../../coordinator/draw.js";

test("an epoch draws every task once, and the next epoch in another order", () => {
  const draw = createDrawOrder(3, 40);
  const epoch = (number: number): number[] =>
    Array.from({ length: 40 }, (_, i) => draw(number * 40 + i).taskIndex);
  const sorted = Array.from({ length: 40 }, (_, i) => i);
  expect([...epoch(0)].sort((a, b) => a - b)).toEqual(sorted);
  expect([...epoch(1)].sort((a, b) => a - b)).toEqual(sorted);
  expect(epoch(1)).not.toEqual(epoch(0));
  expect(draw(95)).toMatchObject({ epoch: 2 });
});

test("a position's draw does not depend on what was drawn before it", () =>
  fc.assert(
    fc.property(fc.nat(1000), fc.integer({ min: 1, max: 50 }), fc.nat(400), (seed, tasks, position) => {
      const walked = createDrawOrder(seed, tasks);
      for (let earlier = 0; earlier < position; earlier++) walked(earlier);
      expect(createDrawOrder(seed, tasks)(position)).toEqual(walked(position));
    }),
    { numRuns: 30 },
  ));

test("another seed draws in another order", () => {
  const first = Array.from({ length: 20 }, (_, i) => createDrawOrder(1, 20)(i).taskIndex);
  const second = Array.from({ length: 20 }, (_, i) => createDrawOrder(2, 20)(i).taskIndex);
  expect(second).not.toEqual(first);
});
