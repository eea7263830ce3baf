import * as tf from "@tensorflow/tfjs-core";
import { expect, test } from "vitest";
import { Arena } from "../../tensor/arena.js";
import { compile, DryRun, functionCost, type TensorSpec, whileDry } from "../../tensor/index.js";

const matrix = (rows: number, columns: number): TensorSpec => ({ shape: [rows, columns], dtype: "float32" });
const MB = 2 ** 20;

test("a product counts two operations for each multiply-add, and the bytes that it reads and writes", () => {
  const cost = functionCost(
    ({ a, b }) => ({ c: tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D) }),
    { a: matrix(64, 128), b: matrix(128, 32) },
    "cpu",
  );
  expect(cost.flops).toBe(2 * 64 * 128 * 32);
  expect(cost.movedBytes).toBe(4 * (64 * 128 + 128 * 32 + 64 * 32));
  expect(cost.peakBytes).toBe(4 * 64 * 32);
});

test("of a chain only what is still needed is held: two of ten products at a time", () => {
  const cost = functionCost(
    ({ x, w }) => {
      let y = x as tf.Tensor2D;
      for (let i = 0; i < 10; i++) y = tf.matMul(y, w as tf.Tensor2D);
      return { y };
    },
    { x: matrix(512, 512), w: matrix(512, 512) },
    "cpu",
  );
  expect(cost.peakBytes).toBe(2 * MB);
});

test("an op whose kernel may write over what nobody needs any more, and not over what is needed later", () => {
  const specs = { x: matrix(512, 512), w: matrix(512, 512) };
  const chain = functionCost(
    ({ x, w }) => ({ y: tf.sigmoid(tf.sigmoid(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D))) }),
    specs,
    "cpu",
  );
  expect(chain.peakBytes).toBe(MB);
  const kept = functionCost(
    ({ x, w }) => {
      const product = tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D);
      return { y: tf.matMul(tf.sigmoid(product), product) };
    },
    specs,
    "cpu",
  );
  expect(kept.peakBytes).toBe(3 * MB);
  const arithmetic = functionCost(
    ({ x, w }) => ({ y: tf.sqrt(tf.neg(tf.matMul(x as tf.Tensor2D, w as tf.Tensor2D))) }),
    specs,
    "cpu",
  );
  expect(arithmetic.peakBytes).toBe(2 * MB);
});

test("an arena keeps what its results touched: blocks that are not cut, regions of twice the size", () => {
  const arena = new Arena();
  const [small, large] = [(5 / 8) * MB, (3 / 2) * MB];
  const first = arena.take(small); // of a region of 1 MB, not cut: twice the size is not there
  const second = arena.take(small); // of one of 2 MB
  const third = arena.take(small); // and the rest of it
  expect(arena.touchedBytes()).toBe(3 * small);
  for (const chunk of [second, third, first]) arena.giveBack(chunk);
  arena.giveBack(arena.take(large)); // where the second and the third stood
  expect(arena.touchedBytes()).toBe(small + large);
  arena.take(large);
  arena.take(large); // of one of 4 MB
  expect(arena.touchedBytes()).toBe(small + 2 * large);
});

test("a dry function computes nothing, checks what it is fed, and its values count until they are given back", async () => {
  const dry = new DryRun();
  const stage = await whileDry(dry, async () => {
    const specs = { x: matrix(1024, 1024) };
    const double = await compile(({ x }) => ({ y: tf.add(x!, x!), sum: tf.sum(x!) }), specs, {
      provider: "webgpu",
      keepOnDevice: ["y"],
    });
    const x = dry.given(specs.x);
    await expect(double.run({})).rejects.toThrow('input "x" is missing');
    const first = await double.run({ x });
    expect(first.sum).toEqual(new Float32Array(1));
    expect(dry.heldBytes()).toBe(4 * MB);
    const second = await double.run({ x });
    expect(dry.heldBytes()).toBe(8 * MB);
    for (const { y } of [first, second]) (y as { dispose(): void }).dispose();
    expect(dry.heldBytes()).toBe(0);
    return dry.stage();
  });
  // One result held while the second, and the four bytes of its sum, are made.
  expect(stage.peakBytes - stage.graphBytes).toBe(8 * MB + 4);
  expect(stage.runs).toBe(2);
});

test("host arrays count as long as somebody holds them", async () => {
  const dry = new DryRun();
  await whileDry(dry, async () => {
    const specs = { x: matrix(1024, 1024) };
    const copy = await compile(({ x }) => ({ y: tf.add(x!, 1) }), specs, { provider: "cpu", arena: false });
    const held: unknown[] = [];
    for (let i = 0; i < 3; i++) held.push(await copy.run({ x: dry.given(specs.x) }));
    const three = dry.stage();
    held.length = 0;
    for (let i = 0; i < 3; i++) await copy.run({ x: dry.given(specs.x) });
    const none = dry.stage();
    expect(three.peakBytes - three.graphBytes).toBe(12 * MB);
    // The result before, which its caller has just let go, may still be there.
    expect(none.peakBytes - none.graphBytes).toBeLessThanOrEqual(8 * MB);
  });
});

test("outside of a dry run functions compute as ever, also while one is under way elsewhere", async () => {
  const specs = { x: matrix(2, 2) };
  const square = (inputs: { readonly [name: string]: tf.Tensor }) => ({ y: tf.square(inputs.x!) });
  const [dryOutcome, real] = await Promise.all([
    whileDry(new DryRun(), async () => {
      const fn = await compile(square, specs, { provider: "cpu" });
      return (await fn.run({ x: Float32Array.of(1, 2, 3, 4) })).y;
    }),
    compile(square, specs, { provider: "cpu" }).then(
      async (fn) => (await fn.run({ x: Float32Array.of(1, 2, 3, 4) })).y,
    ),
  ]);
  expect([dryOutcome, real]).toEqual([new Float32Array(4), Float32Array.of(1, 4, 9, 16)]);
});
