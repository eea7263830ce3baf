/** Runs every contract case and its gradient on a provider and on tfjs's cpu backend. */
import * as tf from "@tensorflow/tfjs-core";
import { hash32, randomStream } from "../../core/index.js";
import {
  type CompileOptions,
  compile,
  type HostArray,
  type TensorMap,
  type TensorSpec,
  valueAndGradients,
} from "../../tensor/index.js";
import { CASES, type ContractCase, type DrawnInput } from "./contract-cases.js";

/** Random shapes drawn for each case. */
export const DRAWS = 2;
const SEED = 20_261_121;

/** One draw of one case; the name is unique. */
export interface Trial {
  readonly name: string;
  readonly case: ContractCase;
  readonly inputs: Readonly<Record<string, DrawnInput>>;
}

export const TRIALS: readonly Trial[] = CASES.flatMap((contractCase) =>
  Array.from({ length: DRAWS }, (_, draw) => ({
    name: `${contractCase.name} #${draw + 1}`,
    case: contractCase,
    inputs: contractCase.draw(randomStream(SEED, contractCase.name, draw)),
  })),
);

/** Outputs, and the gradient of their sum under random weights. */
function trialOutputs(trial: Trial, inputs: TensorMap): Record<string, tf.Tensor> {
  const differentiable = Object.entries(trial.inputs).filter(
    ([, { spec, fixed }]) => spec.dtype === "float32" && !fixed,
  );
  const params = Object.fromEntries(differentiable.map(([name]) => [name, inputs[name]!]));
  const outputs = (given: TensorMap): tf.Tensor[] => [trial.case.fn({ ...inputs, ...given })].flat();
  const named = (list: tf.Tensor[]): Record<string, tf.Tensor> =>
    Object.fromEntries(list.map((y, i) => [`out${i}`, y]));
  if (differentiable.length === 0) return named(outputs({}));
  const random = randomStream(hash32(trial.name), "weights");
  const { gradients, extras } = valueAndGradients((given) => {
    const list = outputs(given);
    const sums = list.map((y) => {
      const weights = Float32Array.from({ length: y.size }, () => random.next() - 0.5);
      return tf.sum(tf.mul(tf.cast(y, "float32"), tf.tensor(weights, y.shape)));
    });
    return { loss: tf.addN(sums) as tf.Scalar, extras: named(list) };
  }, params);
  return { ...extras, ...Object.fromEntries(Object.entries(gradients).map(([name, g]) => [`d ${name}`, g])) };
}

/** Runs trials in one graph. Results by trial, then by output: "out0", or "d x" for the gradient of input x. */
export async function runTrials(
  trials: readonly Trial[],
  options: CompileOptions,
): Promise<Record<string, Record<string, HostArray>>> {
  const specs: Record<string, TensorSpec> = {};
  const feeds: Record<string, HostArray> = {};
  for (const { name, inputs } of trials) {
    for (const [key, { spec, data }] of Object.entries(inputs)) {
      specs[`${name}/${key}`] = spec;
      feeds[`${name}/${key}`] = data;
    }
  }
  const compiled = await compile(
    (inputs) => {
      const all: Record<string, tf.Tensor> = {};
      for (const trial of trials) {
        const own = Object.keys(trial.inputs).map((key) => [key, inputs[`${trial.name}/${key}`]!] as const);
        for (const [key, y] of Object.entries(trialOutputs(trial, Object.fromEntries(own))))
          all[`${trial.name}/${key}`] = y;
      }
      return all;
    },
    specs,
    options,
  );
  const results = await compiled.run(feeds);
  await compiled.dispose();
  const byTrial: Record<string, Record<string, HostArray>> = {};
  for (const [path, value] of Object.entries(results)) {
    const at = path.lastIndexOf("/");
    const trial = path.slice(0, at);
    byTrial[trial] = { ...byTrial[trial], [path.slice(at + 1)]: value as HostArray };
  }
  return byTrial;
}

/** The largest difference relative to the largest element wanted; NaN and Infinity must stand at the same places. */
export function largestError(got: HostArray, want: HostArray): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY;
  const finite = Array.from(want).filter(Number.isFinite).map(Math.abs);
  const scale = finite.reduce((largest, x) => Math.max(largest, x), 1e-3);
  return Array.from(want).reduce((worst, x, i) => {
    if (!Number.isFinite(x)) return Object.is(got[i], x) ? worst : Number.POSITIVE_INFINITY;
    const error = Math.abs(got[i]! - x) / scale;
    return Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error);
  }, 0);
}
