import fc from "fast-check";
import { expect, test } from "vitest";
import { passAllK, passAtK, reportedKs } from "../../coordinator/pass-at-k.js";

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

test("pass^k is the share of k-subsets that are all right", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.nat(8), fc.nat(7), (n, right, more) => {
      const c = Math.min(right, n);
      const k = (more % n) + 1;
      // All of k are right exactly where none of them is among the wrong ones.
      expect(passAllK(n, c, k)).toBeCloseTo(1 - byCounting(n, n - c, k), 12);
    }),
  );
});

test.each([
  [4, 2, 2, 1 / 6],
  [4, 3, 2, 0.5],
  [5, 5, 5, 1],
  [200, 1, 2, 0],
])("of %d attempts with %d right, pass^%d is %d", (n, c, k, want) => {
  expect(passAllK(n, c, k)).toBeCloseTo(want, 12);
});

test("only k that every judged task has attempts for are reported", () => {
  const count = (judged: number) => ({ task: String(judged), judged, passed: 0 });
  expect(reportedKs([count(4), count(2), count(0)], [1, 2, 4])).toEqual([1, 2]);
  expect(reportedKs([count(0)], [1])).toEqual([]);
});
