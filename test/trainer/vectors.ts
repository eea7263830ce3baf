import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import { packageRoot } from "../../core/index.js";

/** The reference numbers of test/vectors/sdpo_vectors.json; each test names the type of the part it reads. */
export const vectors = JSON.parse(
  readFileSync(join(packageRoot, "test/vectors/sdpo_vectors.json"), "utf8"),
) as Record<string, Record<string, unknown>>;

/** One part of the file, by its path of keys. */
export function vector<T>(...path: readonly string[]): T {
  let part: unknown = vectors;
  for (const key of path) part = (part as Record<string, unknown>)[key];
  if (part === undefined) throw new Error(`sdpo_vectors.json has no ${path.join(".")}`);
  return part as T;
}

/** Losses run in float32: one rounding is 6e-8 relative, and a few of them meet in each number. */
export const FLOAT32 = 1e-6;

type Nested = number | readonly Nested[];

/** Every number within `tolerance`, absolute or relative to the wanted number, whichever is larger. */
export function expectClose(got: Nested, want: Nested, tolerance = FLOAT32, at = "value"): void {
  if (typeof got === "number" && typeof want === "number") {
    expect(Math.abs(got - want), `${at}: got ${got}, want ${want}`).toBeLessThanOrEqual(
      tolerance * Math.max(1, Math.abs(want)),
    );
    return;
  }
  const [gotList, wantList] = [got as readonly Nested[], want as readonly Nested[]];
  expect(gotList.length, `${at}: length`).toBe(wantList.length);
  wantList.forEach((part, i) => {
    expectClose(gotList[i]!, part, tolerance, `${at}[${i}]`);
  });
}
