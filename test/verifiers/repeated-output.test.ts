import { afterAll, expect, test } from "vitest";
import { createLocalPool, loadLanguages, runProgram } from "../../verifiers/index.js";

const pool = await createLocalPool({ languages: loadLanguages(), workers: 2, cache: false });
afterAll(() => pool.close());

test.each([
  { language: "lua", program: "print(print, {})" },
  { language: "python", program: "print(object(), print)" },
])(
  "a $language program that prints addresses prints the same each time, so that a run can be repeated",
  async (run) => {
    const once = async (): Promise<string> => (await runProgram(pool, { ...run, inputs: [""] }))[0]!.stdout;
    const first = await once();
    expect(first).toMatch(/0x[0-9a-f]{8}/);
    expect([await once(), await once()]).toEqual([first, first]);
  },
);
