import { beforeAll, describe, expect, test } from "vitest";
import type { HostArray } from "../../tensor/index.js";
import { largestError, runTrials, TRIALS } from "./contract.js";

/** float32 in another order of summation, and MLAS's polynomials for exp, tanh and erf. */
const TOLERANCE = 2e-5;

describe("every op and its gradient on provider cpu agrees with tfjs's cpu backend", () => {
  let got: Record<string, Record<string, HostArray>>;
  let want: Record<string, Record<string, HostArray>>;
  beforeAll(async () => {
    want = await runTrials(TRIALS, { provider: "tensorflow" });
    got = await runTrials(TRIALS, { provider: "cpu", threads: 2 });
  });

  test.each(TRIALS.map(({ name }) => name))("%s", (name) => {
    expect(Object.keys(got[name]!)).toEqual(Object.keys(want[name]!));
    for (const [output, values] of Object.entries(want[name]!)) {
      expect(largestError(got[name]![output]!, values), output).toBeLessThan(TOLERANCE);
    }
  });
});
