/**
 * The compiled functions of layered training. Each stands for one part of the policy and fixed shapes; that of a layer
 * serves all layers, or, where their weights stand in files, one session of it does for each.
 */

import {
  placeOn,
  recordSplit,
  type TensorMap,
  type TensorSpec,
  type Value,
  valueAndGradients,
} from "../../tensor/index.js";
import * as tf from "../../tensor/tfjs.js";
import { type GraphOptions, under } from "../graphs.js";
import { keepFunctions } from "../kept-functions.js";
import { disposeAll } from "../learner-state.js";
import type { PaddedRows } from "../pack-batch.js";
import { hostEmbedBackward, sumsOnHost } from "./host-sums.js";
import { type PartFunction, type PartRequest, partFunction, recordedPart } from "./part-function.js";
import { learnedShapes, type PolicyParts, partSpecs, weightSpecs } from "./part-weights.js";

/** Rows that a function is compiled for. */
export type Rows = Pick<PaddedRows, "rows" | "length">;

/** The tables of one row length, put where the layers compute. */
export type Tables = Readonly<Record<string, Value>>;

export interface LayerFunctions {
  /** `ids` -> `x`. */
  embed(rows: Rows): Promise<PartFunction>;
  /** `x`, tables -> `y`. */
  forward(rows: Rows): Promise<PartFunction>;
  /** `x`, `dy`, tables -> `dx`, `gradients/`; `adds`: takes `sum/` and gives the sums with this layer's added. */
  backward(rows: Rows, adds: boolean): Promise<PartFunction>;
  /** As `forward`, with outputs `kept/`: what `backwardOfKept` takes besides. Not on tensorflow. */
  forwardKeeping(rows: Rows): Promise<PartFunction>;
  /** As `backward`, with the products of the way forward as inputs `kept/` in place of computing them again. */
  backwardOfKept(rows: Rows, adds: boolean): Promise<PartFunction>;
  /** `ids`, `dx` -> `gradients/` of the embedding; `adds`: as `backward` does. */
  embedBackward(rows: Rows, adds: boolean): Promise<PartFunction>;
  /** `x` [N, D], `positions` [C] -> `h` [C, D]. */
  gather(count: number, chunk: number): Promise<PartFunction>;
  /** `dx` [N, D], `dh` [C, D], `inverse` [N] -> `dx` with dh added at the positions that h was gathered from. */
  scatter(count: number, chunk: number): Promise<PartFunction>;
  tables(length: number): Promise<Tables>;
  /** Zeros where the functions compute, made once for each shape: neither written to nor disposed of by who takes them. */
  zeros(shape: readonly number[]): Promise<Value>;
  /** One function more, kept and compiled as these are. */
  part(request: PartRequest): Promise<PartFunction>;
  dispose(): Promise<void>;
}

/** Shapes of rows and chunks together; a layer's function counts once. */
const FUNCTIONS_KEPT = 96;

const float = (...shape: number[]): TensorSpec => ({ shape, dtype: "float32" });
const int = (...shape: number[]): TensorSpec => ({ shape, dtype: "int32" });

