import fc from "fast-check";
import { expect, test } from "vitest";
import { meanPassAtK, passAtK } from "../../coordinator/pass-at-k.js";

/** The definition: the share of all k-subsets of n attempts, c of them right, that hold a right one. */
function byCounting(n: number, c: number, k: number): number {
  let [all, hits] = [0, 0];
  for (let set = 0; set < 1 << n; set++) {
    const members = Array.from({ length: n }, (_, i) => i).filter((i) => set & (1 << i));
    if (members.length !== k) continue;
    all++;
    if (members.some((i) => i < c)) hits++;
  }
  return hits / all;
}

test("pass@k is the share of k-subsets with a right attempt", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.nat(8), fc.nat(7), (n, right, more) => {
      const c = Math.min(right, n);
      const k = (more % n) + 1;
      expect(passAtK(n, c, k)).toBeCloseTo(byCounting(n, c, k), 12);
    }),
  );
});

test.each([
  [200, 0, 100, 0],
  [200, 200, 1, 1],
  [10, 3, 1, 0.3],
  [5, 3, 4, 1],
])("of %d attempts with %d right, pass@%d is %d", (n, c, k, want) => {
  expect(passAtK(n, c, k)).toBeCloseTo(want, 12);
});

test("more than there are attempts says nothing", () => {
  expect(() => passAtK(3, 1, 4)).toThrow("pass@4 needs at least 4 attempts, got 3");
});

test("the mean is over tasks, and only for k that every judged task has attempts for", () => {
  const counts = [
    { judged: 4, passed: 4 },
    { judged: 2, passed: 0 },
    { judged: 0, passed: 0 },
  ];
  expect(meanPassAtK(counts, [1, 2, 4])).toEqual({ "pass@1": 0.5, "pass@2": 0.5 });
});

test("without a judged attempt there is no pass@k", () => {
  expect(meanPassAtK([{ judged: 0, passed: 0 }], [1])).toEqual({});
});
