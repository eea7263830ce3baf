import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import { expect, test } from "vitest";
import { randomStream } from "../../core/index.js";
import { compile } from "../../tensor/index.js";
import { adamwInPlace } from "../../trainer/host-adamw.js";
import { hostStep } from "../../trainer/host-step.js";
import { ObjectiveConfig, OptimizerConfig } from "../../trainer/index.js";
import { optimizerSpecs, optimizerStep, stepScalars } from "../../trainer/optimizer.js";
import { expectClose } from "./vectors.js";

type Options = Parameters<typeof hostStep>[0];

const shapes = { matrix: [3, 5], norm: [7] };
const random = randomStream(1, "host step");
const normals = (shape: readonly number[], scale = 1): Float32Array =>
  Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => scale * random.normal());

function stateOf(kinds: readonly string[]): Record<string, Float32Array> {
  const entries = kinds.flatMap((kind) =>
    Object.entries(shapes).map(([name, shape]): [string, Float32Array] => {
      const values = normals(shape, kind.startsWith("moment") ? 0.1 : 1);
      return [`${kind}/${name}`, kind === "moment2" ? values.map(Math.abs) : values];
    }),
  );
  return Object.fromEntries(entries);
}

const optionsOf = (optimizer: Record<string, unknown>, objective = "sft"): Options =>
  ({
    model: { shapes },
    objective: ObjectiveConfig.parse({ type: objective }),
    optimizer: OptimizerConfig.parse({ type: "adamw", ...optimizer }),
    compile: { provider: "cpu" },
  }) as unknown as Options;

test.each([0.5, null])(
  "three steps are those of the graph's ops, clipped to %s, teacher too",
  async (clip_norm) => {
    await tf.setBackend("cpu");
    const options = optionsOf({ lr: 0.01, weight_decay: 0.1, clip_norm }, "sdpo");
    const step = hostStep(options);
    let values = stateOf(["weights", "moment1", "moment2", "teacher"]);
    let want = structuredClone(values);
    for (let t = 1; t <= 3; t++) {
      const gradients = stateOf(["gradients"]);
      const scalars = stepScalars(options.optimizer, 0.7, t, 0.2);
      const specs = optimizerSpecs(options.optimizer, shapes, true);
      const inputs = Object.fromEntries(
        Object.entries(specs).map(([key, { shape }]) => {
          const given = want[key] ?? gradients[key] ?? [scalars[key as keyof typeof scalars]];
          return [key, tf.tensor(given as Float32Array, [...shape])];
        }),
      );
      const { grad_norm, weight_norm, ...stepped } = optimizerStep(inputs, options.optimizer, shapes, true);
      want = Object.fromEntries(
        Object.entries(stepped).map(([key, tensor]) => [key, tensor.dataSync() as Float32Array]),
      );
      const applied = await step.apply({ values, gradients, scalars, inPlace: true });
      values = applied.values as Record<string, Float32Array>;
      expectClose(
        [applied.gradNorm, applied.weightNorm],
        [grad_norm!.dataSync()[0]!, weight_norm!.dataSync()[0]!],
        2e-6,
      );
      for (const [key, data] of Object.entries(want)) expectClose([...values[key]!], [...data], 2e-6, key);
    }
  },
);

test("each element has the bits that the compiled graph gives it, in blocks and after the last of them", async () => {
  const { optimizer } = optionsOf({ lr: 0.01, weight_decay: 0.1, clip_norm: null }, "sdpo");
  const sizes = { matrix: [2, 4099] }; // two blocks and six elements
  const graph = await compile(
    (inputs) => optimizerStep(inputs, optimizer, sizes, true),
    optimizerSpecs(optimizer, sizes, true),
    { provider: "cpu", threads: 1 },
  );
  const given = (kind: string): Float32Array => normals(sizes.matrix, kind === "moment1" ? 0.1 : 1);
  const [weights, gradients, moment1, teacher] = ["weights", "gradients", "moment1", "teacher"].map(
    given,
  ) as [Float32Array, Float32Array, Float32Array, Float32Array];
  const arrays = { weights, gradients, moment1, moment2: given("moment2").map(Math.abs), teacher };
  const scalars = stepScalars(optimizer, 0.7, 3, 0.2);
  const feeds = Object.fromEntries(
    Object.keys(graph.inputs).map((key) => {
      const kind = key.split("/")[0] as keyof typeof arrays & keyof typeof scalars;
      return [key, arrays[kind] ?? Float32Array.of(scalars[kind])];
    }),
  );
  const { weight_norm, ...want } = await graph.run(feeds);
  const { adamw_lr: lr, correction1, correction2, teacher_rate: teacherRate } = scalars;
  const own = { lr, correction1, correction2, teacherRate, betas: optimizer.betas, clip: 1, decay: 0.1 };
  const squares = adamwInPlace(arrays, own, true);
  for (const kind of ["weights", "moment1", "moment2", "teacher"] as const)
    expect(arrays[kind], kind).toEqual(want[`${kind}/matrix`]);
  expectClose([Math.sqrt(squares)], [...(weight_norm as Float32Array)], 1e-6);
  await graph.dispose();
});

