import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type HostArray, type NodeProfile, readProfile } from "../../tensor/index.js";
import { largestError, runTrials, TRIALS } from "./contract.js";
import { isExempt, isWebgpuHere } from "./webgpu.js";

/** WebGPU allows its implementations a few units in the last place for division, exp, sin and others. */
const TOLERANCE = 2e-4;

describe.skipIf(!(await isWebgpuHere()))(
  "every op and its gradient on provider webgpu (skipped without it)",
  () => {
    let got: Record<string, Record<string, HostArray>>;
    let want: Record<string, Record<string, HostArray>>;
    let nodes: NodeProfile[];
    const folder = mkdtempSync(join(tmpdir(), "retort-profile-"));
    beforeAll(async () => {
      want = await runTrials(TRIALS, { provider: "tensorflow" });
      const profilePath = join(folder, "profile.json");
      got = await runTrials(TRIALS, { provider: "webgpu", profilePath });
      nodes = readProfile(profilePath);
    });
    afterAll(() => rmSync(folder, { recursive: true }));

    test.each(TRIALS.map(({ name }) => name))("agrees with tfjs's cpu backend: %s", (name) => {
      for (const [output, values] of Object.entries(want[name]!)) {
        expect(largestError(got[name]![output]!, values), output).toBeLessThan(TOLERANCE);
      }
    });

    test("ran on the GPU's provider, but for the exempt nodes", () => {
      const elsewhere = nodes.filter(({ provider }) => provider !== "WebGpuExecutionProvider");
      expect(nodes.length).toBeGreaterThan(1000);
      expect(elsewhere.filter((node) => !isExempt(node))).toEqual([]);
    });
  },
);
