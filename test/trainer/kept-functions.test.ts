import { expect, test } from "vitest";
import { keepFunctions } from "../../trainer/kept-functions.js";

const compiled = (log: string[], name: string) => ({
  dispose: () => {
    log.push(name);
    return Promise.resolve();
  },
});

test("a function whose compiling failed is compiled again when it is asked for again, and the rest is closed", async () => {
  const closed: string[] = [];
  const kept = keepFunctions<ReturnType<typeof compiled>>(4);
  await kept.once("a", () => Promise.resolve(compiled(closed, "a")));
  const failing = (): Promise<never> => Promise.reject(new Error("out of memory"));
  await expect(kept.once("b", failing)).rejects.toThrow("out of memory");
  const second = compiled(closed, "b");
  expect(await kept.once("b", () => Promise.resolve(second))).toBe(second);
  expect(await kept.once("b", failing)).toBe(second);
  await kept.dispose();
  expect(closed.sort()).toEqual(["a", "b"]);
});

test("of too many, the one unused for longest is closed", async () => {
  const closed: string[] = [];
  const kept = keepFunctions<ReturnType<typeof compiled>>(2);
  for (const name of ["a", "b", "a", "c"])
    await kept.once(name, () => Promise.resolve(compiled(closed, name)));
  expect(closed).toEqual(["b"]);
  await kept.dispose();
});
