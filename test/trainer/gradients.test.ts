import { afterAll, describe, expect, test } from "vitest";
import { randomStream } from "../../core/index.js";
import { createGraphs, type Graphs, shapeOf } from "../../trainer/graphs.js";
import { ObjectiveConfig, OptimizerConfig } from "../../trainer/index.js";
import { sampleWeights } from "../../trainer/objective-parts.js";
import { packBatch } from "../../trainer/pack-batch.js";
import { microbatchFeeds } from "../../trainer/whole-computation.js";
import { tinyModel, tinySamples, tinyWeights } from "./tiny.js";
import { expectClose } from "./vectors.js";

type Feeds = Record<string, Float32Array | Int32Array>;
const opened: Graphs[] = [];
afterAll(async () => {
  for (const graphs of opened) await graphs.dispose();
});

/** The gradients graph of one microbatch, with random teacher, reference and old log-probs where it asks for them. */
async function gradientsGraph(objective: Record<string, unknown>, isOnPolicy: boolean) {
  const config = ObjectiveConfig.parse(objective);
  const optimizer = OptimizerConfig.parse({ type: "adamw" });
  const compile = { provider: "cpu", threads: 1 } as const;
  const graphs = createGraphs({ model: tinyModel, objective: config, optimizer, temperature: 0.9, compile });
  opened.push(graphs);
  const samples = tinySamples(5);
  const [microbatch] = packBatch(samples, sampleWeights(samples, config), {
    maxTokens: 4096,
    grain: "coarse",
  });
  const size = microbatch!.positions.length;
  const graph = await graphs.gradients(shapeOf(microbatch!, size), isOnPolicy);
  const feeds: Feeds = microbatchFeeds(microbatch!, graph);
  for (const [name, { shape, dtype }] of Object.entries(graph.inputs)) {
    if (feeds[name] || name.startsWith("weights/")) continue;
    const length = shape.reduce((a, b) => a * b, 1);
    // A stream of its own: whether a ratio lies at the kink of the clip does not depend on the other feeds' sizes.
    const random = randomStream(2, name);
    const draw = (): number => (dtype === "int32" ? random.integer(11) : -1 - 2 * random.next());
    const numbers = Array.from({ length }, draw);
    feeds[name] = dtype === "int32" ? Int32Array.from(numbers) : Float32Array.from(numbers);
  }
  if (graph.inputs.topk_indices) feeds.topk_indices = distinctIndices(size);
  return { graph, feeds };
}

/** [R, 4] a different choice at each position, no token twice. */
const distinctIndices = (size: number): Int32Array =>
  Int32Array.from({ length: size * 4 }, (_, i) => ((i >> 2) + 3 * (i % 4)) % 11);

const weightFeeds = (move: (name: string, index: number) => number = () => 0): Feeds =>
  Object.fromEntries(
    Object.entries(tinyWeights()).map(([name, data]) => [
      `weights/${name}`,
      data.map((value, index) => value + move(name, index)),
    ]),
  );

const noClip = { importance_clip: null };
describe("the gradient of the traced loss meets finite differences", () => {
  test.each([
    { objective: { type: "sft" }, isOnPolicy: true },
    { objective: { type: "raft", aggregation: "per_sequence" }, isOnPolicy: true },
    { objective: { type: "grpo", ...noClip, kl_coefficient: 0.3 }, isOnPolicy: false },
    { objective: { type: "grpo", ...noClip, kl_coefficient: 1, kl_estimator: "k2" }, isOnPolicy: false },
    { objective: { type: "sdpo", ...noClip, alpha: 0.5 }, isOnPolicy: true },
    { objective: { type: "sdpo", ...noClip, alpha: 1 }, isOnPolicy: true },
    { objective: { type: "sdpo", ...noClip, alpha: 0, topk: 4 }, isOnPolicy: true },
    { objective: { type: "sdpo", ...noClip, alpha: 0.5, topk: 4, tail: false }, isOnPolicy: true },
    { objective: { type: "mix", ...noClip, lambda: 0.4 }, isOnPolicy: false },
  ])("$objective", async ({ objective, isOnPolicy }) => {
    const { graph, feeds } = await gradientsGraph(objective, isOnPolicy);
    const outputs = (await graph.run({ ...feeds, ...weightFeeds() })) as Record<string, Float32Array>;
    const gradients: Record<string, Float32Array> = {};
    for (const name of Object.keys(tinyModel.shapes)) {
      const value = outputs[`gradients/${name}`] as unknown as { read(): Promise<Float32Array> };
      gradients[name] = await value.read();
    }
    // Along the gradient itself the slope is its length; float32 needs a step that is not small.
    const length = Math.sqrt(
      Object.values(gradients).reduce((sum, g) => sum + g.reduce((s, x) => s + x * x, 0), 0),
    );
    expect(length).toBeGreaterThan(1e-3);
    const step = 4e-3;
    const lossAt = async (by: number): Promise<number> => {
      const moved = weightFeeds((name, index) => (by * gradients[name]![index]!) / length);
      return ((await graph.run({ ...feeds, ...moved })).loss as Float32Array)[0]!;
    };
    const slope = ((await lossAt(step)) - (await lossAt(-step))) / (2 * step);
    expectClose(slope / length, 1, 5e-3);
  });
});

test("on-policy, GRPO's gradient is that of the ratio against the policy itself", async () => {
  const objective = { type: "grpo", importance_clip: null };
  const onPolicy = await gradientsGraph(objective, true);
  const offPolicy = await gradientsGraph(objective, false);
  const read = async (outputs: Record<string, unknown>, name: string): Promise<number[]> => [
    ...(await (outputs[`gradients/${name}`] as { read(): Promise<Float32Array> }).read()),
  ];
  const first = await onPolicy.graph.run({ ...onPolicy.feeds, ...weightFeeds() });
  const own = first.log_probs as Float32Array;
  const second = await offPolicy.graph.run({ ...offPolicy.feeds, ...weightFeeds(), old_log_probs: own });
  for (const name of Object.keys(tinyModel.shapes))
    expectClose(await read(first, name), await read(second, name), 1e-6, name);
});
