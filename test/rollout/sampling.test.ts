import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { drawToken } from "../../rollout/index.js";

const logits = Float32Array.from([Math.log(0.1), Math.log(0.4), Math.log(0.2), Math.log(0.3)]);
const whole = { temperature: 1, topP: 1, topK: 0 };
const draw = (parameters: Partial<typeof whole>, uniform: number) =>
  drawToken(logits, 0, 4, { ...whole, ...parameters }, uniform);

describe("drawToken", () => {
  test.each([
    { uniform: 0.05, id: 0, logProb: Math.log(0.1) },
    { uniform: 0.1001, id: 1, logProb: Math.log(0.4) },
    { uniform: 0.69, id: 2, logProb: Math.log(0.2) },
    { uniform: 0.9999, id: 3, logProb: Math.log(0.3) },
  ])("inverts the cumulative distribution: $uniform gives token $id", ({ uniform, id, logProb }) => {
    const drawn = draw({}, uniform);
    expect(drawn.id).toBe(id);
    expect(drawn.logProb).toBeCloseTo(logProb, 6);
    expect(drawn.cutLogProb).toBe(drawn.logProb);
  });

  test("a target that rounding lifts to the whole sum gives the last token that adds to it", () => {
    const impossible = Float32Array.from([0, 0, -2000, -2000]);
    expect(drawToken(impossible, 0, 4, whole, 1).id).toBe(1);
    expect(drawToken(impossible, 0, 4, whole, 0).id).toBe(0);
  });

  test("where no logit is finite an id of the vocabulary comes out, and a log-prob that is none", () => {
    drawToken(Float32Array.of(0, 0, 0, 0, 9, 9), 0, 6, { ...whole, topP: 0.9 }, 0.9); // what it leaves behind is not used
    for (const parameters of [
      whole,
      { ...whole, topP: 0.9 },
      { ...whole, topK: 1 },
      { ...whole, temperature: 0 },
    ])
      for (const value of [Number.NEGATIVE_INFINITY, Number.NaN]) {
        const { id, logProb } = drawToken(new Float32Array(3).fill(value), 0, 3, parameters, 0.5);
        expect([id >= 0 && id < 3, logProb]).toEqual([true, Number.NaN]);
      }
  });

  test("temperature 0 takes the most likely token and records its log-prob at temperature 1", () => {
    expect(draw({ temperature: 0 }, 0.99)).toMatchObject({ id: 1, cutLogProb: 0 });
    expect(draw({ temperature: 0 }, 0.99).logProb).toBeCloseTo(Math.log(0.4), 6);
  });

  test("temperature 2 flattens the recorded distribution", () => {
    const roots = [0.1, 0.4, 0.2, 0.3].map(Math.sqrt);
    const total = roots.reduce((a, b) => a + b);
    expect(draw({ temperature: 2 }, 0.3).logProb).toBeCloseTo(Math.log(roots[1]! / total), 6);
  });

  test("top-k 2 draws from the two most likely; the log-prob before the cut stays", () => {
    const drawn = draw({ topK: 2 }, 0.999);
    expect(drawn.id).toBe(3);
    expect(drawn.logProb).toBeCloseTo(Math.log(0.3), 6);
    expect(drawn.cutLogProb).toBeCloseTo(Math.log(0.3 / 0.7), 6);
    expect(draw({ topK: 2 }, 0.001).id).toBe(1);
  });

  test("top-p keeps the smallest set that reaches p: .5 needs two tokens, .39 one", () => {
    expect(draw({ topP: 0.5 }, 0.999).cutLogProb).toBeCloseTo(Math.log(0.3 / 0.7), 6);
    expect(draw({ topP: 0.39 }, 0.999)).toMatchObject({ id: 1 });
    expect(draw({ topP: 0.39 }, 0.999).cutLogProb).toBeCloseTo(0, 6);
  });

  test("the cut over a large vocabulary keeps what sorting all of it keeps, ties to the smaller id", () => {
    const vocabulary = 20_000;
    // Few distinct values: the cut falls among ties.
    const scores = Float32Array.from(
      { length: vocabulary },
      (_, id) => ((id * 7919) % 97) / 8 - (id % 2) * 3,
    );
    const weights = scores.map((score) => Math.exp(score));
    const total = weights.reduce((a, b) => a + b);
    const order = [...weights.keys()].sort((a, b) => weights[b]! - weights[a]! || a - b);
    for (const [topK, topP] of [
      [1, 1],
      [37, 1],
      [12_345, 1],
      [0, 0.0001],
      [0, 0.6],
      [0, 0.999],
      [500, 0.3],
    ] as const) {
      let mass = 0;
      const kept = order.filter((id, rank) => {
        const stays = rank === 0 || ((topK === 0 || rank < topK) && mass < topP * total);
        if (stays) mass += weights[id]!;
        return stays;
      });
      const sorted = kept.sort((a, b) => a - b);
      for (const uniform of [0, 0.25, 0.5, 0.9999]) {
        const drawn = drawToken(scores, 0, vocabulary, { temperature: 1, topK, topP }, uniform);
        let sum = 0;
        const expected = sorted.find((id) => {
          sum += weights[id]!;
          return sum > uniform * mass;
        });
        expect([topK, topP, uniform, drawn.id]).toEqual([topK, topP, uniform, expected]);
        expect(drawn.cutLogProb).toBeCloseTo(Math.log(weights[expected!]! / mass), 5);
      }
    }
  });

  test("any draw is a token of positive probability whose log-prob is its own", () =>
    fc.assert(
      fc.property(
        fc.array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: 1, maxLength: 40 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        fc.integer({ min: 0, max: 5 }),
        (values, uniform, topK) => {
          const array = Float32Array.from(values);
          const drawn = drawToken(array, 0, array.length, { temperature: 1, topP: 1, topK }, uniform);
          const top = Math.max(...array);
          const total = array.reduce((sum, value) => sum + Math.exp(value - top), 0);
          expect(drawn.logProb).toBeCloseTo(array[drawn.id]! - top - Math.log(total), 5);
          expect(drawn.cutLogProb).toBeGreaterThanOrEqual(drawn.logProb - 1e-9);
        },
      ),
    ));
});