export function layerFunctions(options: GraphOptions, parts: PolicyParts): LayerFunctions {
  const { model, compile } = options;
  const { width } = model.parts;
  const kept = keepFunctions<PartFunction>(FUNCTIONS_KEPT);
  const placements = keepFunctions<Placement>(FUNCTIONS_KEPT);
  const part = (request: PartRequest): Promise<PartFunction> =>
    kept.once(request.name, () => Promise.resolve(partFunction(request, compile)));
  const weightsOf = (inputs: TensorMap): TensorMap => ({
    ...under("weights", inputs),
    ...under("frozen", inputs),
  });
  const name = (kind: string, { rows, length }: Rows): string => `${kind} ${rows} x ${length}`;
  const tableSpecs = (length: number): Record<string, TensorSpec> =>
    Object.fromEntries(
      Object.entries(model.parts.tableShapes(length)).map(([key, shape]) => [key, float(...shape)]),
    );
  const layerSpecs = ({ rows, length }: Rows): Record<string, TensorSpec> => ({
    ...weightSpecs(parts.layers[0]!),
    ...tableSpecs(length),
    x: float(rows * length, width),
  });
  const layer = (
    inputs: TensorMap,
    weights: TensorMap,
    x: tf.Tensor,
    { rows, length }: Rows,
  ): tf.Tensor2D => {
    const { cos, sin, mask } = inputs as Record<"cos" | "sin" | "mask", tf.Tensor>;
    return model.parts.layer(weights, x as tf.Tensor2D, [rows, length], { cos, sin, mask });
  };
  const backwardSpecs = (rows: Rows, adds: boolean): Record<string, TensorSpec> => ({
    ...layerSpecs(rows),
    ...(adds ? partSpecs("sum", parts.layers[0]!) : {}),
    dy: float(rows.rows * rows.length, width),
  });
  /** `y`, `dx` and `gradients/` of one layer. */
  const bothWays = (inputs: TensorMap, rows: Rows): Record<"y" | "dx", tf.Tensor> & TensorMap => {
    // The gradient of sum(y dy) is that of the loss, when dy is the loss's gradient at y.
    const along = ({ x, ...learned }: TensorMap) => {
      const y = layer(inputs, { ...weightsOf(inputs), ...learned }, x!, rows);
      return { loss: tf.sum(tf.mul(y, inputs.dy!)) as tf.Scalar, extras: { y } };
    };
    const given = { ...under("weights", inputs), x: inputs.x! };
    const { gradients, extras } = valueAndGradients(along, given);
    const { x: dx, ...learned } = gradients;
    return { y: extras.y!, dx: dx!, ...addedTo(inputs, learned) };
  };
  const keeping = (
    name: string,
    rows: Rows,
    adds: boolean,
    half: "first" | "second",
  ): Promise<PartFunction> =>
    kept.once(name, () => {
      if (compile.provider === "tensorflow") throw new Error("nothing is kept on tensorflow");
      const specs = backwardSpecs(rows, adds);
      const late = new Set(Object.keys(specs).filter((key) => key === "dy" || key.startsWith("sum/")));
      const split = recordSplit((inputs) => bothWays(inputs, rows), specs, late, compile.provider);
      const request = { name, weights: parts.layers };
      return Promise.resolve(recordedPart(split[half], request, compile));
    });
  return {
    part,
    embed: (rows) =>
      part({
        name: name("embed", rows),
        fn: (inputs) => ({ x: model.parts.embed(weightsOf(inputs), inputs.ids as tf.Tensor2D) }),
        inputs: { ...weightSpecs(parts.embedding), ids: int(rows.rows, rows.length) },
        weights: [parts.embedding],
      }),
    forward: (rows) =>
      part({
        name: name("layer", rows),
        fn: (inputs) => ({ y: layer(inputs, weightsOf(inputs), inputs.x!, rows) }),
        inputs: layerSpecs(rows),
        weights: parts.layers,
      }),
    backward: (rows, adds) =>
      part({
        name: name(`layer backward ${adds}`, rows),
        fn: (inputs) => {
          const { y: _, ...outputs } = bothWays(inputs, rows);
          return outputs;
        },
        inputs: backwardSpecs(rows, adds),
        weights: parts.layers,
      }),
    forwardKeeping: (rows) => keeping(name("layer keeping", rows), rows, false, "first"),
    backwardOfKept: (rows, adds) =>
      keeping(name(`layer backward of kept ${adds}`, rows), rows, adds, "second"),
    embedBackward: (rows, adds) => {
      if (sumsOnHost(options)) return Promise.resolve(hostEmbedBackward(parts.embedding, adds));
      return part({
        name: name(`embed backward ${adds}`, rows),
        fn: (inputs) => {
          const along = (weights: TensorMap): tf.Scalar =>
            tf.sum(tf.mul(model.parts.embed(weights, inputs.ids as tf.Tensor2D), inputs.dx!));
          // Linear in the embedding: the gradient is the same wherever it is taken. Not tf.zeros, which makes an array of its size.
          const anywhere = Object.entries(learnedShapes(parts.embedding)).map(
            ([local, shape]) => [local, tf.broadcastTo(tf.zeros(shape.map(() => 1)), [...shape])] as const,
          );
          return addedTo(inputs, valueAndGradients(along, Object.fromEntries(anywhere)).gradients);
        },
        inputs: {
          ...(adds ? partSpecs("sum", parts.embedding) : {}),
          ids: int(rows.rows, rows.length),
          dx: float(rows.rows * rows.length, width),
        },
      });
    },
    gather: (count, chunk) =>
      part({
        name: `gather ${count} -> ${chunk}`,
        fn: ({ x, positions }) => ({ h: tf.gather(x!, positions as tf.Tensor1D) }),
        inputs: { x: float(count, width), positions: int(chunk) },
      }),
    scatter: (count, chunk) =>
      part({
        name: `scatter ${chunk} -> ${count}`,
        fn: ({ dx, dh, inverse }) => {
          const none = tf.zeros<tf.Rank.R2>([1, width]);
          const rows = tf.concat([dh as tf.Tensor2D, none], 0);
          return { dx: tf.add(dx!, tf.gather(rows, inverse as tf.Tensor1D)) };
        },
        inputs: { dx: float(count, width), dh: float(chunk, width), inverse: int(count) },
      }),
    tables: async (length) => {
      const make = async (): Promise<Placement> =>
        placement(await placeOn(compile.provider, { ...model.parts.tables(length) }, tableSpecs(length)));
      return (await placements.once(`tables ${length}`, make)).values;
    },
    zeros: async (shape) => {
      if (compile.provider !== "webgpu") return sharedZeros(shape.reduce((x, y) => x * y, 1));
      const made = await placements.once(`zeros ${shape}`, async () => {
        const fill = await part({
          name: `zeros ${shape}`,
          fn: ({ zero }) => ({ zeros: tf.broadcastTo(zero!, [...shape]) }),
          inputs: { zero: float(...shape.map(() => 1)) },
        });
        return placement(await fill.run(0, { zero: Float32Array.of(0) }));
      });
      return made.values.zeros!;
    },
    dispose: async () => {
      await kept.dispose();
      await placements.dispose();
    },
  };
}

/** `gradients/` with `sum/` of the inputs added, where there are any, by local name. */
export const addedTo = (inputs: TensorMap, gradients: TensorMap): Record<string, tf.Tensor> =>
  Object.fromEntries(
    Object.entries(gradients).map(([name, gradient]) => {
      const sum = inputs[`sum/${name}`];
      return [`gradients/${name}`, sum === undefined ? gradient : tf.add(sum, gradient)];
    }),
  );

/** Values that stay where the functions compute. */
interface Placement {
  readonly values: Tables;
  dispose(): Promise<void>;
}

const placement = (values: Tables): Placement => ({
  values,
  dispose: () => {
    disposeAll(Object.values(values));
    return Promise.resolve();
  },
});

let zeros = new Float32Array(0);

/** Zeros in host memory, of which all callers share one array. */
function sharedZeros(size: number): Float32Array {
  if (zeros.length < size) zeros = new Float32Array(size);
  return zeros.subarray(0, size);
}
