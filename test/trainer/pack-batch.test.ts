import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Sample } from "../../core/index.js";
import { ObjectiveConfig } from "../../trainer/index.js";
import { sampleWeights } from "../../trainer/objective-parts.js";
import { bucketSize, type Microbatch, packBatch } from "../../trainer/pack-batch.js";
import { tinySamples } from "./tiny.js";
import { expectClose } from "./vectors.js";

const mix = ObjectiveConfig.parse({ type: "mix" });
const packed = (samples: Sample[], maxTokens: number): Microbatch[] =>
  packBatch(samples, sampleWeights(samples, mix), maxTokens);

describe("bucketSize", () => {
  test("powers of two and the numbers half-way", () => {
    expect([1, 2, 3, 4, 5, 7, 9, 13, 65, 97].map((n) => bucketSize(n))).toEqual([
      1, 2, 3, 4, 6, 8, 12, 16, 96, 128,
    ]);
    expect([1, 17, 25].map((n) => bucketSize(n, 16))).toEqual([16, 24, 32]);
  });

  test("never too small, never more than half too large", () =>
    fc.assert(
      fc.property(fc.integer({ min: 4, max: 1e6 }), (n) => {
        expect(bucketSize(n)).toBeGreaterThanOrEqual(n);
        expect(bucketSize(n)).toBeLessThan(1.5 * n);
      }),
    ));
});

describe("packBatch", () => {
  const batches = fc.tuple(fc.integer({ min: 1, max: 12 }), fc.nat(999), fc.constantFrom(16, 64, 4096));

  test("every position predicts its token, for the policy and for the teacher", () =>
    fc.assert(
      fc.property(batches, ([count, seed, maxTokens]) => {
        for (const microbatch of packed(tinySamples(count, seed), maxTokens)) {
          const { ids, positions, targets, tokens, teacher, weights } = microbatch;
          for (let token = 0; token < tokens; token++) {
            expect(ids[positions[token]! + 1]).toBe(targets[token]);
            if (weights.distill[token] !== 0)
              expect(teacher!.ids[teacher!.positions[token]! + 1]).toBe(targets[token]);
          }
        }
      }),
    ));

  test("the inverse map undoes the positions", () =>
    fc.assert(
      fc.property(batches, ([count, seed, maxTokens]) => {
        for (const { positions, inverse, tokens } of packed(tinySamples(count, seed), maxTokens)) {
          for (let token = 0; token < tokens; token++) expect(inverse[positions[token]!]).toBe(token);
          expect([...inverse].filter((at) => at < positions.length)).toHaveLength(tokens);
        }
      }),
    ));

  test("every token of every sample with a signal is there once, and weights add up to lambda", () =>
    fc.assert(
      fc.property(batches, ([count, seed, maxTokens]) => {
        const samples = tinySamples(count, seed);
        const microbatches = packed(samples, maxTokens);
        const all = microbatches.flatMap(({ targets, tokens }) => [...targets.subarray(0, tokens)]);
        expect(all.sort()).toEqual(samples.flatMap(({ completionIds }) => completionIds).sort());
        const sum = (term: "policy" | "distill"): number =>
          microbatches.reduce((total, { weights }) => total + weights[term].reduce((a, b) => a + b, 0), 0);
        expectClose(sum("policy"), 0.5, 1e-5);
        const isTaught = samples.some(({ teacherPromptIds }) => teacherPromptIds !== null);
        expectClose(sum("distill"), isTaught ? 0.5 : 0, 1e-5);
      }),
    ));

  test("a microbatch holds no more padded tokens than allowed, unless one sample alone does", () => {
    for (const { rows, length, sequences } of packed(tinySamples(40), 256))
      expect(sequences === 1 || sequences * length <= 256, `${rows} x ${length}`).toBe(true);
  });

  test("a sample without a prompt is refused", () => {
    const [sample] = tinySamples(1);
    expect(() => packed([{ ...sample!, promptIds: [] }], 64)).toThrow(
      "sample 0: need a prompt of one token or more.",
    );
  });
});
