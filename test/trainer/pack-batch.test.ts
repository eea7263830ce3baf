import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { randomStream, type Sample } from "../../core/index.js";
import { ObjectiveConfig } from "../../trainer/index.js";
import { bucketSize, fineSize, microbatchSizes, type Packing } from "../../trainer/microbatch-sizes.js";
import { sampleWeights } from "../../trainer/objective-parts.js";
import { type Microbatch, packBatch } from "../../trainer/pack-batch.js";
import { tinySamples } from "./tiny.js";
import { expectClose } from "./vectors.js";

const mix = ObjectiveConfig.parse({ type: "mix" });
const packed = (samples: Sample[], maxTokens: number, grain: Packing["grain"]): Microbatch[] =>
  packBatch(samples, sampleWeights(samples, mix), { maxTokens, grain });

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

test("fineSize: eight sizes to each doubling, multiples of 8", () => {
  expect([1, 8, 9, 64, 65, 100, 129, 200, 1025].map(fineSize)).toEqual([
    8, 8, 16, 64, 72, 104, 144, 208, 1152,
  ]);
});

describe("coarse sizes", () => {
  /** Of one row of the first length and others of the second. */
  const sizes = (count: number, longest: number, student = longest) => {
    const samples = Array.from({ length: count }, (_, i) => {
      const length = i === 0 ? longest : student;
      return { student: length, completion: length - 1, teacher: 0 };
    });
    const [first, ...more] = microbatchSizes(samples, { maxTokens: 1 << 20, grain: "coarse" });
    expect(more).toEqual([]);
    return [first!.rows, first!.length, first!.tokens, first!.positions];
  };

  test("short rows are filled up to eight, long ones are not", () => {
    expect([sizes(3, 32), sizes(2, 256), sizes(2, 1024), sizes(1, 4096)]).toEqual([
      [8, 32, 128, 128],
      [4, 256, 768, 768],
      [2, 1024, 2048, 2048],
      [1, 4096, 4096, 4096],
    ]);
  });

  test("response positions are all tokens, or half of them, or a quarter", () => {
    const samples = [1000, 400, 200].map((completion) => ({ student: 1024, completion, teacher: 0 }));
    expect(
      samples.map((sample) => microbatchSizes([sample], { maxTokens: 4096, grain: "coarse" })[0]!.positions),
    ).toEqual([1024, 512, 256]);
  });

  test("rows with much padding are computed without it, with one token more that stands for it", () => {
    expect([sizes(16, 62, 47), sizes(16, 63, 47), sizes(16, 61, 60)]).toEqual([
      [16, 64, 768, 768],
      [16, 64, 1024, 1024], // 768 real tokens leave none for the padding
      [16, 64, 1024, 1024],
    ]);
  });
});

describe("rows without their padding", () => {
  const unpaddedOnes = (seed: number) =>
    packed(tinySamples(9, seed), 4096, "coarse").flatMap(({ teacher, ...student }) =>
      [student, teacher].filter((rows) => rows?.unpadded != null).map((rows) => rows!),
    );

  test("every real token has a place of its own, one row a sequence; padding stands at padding", () =>
    fc.assert(
      fc.property(fc.nat(999), (seed) => {
        for (const { unpadded, real, rows, length, ids } of unpaddedOnes(seed)) {
          const { tokenAt, placeOf } = unpadded!;
          expect([tokenAt.length, placeOf.length]).toEqual([rows * length, ids.length]);
          expect(real).toBeLessThan(ids.length);
          for (let token = 0; token < real; token++) expect(tokenAt[placeOf[token]!]).toBe(token);
          expect(new Set(placeOf.subarray(0, real)).size).toBe(real);
          for (let token = real; token < ids.length; token++) expect(tokenAt[placeOf[token]!]).toBe(real);
          expect(tokenAt.filter((token) => token === real)).toHaveLength(rows * length - real);
        }
      }),
    ));

  test("are what most of these batches are", () => {
    const seeds = Array.from({ length: 20 }, (_, seed) => seed);
    expect(seeds.filter((seed) => unpaddedOnes(seed).length > 0).length).toBeGreaterThan(15);
  });
});

