import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { randomStream } from "../../core/index.js";
import { compile } from "../../tensor/index.js";
import { adamw, biasCorrections } from "../../trainer/adamw.js";
import { learningRateScale, OptimizerConfig } from "../../trainer/index.js";
import { isHiddenMatrix, muon, orthogonalise } from "../../trainer/muon.js";
import { optimizerSpecs, optimizerStep, stepScalars } from "../../trainer/optimizer.js";
import { expectClose } from "./vectors.js";

describe("learningRateScale", () => {
  const base = { warmup_steps: 0, schedule: "constant", decay_fraction: 1, final_fraction: 0 } as const;
  test.each([
    { name: "constant", schedule: base, want: [1, 1, 1, 1] },
    { name: "warm-up of two steps", schedule: { ...base, warmup_steps: 2 }, want: [0.5, 1, 1, 1] },
    {
      name: "linear to zero",
      schedule: { ...base, schedule: "linear" as const },
      want: [0.75, 0.5, 0.25, 0],
    },
    {
      name: "linear over the last half, to a tenth",
      schedule: { ...base, schedule: "linear" as const, decay_fraction: 0.5, final_fraction: 0.1 },
      want: [1, 1, 0.55, 0.1],
    },
    {
      name: "cosine",
      schedule: { ...base, schedule: "cosine" as const },
      want: [(1 + Math.SQRT1_2) / 2, 0.5, (1 - Math.SQRT1_2) / 2, 0],
    },
  ])("$name", ({ schedule, want }) => {
    expectClose(
      [1, 2, 3, 4].map((step) => learningRateScale(schedule, step, 4)),
      want,
      1e-12,
    );
  });

  test("always between 0 and 1, and never rising after the warm-up", () =>
    fc.assert(
      fc.property(
        fc.constantFrom("constant" as const, "linear" as const, "cosine" as const),
        fc.integer({ min: 0, max: 9 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (schedule, warmup_steps, part) => {
          const options = { warmup_steps, schedule, decay_fraction: part, final_fraction: 0.05 };
          const scales = Array.from({ length: 30 }, (_, step) => learningRateScale(options, step + 1, 30));
          for (const scale of scales) expect(scale >= 0 && scale <= 1).toBe(true);
          for (let step = warmup_steps + 1; step < 30; step++)
            expect(scales[step]!).toBeLessThanOrEqual(scales[step - 1]! + 1e-12);
        },
      ),
    ));
});

describe("adamw", () => {
  test("five steps agree with the same arithmetic in float64", () => {
    const random = randomStream(7, "adamw");
    const normals = (): number[] => Array.from({ length: 6 }, () => random.normal());
    const [lr, beta1, beta2, decay] = [0.01, 0.9, 0.999, 0.1] as const;
    const want = { weight: normals(), m: [0, 0, 0, 0, 0, 0], v: [0, 0, 0, 0, 0, 0] };
    let got: { weight: tf.Tensor; moment1: tf.Tensor; moment2: tf.Tensor } = {
      weight: tf.tensor1d(want.weight),
      moment1: tf.zeros([6]),
      moment2: tf.zeros([6]),
    };
    for (let t = 1; t <= 5; t++) {
      const gradient = normals();
      gradient.forEach((g, i) => {
        want.m[i] = beta1 * want.m[i]! + (1 - beta1) * g;
        want.v[i] = beta2 * want.v[i]! + (1 - beta2) * g * g;
        const mean = want.m[i]! / (1 - beta1 ** t);
        const spread = Math.sqrt(want.v[i]! / (1 - beta2 ** t)) + 1e-8;
        want.weight[i] = want.weight[i]! * (1 - lr * decay) - (lr * mean) / spread;
      });
      const { correction1, correction2 } = biasCorrections([beta1, beta2], t);
      const step = {
        lr: tf.scalar(lr),
        correction1: tf.scalar(correction1),
        correction2: tf.scalar(correction2),
      };
      got = adamw({ ...got, gradient: tf.tensor1d(gradient) }, step, [beta1, beta2], decay);
    }
    expectClose(got.weight.arraySync() as number[], want.weight);
    expectClose(got.moment1.arraySync() as number[], want.m);
    expectClose(got.moment2.arraySync() as number[], want.v);
  });
});

/** Where five Newton-Schulz steps send one singular value: the polynomial itself, in float64. */
function pushed(singularValue: number): number {
  let x = singularValue;
  for (let step = 0; step < 5; step++) x = 3.4445 * x - 4.775 * x ** 3 + 2.0315 * x ** 5;
  return x;
}

describe("muon", () => {
  const turn = (angle: number): tf.Tensor2D =>
    tf.tensor2d([
      [Math.cos(angle), -Math.sin(angle)],
      [Math.sin(angle), Math.cos(angle)],
    ]);

  test("orthogonalise keeps the singular vectors and pushes the singular values towards 1", () => {
    for (const values of [
      [3, 1],
      [0.5, 0.02],
    ]) {
      const size = Math.hypot(...values);
      const diagonal = (of: number[]): tf.Tensor2D => tf.tensor2d([of[0]!, 0, 0, of[1]!], [2, 2]);
      const around = (inner: tf.Tensor2D): tf.Tensor2D => tf.matMul(tf.matMul(turn(0.4), inner), turn(-1.1));
      const got = orthogonalise(around(diagonal(values)));
      const want = around(diagonal(values.map((value) => pushed(value / size))));
      expectClose(got.arraySync(), want.arraySync(), 1e-5);
    }
    expect(pushed(0.05)).toBeGreaterThan(0.65);
  });

  test("a tall matrix is orthogonalised like its transpose", () => {
    const random = randomStream(3, "muon");
    const tall = tf.tensor2d(
      Array.from({ length: 12 }, () => random.normal()),
      [4, 3],
    );
    expectClose(orthogonalise(tall).arraySync(), tf.transpose(orthogonalise(tf.transpose(tall))).arraySync());
  });

  test("the first step moves by lr, whatever the gradient's size; more outputs than inputs by sqrt(out / in)", () => {
    const zeros = tf.zeros([4, 1]) as tf.Tensor2D;
    for (const size of [1, 1e3, 1e6]) {
      const gradient = tf.tensor2d([size, 0, 0, 0], [4, 1]);
      const moved = muon({ weight: zeros, gradient, momentum: zeros }, tf.scalar(0.1), 0.95, 0);
      expectClose(moved.weight.arraySync(), [[-0.1 * Math.sqrt(4) * pushed(1)], [0], [0], [0]], 1e-4);
    }
    const wide = tf.zeros([1, 4]) as tf.Tensor2D;
    const moved = muon({ weight: wide, gradient: tf.ones([1, 4]), momentum: wide }, tf.scalar(0.1), 0.95, 0);
    expectClose(moved.weight.arraySync(), [new Array(4).fill((-0.1 * pushed(1)) / 2)], 1e-4);
  });

  test.each([
    ["model.layers.0.self_attn.q_proj.weight", [8, 8], true],
    ["model.layers.11.mlp.down_proj.weight", [8, 24], true],
    ["model.embed_tokens.weight", [50, 8], false],
    ["lm_head.weight", [50, 8], false],
    ["model.norm.weight", [8], false],
    ["model.layers.0.self_attn.q_proj.bias", [8], false],
  ] as const)("%s %j is a hidden matrix: %s", (name, shape, want) => {
    expect(isHiddenMatrix(name, shape)).toBe(want);
  });
});

describe("optimizerStep", () => {
  const shapes = {
    "model.embed_tokens.weight": [5, 4],
    "model.layers.0.mlp.up_proj.weight": [6, 4],
    "model.norm.weight": [4],
  };
  const random = randomStream(5, "optimizer");

  function feedsFor(optimizer: OptimizerConfig): Record<string, Float32Array> {
    const specs = optimizerSpecs(optimizer, shapes, true);
    const scalars = stepScalars(optimizer, 0.5, 3, 0.25) as Record<string, number>;
    return Object.fromEntries(
      Object.entries(specs).map(([key, { shape }]) => {
        const size = shape.reduce((a, b) => a * b, 1);
        if (scalars[key] !== undefined) return [key, Float32Array.of(scalars[key])];
        const draw = (): number => (key.startsWith("moment2") ? random.next() : random.normal());
        return [key, Float32Array.from({ length: size }, draw)];
      }),
    );
  }

  function eagerly(
    optimizer: OptimizerConfig,
    feeds: Record<string, Float32Array>,
  ): Record<string, number[]> {
    const specs = optimizerSpecs(optimizer, shapes, true);
    const tensors = Object.fromEntries(
      Object.entries(specs).map(([key, { shape }]) => [key, tf.tensor(feeds[key]!, [...shape])]),
    );
    const outputs = optimizerStep(tensors, optimizer, shapes, true);
    return Object.fromEntries(Object.entries(outputs).map(([key, tensor]) => [key, [...tensor.dataSync()]]));
  }

  test.each(["adamw", "muon"] as const)("%s, compiled, agrees with its eager twin", async (type) => {
    const optimizer = OptimizerConfig.parse({ type });
    const feeds = feedsFor(optimizer);
    const specs = optimizerSpecs(optimizer, shapes, true);
    const graph = await compile((inputs) => optimizerStep(inputs, optimizer, shapes, true), specs, {
      provider: "cpu",
      threads: 1,
    });
    const got = await graph.run(feeds);
    await graph.dispose();
    const want = eagerly(optimizer, feeds);
    expect(Object.keys(got).sort()).toEqual(Object.keys(want).sort());
    for (const [key, values] of Object.entries(want))
      expectClose([...(got[key] as Float32Array)], values, 1e-5, key);
  });

  test("gradients are clipped by their global norm, which is reported as it was before", () => {
    const optimizer = OptimizerConfig.parse({ type: "adamw", clip_norm: 2 });
    const feeds = feedsFor(optimizer);
    for (const key of Object.keys(feeds)) if (/^(gradients|moment1)/.test(key)) feeds[key]!.fill(0);
    feeds["gradients/model.norm.weight"]!.set([6, 0, 0, 8]);
    const outputs = eagerly(optimizer, feeds);
    expectClose(outputs.grad_norm!, [10]);
    expectClose(outputs["moment1/model.norm.weight"]!, [0.12, 0, 0, 0.16]);
    feeds["gradients/model.norm.weight"]!.set([0.6, 0, 0, 0.8]);
    expectClose(eagerly(optimizer, feeds)["moment1/model.norm.weight"]!, [0.06, 0, 0, 0.08]);
  });

  test("weight decay touches matrices and leaves norms alone", () => {
    const optimizer = OptimizerConfig.parse({ type: "adamw", lr: 0.1, weight_decay: 0.5 });
    const feeds = feedsFor(optimizer);
    for (const key of Object.keys(feeds)) if (/^(gradients|moment)/.test(key)) feeds[key]!.fill(0);
    const outputs = eagerly(optimizer, feeds);
    const start = (key: string): number[] => [...feeds[`weights/${key}`]!];
    expectClose(outputs["weights/model.norm.weight"]!, start("model.norm.weight"));
    const shrunk = start("model.embed_tokens.weight").map((weight) => weight * (1 - 0.05 * 0.5));
    expectClose(outputs["weights/model.embed_tokens.weight"]!, shrunk);
  });

  test("the teacher follows the new weights", () => {
    const optimizer = OptimizerConfig.parse({ type: "adamw" });
    const feeds = feedsFor(optimizer);
    const outputs = eagerly(optimizer, feeds);
    const [old, now] = [feeds["teacher/model.norm.weight"]!, outputs["weights/model.norm.weight"]!];
    expectClose(
      outputs["teacher/model.norm.weight"]!,
      now.map((weight, i) => 0.75 * old[i]! + 0.25 * weight),
    );
  });

  test("one NaN among the gradients shows in the norm", () => {
    const optimizer = OptimizerConfig.parse({ type: "muon" });
    const feeds = feedsFor(optimizer);
    feeds["gradients/model.layers.0.mlp.up_proj.weight"]![7] = Number.NaN;
    expect(eagerly(optimizer, feeds).grad_norm).toEqual([Number.NaN]);
  });
});
