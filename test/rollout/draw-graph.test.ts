import type * as tf from "@tensorflow/tfjs-core";
import { describe, expect, test } from "vitest";
import { randomStream } from "../../core/index.js";
import { type DrawKind, drawFeeds, drawInGraph, drawSpecs } from "../../rollout/draw-graph.js";
import { drawToken, type SamplingParameters, type SlotDraw } from "../../rollout/sampling.js";
import { compile, type Provider } from "../../tensor/index.js";
import { isWebgpuHere } from "../tensor/webgpu.js";

const SLOTS = 24;
const everything: SamplingParameters = { temperature: 1, topP: 1, topK: 0 };

/** Logits [S, V] as a language model has them: most words unlikely, a few far above. */
function logitsOf(vocabulary: number, seed: number): Float32Array {
  const random = randomStream(seed, "logits");
  const words = Array.from({ length: 997 }, () => 3 * random.normal());
  // Not one stream of S x V numbers, which would take seconds; no two neighbouring slots are equal.
  return Float32Array.from(
    { length: SLOTS * vocabulary },
    (_, i) => words[i % 997]! + 0.3 * words[(i * 7) % 991]!,
  );
}

async function drawOn(
  provider: Provider,
  vocabulary: number,
  kind: DrawKind,
  calls: readonly { logits: Float32Array; draws: readonly (SlotDraw | null)[] }[],
) {
  const graph = await compile(
    ({ logits, ...inputs }) =>
      drawInGraph(logits as tf.Tensor2D, inputs as Parameters<typeof drawInGraph>[1], kind),
    { logits: { shape: [SLOTS, vocabulary], dtype: "float32" }, ...drawSpecs(SLOTS) },
    { provider, threads: 2 },
  );
  const results = [];
  for (const { logits, draws } of calls)
    results.push(await graph.run({ logits, ...drawFeeds(draws, vocabulary) }));
  await graph.dispose();
  return results;
}

/** Slots draw with the cases in turn. Draws that differ from the host's, of all; and the largest difference of the log-probs of the others. */
async function compareWithHost(
  provider: Provider,
  vocabulary: number,
  cases: readonly (SamplingParameters | null)[],
  calls: number,
) {
  const random = randomStream(7, "uniforms");
  const isCut = cases.some((draw) => draw !== null && (draw.topP < 1 || draw.topK > 0));
  const made = Array.from({ length: calls }, (_, call) => ({
    logits: logitsOf(vocabulary, call),
    draws: Array.from({ length: SLOTS }, (__, slot) => {
      const parameters = cases[slot % cases.length]!;
      return parameters && { ...parameters, uniform: random.next(), alternatives: 0 };
    }),
  }));
  const results = await drawOn(provider, vocabulary, { isCut, alternatives: 0 }, made);
  let [differing, compared, worst] = [0, 0, 0];
  made.forEach(({ logits, draws }, call) => {
    const { drawn, log_probs, cut_log_probs } = results[call] as Record<string, Float32Array>;
    draws.forEach((draw, slot) => {
      if (draw === null) return;
      const want = drawToken(logits, slot * vocabulary, vocabulary, draw, draw.uniform);
      compared++;
      if (drawn![slot] !== want.id) differing++;
      else
        worst = Math.max(
          worst,
          Math.abs(log_probs![slot]! - want.logProb),
          Math.abs(cut_log_probs![slot]! - want.cutLogProb),
        );
    });
  });
  return { differing: differing / compared, worst };
}

const CUTS: readonly (SamplingParameters | null)[] = [
  everything,
  null,
  { ...everything, topP: 0.9 },
  { ...everything, topP: 0.01 },
  { ...everything, topK: 1 },
  { ...everything, topK: 20 },
  { temperature: 0.7, topP: 0.8, topK: 20 },
  { temperature: 1.5, topP: 0.99, topK: 3 },
  { temperature: 0, topP: 0.5, topK: 5 },
];
const PLAIN: readonly SamplingParameters[] = [
  everything,
  { ...everything, temperature: 0.3 },
  { ...everything, temperature: 2 },
  { ...everything, temperature: 0 },
];

const providers: Provider[] = (await isWebgpuHere()) ? ["cpu", "webgpu"] : ["cpu"];

describe.each(providers)("drawing in the graph on %s", (provider) => {
  test.each([
    { name: "the whole distribution", cases: PLAIN },
    {
      name: "what top-k and top-p leave, beside a slot that cuts nothing and one without a sequence",
      cases: CUTS,
    },
  ])("gives the host's tokens and log-probs: $name", async ({ cases }) => {
    const { differing, worst } = await compareWithHost(provider, 301, cases, 4);
    expect(differing).toBeLessThanOrEqual(0.02); // a number within rounding of a border between two words
    expect(worst).toBeLessThan(1e-4);
  });

  test("keeps its digits over a vocabulary of 151,936 words", async () => {
    const { differing, worst } = await compareWithHost(provider, 151_936, [everything], 1);
    expect(differing).toBeLessThanOrEqual(1 / SLOTS);
    expect(worst).toBeLessThan(1e-4);
  });

  test("the ends of [0, 1) draw words that have a weight", async () => {
    const vocabulary = 30;
    const logits = new Float32Array(SLOTS * vocabulary).fill(-200);
    for (let slot = 0; slot < SLOTS; slot++) logits[slot * vocabulary + 7] = 1;
    for (let slot = 0; slot < SLOTS; slot++) logits[slot * vocabulary + 11] = 1;
    const uniforms = Array.from({ length: SLOTS }, (_, slot) => (slot % 2 === 0 ? 0 : 1 - 2 ** -53));
    const [result] = await drawOn(provider, vocabulary, { isCut: false, alternatives: 0 }, [
      { logits, draws: uniforms.map((uniform) => ({ ...everything, uniform, alternatives: 0 })) },
    ]);
    expect([...(result!.drawn as Int32Array)]).toEqual(uniforms.map((_, slot) => (slot % 2 === 0 ? 7 : 11)));
  });

  test("gives the most likely tokens beside the drawn one", async () => {
    const vocabulary = 40;
    const logits = logitsOf(vocabulary, 5);
    const [result] = await drawOn(provider, vocabulary, { isCut: false, alternatives: 3 }, [
      {
        logits,
        draws: Array.from({ length: SLOTS }, () => ({ ...everything, uniform: 0.5, alternatives: 3 })),
      },
    ]);
    const { alternative_ids, alternative_log_probs } = result as Record<string, Float32Array>;
    const row = Array.from(logits.subarray(0, vocabulary), (logit, id) => ({ logit, id }));
    const best = row.sort((a, b) => b.logit - a.logit).slice(0, 3);
    const logTotal = Math.log(row.reduce((sum, { logit }) => sum + Math.exp(logit), 0));
    expect([...alternative_ids!.subarray(0, 3)]).toEqual(best.map(({ id }) => id));
    best.forEach(({ logit }, place) => {
      expect(alternative_log_probs![place]).toBeCloseTo(logit - logTotal, 4);
    });
  });
});
