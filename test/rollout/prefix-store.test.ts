import { expect, test } from "vitest";
import { createPrefixStore } from "../../rollout/prefix-store.js";

const part = (floats: number) => [new Float32Array(floats)];

test("a part is found after the part it came after, and nowhere else", () => {
  const store = createPrefixStore(1000);
  const first = store.add(0, [1, 2], part(1));
  const second = store.add(first, [3, 4], part(1));
  expect(store.find(0, [1, 2])!.id).toBe(first);
  expect(store.find(first, [3, 4])!.id).toBe(second);
  expect(store.find(0, [3, 4])).toBeUndefined();
  expect(store.find(0, [12])).toBeUndefined(); // 1,2 is not 12
});

test("what was used longest ago is forgotten first, and the store stays below its size", () => {
  const store = createPrefixStore(12); // three floats
  store.add(0, [1], part(1));
  store.add(0, [2], part(1));
  store.add(0, [3], part(1));
  store.find(0, [1]);
  store.add(0, [4], part(2));
  expect([1, 2, 3, 4].map((id) => store.find(0, [id]) !== undefined)).toEqual([true, false, false, true]);
  store.clear();
  expect(store.find(0, [4])).toBeUndefined();
});
