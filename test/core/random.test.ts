import fc from "fast-check";
import { expect, test } from "vitest";
import { philox, randomStream, uniformAt } from "../../core/index.js";

// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
test.each([
  { counter: [0, 0, 0, 0], key: [0, 0], want: [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8] },
  {
    counter: [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
    key: [0xffffffff, 0xffffffff],
    want: [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  },
  {
    counter: [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    key: [0xa4093822, 0x299f31d0],
    want: [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  },
] as const)("philox gives the published answer for counter $counter", ({ counter, key, want }) => {
  expect(philox(counter, key)).toEqual(want);
});

test("a number depends on its counters alone, not on what was drawn before", () => {
  const stream = randomStream(7, "shuffle", 3);
  const drawn = [stream.next(), stream.next(), stream.next()];
  expect(uniformAt(7, "shuffle", 3, 0, 2)).toBe(drawn[2]);
  expect(new Set([...drawn, uniformAt(8, "shuffle", 3), uniformAt(7, "sample", 3)]).size).toBe(5);
});

test("uniform numbers have the mean and spread of the uniform distribution", () => {
  const stream = randomStream(1, "moments");
  const numbers = Array.from({ length: 20_000 }, () => stream.next());
  const mean = numbers.reduce((a, b) => a + b) / numbers.length;
  const variance = numbers.reduce((a, b) => a + (b - mean) ** 2, 0) / numbers.length;
  expect(mean).toBeCloseTo(0.5, 2);
  expect(variance).toBeCloseTo(1 / 12, 2);
});

test("a shuffle keeps every item and repeats for the same seed", () =>
  fc.assert(
    fc.property(fc.array(fc.integer()), fc.nat(), (items, seed) => {
      const shuffled = randomStream(seed, "s").shuffle(items);
      expect([...shuffled].sort()).toEqual([...items].sort());
      expect(randomStream(seed, "s").shuffle(items)).toEqual(shuffled);
    }),
  ));