test.each([
  { name: "a gradient is NaN", poison: { "gradients/norm": Number.NaN }, lr: 0.01 },
  { name: "a gradient is infinite", poison: { "gradients/matrix": Number.POSITIVE_INFINITY }, lr: 0.01 },
  { name: "a gradient's square is beyond float32", poison: { "gradients/matrix": 3e19 }, lr: 0.01 },
  { name: "a moment was broken before", poison: { "moment2/norm": Number.NaN }, lr: 0.01 },
  { name: "a weight was broken before", poison: { "weights/norm": Number.NEGATIVE_INFINITY }, lr: 0.01 },
  { name: "the learning rate sends weights beyond float32", poison: {}, lr: 1e38 },
  { name: "their squares are beyond float32, though they are not", poison: {}, lr: 1e20 },
])("nothing is written when $name", async ({ poison, lr }) => {
  const options = optionsOf({ lr });
  const step = hostStep(options);
  const all = stateOf(["weights", "moment1", "moment2", "gradients"]);
  const given = { values: { ...all }, gradients: all, inPlace: true };
  const scalars = stepScalars(options.optimizer, 1, 1, 0);
  const gentle = { ...scalars, adamw_lr: 1e-3 };
  const { values } = await step.apply({ ...given, scalars: gentle }); // from here on the arrays are its own
  for (const [key, value] of Object.entries(poison)) ((values[key] ?? all[key]) as Float32Array)[2] = value;
  const before = structuredClone(values);
  const fresh = hostStep(options);
  for (const own of "gradients/norm" in poison || Object.keys(poison).length === 0
    ? [step, fresh]
    : [fresh]) {
    const { gradNorm, weightNorm } = await own.apply({ ...given, values, scalars });
    expect(Number.isFinite(gradNorm + weightNorm)).toBe(false);
    expect(values).toEqual(before);
  }
});

test("a step that no bound vouches for is tried, and taken when it is finite", async () => {
  const options = optionsOf({ lr: 1, clip_norm: null });
  const gradients = stateOf(["gradients"]);
  gradients["gradients/matrix"]!.fill(1e16); // its bound is 1e24 squared, its step 1
  const { weightNorm } = await hostStep(options).apply({
    values: stateOf(["weights", "moment1", "moment2"]),
    gradients,
    scalars: stepScalars(options.optimizer, 1, 1, 0),
    inPlace: true,
  });
  expect(weightNorm).toBeGreaterThan(0);
  expect(weightNorm).toBeLessThan(1000);
});

test("given arrays are never written to; its own are, and what it lent is found empty, not changed", async () => {
  const options = optionsOf({ lr: 0.01 });
  const step = hostStep(options);
  const first = stateOf(["weights", "moment1", "moment2"]);
  const copy = structuredClone(first);
  const request = { gradients: stateOf(["gradients"]), scalars: stepScalars(options.optimizer, 1, 1, 0) };
  const values = { ...first };
  await step.apply({ ...request, values, inPlace: true });
  expect(first).toEqual(copy);
  const second = { ...values };
  await step.apply({ ...request, values, inPlace: true });
  expect(values["moment1/matrix"]).toBe(second["moment1/matrix"]);
  const lent = second["moment1/matrix"] as Float32Array;
  const [size, inMemory] = [lent.length, structuredClone(lent)];
  step.lend([lent]);
  await step.apply({ ...request, values: { ...values }, inPlace: false });
  expect(lent).toEqual(inMemory);
  await step.apply({ ...request, values, inPlace: true });
  expect(lent).toHaveLength(0);
  expect(values["moment1/matrix"]).toHaveLength(size);
  expect(values["moment1/matrix"]).not.toEqual(inMemory);
  expect(values["moment2/matrix"]).toBe(second["moment2/matrix"]);
  const before = structuredClone(values);
  await step.apply({ ...request, values, inPlace: false });
  expect(values).toEqual(before);
});
