import { test } from "vitest";
import { tinyLearner, tinySamples } from "./tiny.js";
import { expectClose } from "./vectors.js";

const GOLDEN = [3.05417, 3.02519, 2.97573, 2.93456, 2.90083, 0.18773, 0.18003, 0.16889, 0.14284, 0.1217];

/**
 * Ten losses of a run that goes through everything: warm start by Muon, then the mix of GRPO and SDPO from its weights.
 * They pin the whole path from samples to weights: a change here is a change of the algorithm. CPUs round differently; ten
 * steps on, that is far below the tolerance of 2e-4.
 */
test("ten golden losses", async () => {
  const warmStart = tinyLearner({ optimizer: { type: "muon", warmup_steps: 2, schedule: "linear" } });
  const losses: number[] = [];
  const samples = tinySamples(8);
  for (let step = 1; step <= 5; step++) losses.push((await warmStart.update({ samples })).loss);
  const { tensors } = await warmStart.exportState();
  const weights = Object.fromEntries(
    Object.entries(tensors).flatMap(([key, { data }]) =>
      key.startsWith("weights/") ? [[key.slice("weights/".length), data]] : [],
    ),
  );
  const learner = tinyLearner({ objective: { type: "mix", teacher_rate: 0.1 }, options: { weights } });
  for (let step = 6; step <= 10; step++) losses.push((await learner.update({ samples })).loss);
  expectClose(losses, GOLDEN, 2e-4);
  await warmStart.dispose();
  await learner.dispose();
});