describe.each(["coarse", "fine"] as const)("packBatch, %s", (grain) => {
  const batches = fc.tuple(fc.integer({ min: 1, max: 12 }), fc.nat(999), fc.constantFrom(16, 64, 4096));

  test("every position predicts its token, for the policy and for the teacher", () =>
    fc.assert(
      fc.property(batches, ([count, seed, maxTokens]) => {
        for (const microbatch of packed(tinySamples(count, seed), maxTokens, grain)) {
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
        for (const { positions, inverse, tokens } of packed(tinySamples(count, seed), maxTokens, grain)) {
          for (let token = 0; token < tokens; token++) expect(inverse[positions[token]!]).toBe(token);
          expect([...inverse].filter((at) => at < positions.length)).toHaveLength(tokens);
        }
      }),
    ));

  test("every token of every sample with a signal is there once, and weights add up to lambda", () =>
    fc.assert(
      fc.property(batches, ([count, seed, maxTokens]) => {
        const samples = tinySamples(count, seed);
        const microbatches = packed(samples, maxTokens, grain);
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
    for (const { rows, length, sequences } of packed(tinySamples(40), 256, grain))
      expect(sequences === 1 || sequences * length <= 256, `${rows} x ${length}`).toBe(true);
  });

  test("a sample without a prompt is refused", () => {
    const [sample] = tinySamples(1);
    expect(() => packed([{ ...sample!, promptIds: [] }], 64, grain)).toThrow(
      "sample 0: need a prompt of one token or more.",
    );
  });
});

describe("padding of fine packing", () => {
  /** Groups of 8 with a prompt of their own; lengths spread as those of programs do: log-normally. */
  function realistic(seed: number, prompt: number, completion: number): Sample[] {
    const random = randomStream(seed, "lengths");
    const around = (mean: number, spread: number): number[] =>
      Array<number>(Math.max(8, Math.round(mean * Math.exp(spread * random.normal())))).fill(1);
    return Array.from({ length: 8 }, (_, group) => {
      const [promptIds, feedback] = [around(prompt, 0.4), around(150, 0.5)];
      return Array.from({ length: 8 }, (__, i): Sample => {
        const completionIds = around(completion, 0.6);
        return {
          ...{
            rolloutId: `${group}-${i}`,
            promptIds,
            completionIds,
            reward: i % 2,
            advantage: (i % 2) - 0.5,
          },
          rolloutLogProbs: completionIds.map(() => -1),
          teacherPromptIds: random.next() < 0.7 ? [...promptIds, ...feedback] : null,
        };
      });
    }).flat();
  }

  test.each([
    { prompt: 60, completion: 100, maxTokens: 2048 },
    { prompt: 250, completion: 300, maxTokens: 4096 },
    { prompt: 250, completion: 300, maxTokens: 16_384 },
    { prompt: 400, completion: 800, maxTokens: 8192 },
  ])(
    "is under 15% of the real tokens: $prompt + $completion, $maxTokens",
    ({ prompt, completion, maxTokens }) => {
      const sums = { real: 0, padded: 0, tokens: 0, positions: 0 };
      for (let seed = 0; seed < 5; seed++) {
        for (const microbatch of packed(realistic(seed, prompt, completion), maxTokens, "fine")) {
          for (const rows of [microbatch, microbatch.teacher]) {
            sums.real += rows?.real ?? 0;
            sums.padded += rows === null ? 0 : rows.rows * rows.length;
            expect(rows === null || rows.rows === 1 || rows.rows * rows.length <= maxTokens).toBe(true);
          }
          sums.tokens += microbatch.tokens;
          sums.positions += microbatch.positions.length;
        }
      }
      expect(sums.padded / sums.real).toBeLessThan(1.15);
      expect(sums.positions / sums.tokens).toBeLessThan(1.15);
    },
  );
});
