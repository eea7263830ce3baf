import "@tensorflow/tfjs-backend-cpu";
import * as tf from "@tensorflow/tfjs-core";
import { afterAll, expect, test } from "vitest";
import { randomStream } from "../../core/index.js";
import {
  adapterShapes,
  decoderLogits,
  initialAdapter,
  LoraConfig,
  parameterShapes,
} from "../../policy/index.js";
import { decoderModel, type Learner } from "../../trainer/index.js";
import { tinyConfig, tinyLearner, tinySamples, tinyWeights } from "./tiny.js";
import { expectClose } from "./vectors.js";

const config = { ...tinyConfig, lora: LoraConfig.parse({ rank: 2, alpha: 4 }) };
const model = decoderModel(config);
const frozen = tinyWeights();
const adapter = Object.fromEntries(
  Object.entries(initialAdapter(config, 0)).map(([name, values]) => {
    const random = randomStream(1, name);
    return [name, values.map(() => random.normal() * 0.3)];
  }),
);

const opened: Learner[] = [];
afterAll(() => Promise.all(opened.map((learner) => learner.dispose())));
function open(objective: Record<string, unknown>, optimizer: Record<string, unknown> = {}): Learner {
  const learner = tinyLearner({ objective, optimizer, options: { model, weights: adapter, frozen } });
  opened.push(learner);
  return learner;
}

test("a step is AdamW's on the adapter alone, by the gradient of the adapted policy", async () => {
  const samples = tinySamples(3, 4);
  const learner = open({ type: "sft" }, { lr: 0.01, weight_decay: 0, clip_norm: null });
  const { loss, trained_tokens } = await learner.update({ samples });

  const shapes = adapterShapes(config);
  const names = Object.keys(shapes);
  const base = Object.fromEntries(
    Object.entries(parameterShapes(config)).map(([name, shape]) => [name, tf.tensor(frozen[name]!, shape)]),
  );
  const meanCrossEntropy = (...matrices: tf.Tensor[]): tf.Scalar => {
    const weights = { ...base, ...Object.fromEntries(names.map((name, i) => [name, matrices[i]!])) };
    const sums = samples.map(({ promptIds, completionIds }) => {
      const ids = tf.tensor2d([[...promptIds, ...completionIds]], undefined, "int32");
      const logits = tf.squeeze(decoderLogits(weights, ids, config), [0]);
      const predictions = tf.slice(logits, [promptIds.length - 1, 0], [completionIds.length, 11]);
      const chosen = tf.oneHot(tf.tensor1d([...completionIds], "int32"), 11);
      return tf.sum(tf.mul(tf.logSoftmax(predictions), chosen));
    });
    return tf.div(tf.addN(sums), -trained_tokens);
  };
  const start = names.map((name) => tf.tensor(adapter[name]!, shapes[name]!));
  const { value, grads } = tf.valueAndGrads(meanCrossEntropy)(start);
  expectClose(loss, value.arraySync() as number);
  const { tensors } = await learner.exportState();
  expect(Object.keys(tensors).filter((key) => key.startsWith("weights/"))).toEqual(
    names.map((name) => `weights/${name}`),
  );
  names.forEach((name, i) => {
    const gradient = grads[i]!.dataSync();
    const isClear = (_: unknown, j: number): boolean => Math.abs(gradient[j]!) > 1e-4;
    const want = adapter[name]!.map((weight, j) => weight - 0.01 * Math.sign(gradient[j]!));
    expectClose([...tensors[`weights/${name}`]!.data].filter(isClear), [...want].filter(isClear), 1e-5, name);
  });
});

test.each([{ type: "mix" }, { type: "sdpo", topk: 4, kl_coefficient: 0.1 }, { type: "grpo" }])(
  "state saved and put back goes on with the same bits: %j",
  async (objective) => {
    const samples = tinySamples(6);
    const [whole, resumed] = [open(objective), open(objective)];
    await whole.update({ samples });
    const saved = await whole.exportState();
    expect(Object.keys(saved.tensors).some((key) => key.startsWith("frozen/"))).toBe(false);
    await whole.update({ samples });
    resumed.importState(saved);
    await resumed.update({ samples });
    expect(await resumed.exportState()).toEqual(await whole.exportState());
  },
);

test("the teacher is the running average of the adapter", async () => {
  const learner = open({ type: "sdpo", teacher_rate: 0.25 });
  await learner.update({ samples: tinySamples(6) });
  const { tensors } = await learner.exportState();
  for (const [name, before] of Object.entries(adapter)) {
    const want = [...before].map((value, i) => 0.75 * value + 0.25 * tensors[`weights/${name}`]!.data[i]!);
    expectClose([...tensors[`teacher/${name}`]!.data], want, 1e-6, name);
  }
});

test("a frozen parameter of another size is refused, by name", () => {
  const broken = { ...frozen, "model.norm.weight": new Float32Array(3) };
  expect(() => tinyLearner({ options: { model, weights: adapter, frozen: broken } })).toThrow(
    "frozen: model.norm.weight: need 8 numbers, got 3",
  );
});
