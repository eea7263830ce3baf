import { expect, test } from "vitest";
import { cacheLengths } from "../../rollout/decode-graphs.js";
import { createSlotRows } from "../../rollout/slot-rows.js";

test("cache lengths rise in steps of whole vectors and end with the longest", () => {
  expect(cacheLengths(24)).toEqual([24]);
  expect(cacheLengths(150)).toEqual([32, 64, 96, 128, 150]);
  expect(cacheLengths(300)).toEqual([32, 64, 96, 128, 192, 256, 300]);
  const long = cacheLengths(5000);
  expect(long.slice(0, -1).every((length) => length % 32 === 0)).toBe(true);
  expect(long).toEqual([...long].sort((a, b) => a - b));
});

test("rows keep their entries when the length grows and shrinks in place", () => {
  const rows = createSlotRows(3, 2, 2); // grows into new memory, then in place
  for (const row of [0, 1, 2]) rows.write(row, Float32Array.of(row, 1, row, 2));
  rows.resize(5, 2);
  rows.writeColumn(Float32Array.of(10, 11, 20, 21, 30, 31), Int32Array.of(2, 2, 3), 1);
  const entry = (row: number, position: number): number[] => [
    ...rows.data().subarray((row * rows.length + position) * 2, (row * rows.length + position) * 2 + 2),
  ];
  expect([0, 1, 2].map((row) => [entry(row, 0), entry(row, 1)])).toEqual([
    [
      [0, 1],
      [0, 2],
    ],
    [
      [1, 1],
      [1, 2],
    ],
    [
      [2, 1],
      [2, 2],
    ],
  ]);
  expect([entry(0, 2), entry(1, 2), entry(2, 3)]).toEqual([
    [10, 11],
    [20, 21],
    [30, 31],
  ]);
  rows.resize(3, 4);
  expect([entry(0, 2), entry(1, 2), entry(2, 1)]).toEqual([
    [10, 11],
    [20, 21],
    [2, 2],
  ]);
  expect(rows.data().length).toBe(3 * 3 * 2);
  rows.resize(5, 3);
  expect([entry(0, 2), entry(1, 2), entry(2, 1)]).toEqual([
    [10, 11],
    [20, 21],
    [2, 2],
  ]);
});

test("one entry of a slot's position goes to each of the slot's rows", () => {
  const rows = createSlotRows(4, 2, 1);
  rows.writeColumn(Float32Array.of(1, 2, 3, 4), Int32Array.of(1, 0), 2);
  expect([...rows.data()]).toEqual([0, 1, 0, 2, 3, 0, 4, 0]);
});
