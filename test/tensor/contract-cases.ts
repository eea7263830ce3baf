/** Every op that compile() records, with random inputs. One list for all providers. */
import * as tf from "@tensorflow/tfjs-core";
import type { Random } from "../../core/index.js";
import { type HostArray, stopGradient, type TensorSpec } from "../../tensor/index.js";

/** One input of a case. Gradients are taken for float inputs unless `fixed`. */
export interface DrawnInput {
  readonly spec: TensorSpec;
  readonly data: HostArray;
  readonly fixed?: boolean;
}

export interface ContractCase {
  readonly name: string;
  readonly draw: (random: Random) => Record<string, DrawnInput>;
  readonly fn: (inputs: Record<string, tf.Tensor>) => tf.Tensor | tf.Tensor[];
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export const floats = (random: Random, shape: number[], low = -2, high = 2): DrawnInput => ({
  spec: { shape, dtype: "float32" },
  data: Float32Array.from({ length: sizeOf(shape) }, () => low + (high - low) * random.next()),
});

const fixed = (input: DrawnInput): DrawnInput => ({ ...input, fixed: true });

export const integers = (random: Random, shape: number[], below: number, from = 0): DrawnInput => ({
  spec: { shape, dtype: "int32" },
  data: Int32Array.from({ length: sizeOf(shape) }, () => from + random.integer(below - from)),
});

/** A shape of 1 to 4 axes of 1 to 5. */
const anyShape = (random: Random): number[] =>
  Array.from({ length: 1 + random.integer(4) }, () => 1 + random.integer(5));

/** Two shapes that broadcast: axes of length 1 and missing leading axes on either side. */
function broadcastingShapes(random: Random): [number[], number[]] {
  const shape = anyShape(random);
  const thinned = (): number[] => shape.map((length) => (random.next() < 0.3 ? 1 : length));
  const [a, b] = [thinned(), thinned().slice(random.integer(shape.length))];
  return random.next() < 0.5 ? [a, b] : [b, a];
}

type Unary = (x: tf.Tensor) => tf.Tensor;
type Binary = (a: tf.Tensor, b: tf.Tensor) => tf.Tensor;

const unaryCase = (name: string, fn: Unary, low = -2, high = 2): ContractCase => ({
  name,
  draw: (random) => ({ x: floats(random, anyShape(random), low, high) }),
  fn: ({ x }) => fn(x!),
});

const binaryCase = (name: string, fn: Binary, low = -2, high = 2): ContractCase => ({
  name,
  draw: (random) => {
    const [a, b] = broadcastingShapes(random);
    return { a: floats(random, a, low, high), b: floats(random, b, low, high) };
  },
  fn: ({ a, b }) => fn(a!, b!),
});

/** An op of integers from -2 to 2, so that ties happen. */
const integerCase = (name: string, fn: Binary): ContractCase => ({
  name: `${name} of integers`,
  draw: (random) => {
    const [a, b] = broadcastingShapes(random);
    return { a: integers(random, a, 3, -2), b: integers(random, b, 3, -2) };
  },
  fn: ({ a, b }) => fn(a!, b!),
});

const asFloat = (x: tf.Tensor): tf.Tensor => tf.cast(x, "float32");

const ELEMENTWISE: ContractCase[] = [
  binaryCase("add", tf.add),
  binaryCase("sub", tf.sub),
  binaryCase("mul", tf.mul),
  binaryCase("div", tf.div, 0.5, 2),
  binaryCase("pow", tf.pow, 0.5, 2),
  binaryCase("maximum", tf.maximum),
  binaryCase("minimum", tf.minimum),
  binaryCase("squaredDifference", tf.squaredDifference),
  binaryCase("floorDiv", (a, b) => tf.floorDiv(a, tf.add(tf.abs(b), 0.3))),
  binaryCase("mod", (a, b) => tf.mod(a, tf.add(tf.abs(b), 0.3))),
  unaryCase("neg", tf.neg),
  unaryCase("abs", tf.abs),
  unaryCase("sign", tf.sign),
  unaryCase("exp", tf.exp),
  unaryCase("log", tf.log, 0.1, 3),
  unaryCase("log1p", tf.log1p, -0.5, 2),
  unaryCase("log1p near zero", (x) => tf.mul(tf.log1p(tf.mul(x, 1e-6)), 1e6)),
  unaryCase("expm1", tf.expm1),
  unaryCase("expm1 near zero", (x) => tf.mul(tf.expm1(tf.mul(x, 1e-6)), 1e6)),
  unaryCase("sqrt", tf.sqrt, 0.1, 3),
  unaryCase("rsqrt", tf.rsqrt, 0.1, 3),
  unaryCase("square", tf.square),
  unaryCase("sigmoid", tf.sigmoid),
  unaryCase("tanh", tf.tanh),
  unaryCase("sin", tf.sin),
  unaryCase("cos", tf.cos),
  unaryCase("tan", tf.tan, -1, 1),
  unaryCase("sinh", tf.sinh),
  unaryCase("cosh", tf.cosh),
  unaryCase("reciprocal", tf.reciprocal, 0.5, 2),
  unaryCase("relu", tf.relu),
  unaryCase("relu6", tf.relu6, -3, 9),
  unaryCase("elu", tf.elu),
  unaryCase("leakyRelu", (x) => tf.leakyRelu(x, 0.1)),
  binaryCase("prelu", (a, b) => tf.prelu(a, tf.mean(b))),
  unaryCase("softplus", tf.softplus),
  unaryCase("erf", tf.erf),
  unaryCase("step", (x) => tf.step(x, 0.25)),
  unaryCase("floor", tf.floor),
  unaryCase("ceil", tf.ceil),
  unaryCase("round", tf.round),
  unaryCase("clipByValue", (x) => tf.clipByValue(x, -0.7, 0.9)),
  unaryCase("pow by a constant", (x) => tf.addN([tf.pow(x, 2), tf.pow(tf.abs(x), 0.5), tf.pow(x, 3)])),
  unaryCase("zeros and ones like", (x) => tf.mul(tf.add(tf.zerosLike(x), x), tf.onesLike(x))),
  unaryCase("cast to int32 and back", (x) => asFloat(tf.cast(x, "int32"))),
  unaryCase("cast to bool", (x) => asFloat(tf.cast(tf.relu(x), "bool"))),
  unaryCase("isNaN, isInf, isFinite", (x) => {
    const odd = tf.div(tf.step(x), tf.step(tf.neg(x)));
    const bits = [tf.isNaN(odd), tf.isInf(odd), tf.isFinite(odd)].map(asFloat);
    return tf.stack(bits);
  }),
];

const LOGIC: ContractCase[] = [
  integerCase("equal", tf.equal),
  integerCase("notEqual", tf.notEqual),
  integerCase("greater", tf.greater),
  integerCase("greaterEqual", tf.greaterEqual),
  integerCase("less", tf.less),
  integerCase("lessEqual", tf.lessEqual),
  integerCase("add, sub, mul", (a, b) => tf.mul(tf.add(a, b), tf.sub(a, b))),
  integerCase("maximum, minimum", (a, b) => tf.add(tf.maximum(a, b), tf.minimum(a, b))),
  integerCase("floorDiv, mod", (a, b) => {
    const divisor = tf.add(tf.mul(b, 2), 5);
    return tf.add(tf.mul(tf.floorDiv(a, divisor), 100), tf.mod(a, divisor));
  }),
  integerCase("logicalAnd, logicalOr, logicalNot", (a, b) => {
    const [p, q] = [tf.greater(a, 0), tf.less(b, 1)];
    return tf.logicalAnd(tf.logicalOr(p, q), tf.logicalNot(tf.logicalAnd(p, q)));
  }),
  binaryCase("where", (a, b) => tf.where(tf.greater(tf.add(a, b), 0), tf.mul(a, b), tf.sub(a, b))),
  integerCase("where between conditions", (a, b) =>
    tf.where(tf.equal(a, b), tf.greater(a, 0), tf.less(b, 0)),
  ),
  {
    name: "where with a broadcast condition",
    draw: (random) => ({
      a: floats(random, [4, 3]),
      b: floats(random, [4, 3]),
      c: integers(random, [4, 1], 2),
    }),
    fn: ({ a, b, c }) => tf.where(tf.cast(c!, "bool"), a!, b!),
  },
];

const axisOf = (x: tf.Tensor): number => x.rank - 1;

const reductionCase = (
  name: string,
  fn: (x: tf.Tensor, axis?: number | number[], keep?: boolean) => tf.Tensor,
) =>
  unaryCase(name, (x) => {
    const flat = (y: tf.Tensor): tf.Tensor => tf.reshape(y, [-1]);
    const parts = [flat(fn(x)), flat(fn(x, 0)), flat(fn(x, axisOf(x), true))];
    if (x.rank > 2) parts.push(flat(fn(x, [0, -1])), flat(fn(x, [1], true)));
    return tf.concat(parts);
  });

const ORDER: ContractCase[] = [
  reductionCase("sum", tf.sum),
  reductionCase("mean", tf.mean),
  reductionCase("max", tf.max),
  reductionCase("min", tf.min),
  {
    // tfjs differentiates it by a running product, for which ONNX has no op
    name: "prod",
    draw: (random) => ({ x: fixed(floats(random, [3, 4, 2])) }),
    fn: ({ x }) => [tf.prod(x!), tf.prod(x!, 1), tf.prod(x!, [0, 2], true)],
  },
  reductionCase("logSumExp", tf.logSumExp),
  reductionCase("all, any", (x, axis, keep) => {
    const isPositive = tf.greater(x, -1);
    return asFloat(tf.add(tf.all(isPositive, axis, keep), tf.any(isPositive, axis, keep)));
  }),
  unaryCase("sum of integers", (x) => tf.sum(tf.cast(tf.mul(x, 3), "int32"), axisOf(x))),
  unaryCase("sum, mean and max of a broadcast", (x) => {
    const wide = tf.broadcastTo(tf.mean(x, axisOf(x), true), x.shape);
    return tf.addN([tf.sum(wide, 0), tf.mean(wide, 0), tf.max(wide, 0)]);
  }),
  unaryCase("softmax", (x) => tf.softmax(x)),
  unaryCase("logSoftmax", (x) => tf.logSoftmax(x)),
  unaryCase("argMax, argMin", (x) => tf.sub(tf.argMax(x, axisOf(x)), tf.sum(tf.argMin(x, 0)))),
  {
    name: "topk",
    draw: (random) => ({ x: floats(random, [3, 2 + random.integer(5)]) }),
    fn: ({ x }) => {
      const { values, indices } = tf.topk(x!, 2);
      return [values, indices];
    },
  },
  unaryCase("cumsum", (x) => tf.add(tf.cumsum(x, 0), tf.cumsum(x, axisOf(x), true, true))),
];

const LAYOUT: ContractCase[] = [
  unaryCase("reshape, expandDims, squeeze", (x) => tf.squeeze(tf.expandDims(tf.reshape(x, [-1, 1]), 1))),
  unaryCase("transpose", (x) => tf.transpose(tf.mul(x, 2))),
  unaryCase("transpose of a transpose", (x) => tf.transpose(tf.mul(tf.transpose(x), 2))),
  {
    name: "transpose of heads",
    draw: (random) => ({ x: floats(random, [2, 3, 4, 5]) }),
    fn: ({ x }) => tf.transpose(tf.exp(x!), [0, 2, 1, 3]),
  },
  {
    name: "slice",
    draw: (random) => ({ x: floats(random, [4, 5, 3]) }),
    fn: ({ x }) => tf.slice(x!, [1, 0, 2], [2, -1, 1]),
  },
  {
    name: "stridedSlice",
    draw: (random) => ({ x: fixed(floats(random, [5, 6, 2])) }),
    fn: ({ x }) => tf.stridedSlice(x!, [4, 1, 0], [-6, 6, 1], [-2, 2, 1]),
  },
  unaryCase("reverse", (x) => tf.reverse(x, [0])),
  unaryCase("pad", (x) =>
    tf.pad(
      x,
      x.shape.map((_, axis) => [axis, 1] as [number, number]),
      0.5,
    ),
  ),
  unaryCase("tile", (x) =>
    tf.tile(
      x,
      x.shape.map((_, axis) => axis + 1),
    ),
  ),
  unaryCase("tile of a column", (x) => tf.tile(tf.reshape(x, [-1, 1]), [1, 3])),
  unaryCase("concat, split", (x) => {
    const [a, b] = tf.split(tf.concat([x, tf.mul(x, 2), x], 0), [x.shape[0]!, 2 * x.shape[0]!], 0);
    return tf.concat([b!, a!], 0);
  }),
  unaryCase("stack, unstack", (x) => tf.stack(tf.unstack(tf.mul(x, 2), 0).reverse(), 0)),
  unaryCase("broadcastTo", (x) => tf.broadcastTo(tf.sin(x), [3, ...x.shape])),
  unaryCase("fill, range, linspace", (x) => {
    const n = x.shape.at(-1)!;
    return tf.addN(
      [x, tf.fill([n], 0.5), tf.range(0, n), asFloat(tf.range(0, n, 1, "int32")), tf.linspace(0, 1, n)].map(
        (y) => tf.broadcastTo(y, x.shape),
      ),
    );
  }),
];

/** Indices with many repeats. */
const INDEXING: ContractCase[] = [
  {
    name: "gather rows, some repeatedly",
    draw: (random) => ({ x: floats(random, [6, 3]), ids: integers(random, [2, 9], 6) }),
    fn: ({ x, ids }) => tf.gather(x!, ids as tf.Tensor2D),
  },
  {
    name: "gather rows of a large table",
    draw: (random) => ({ x: floats(random, [1200, 2]), ids: integers(random, [64], 7) }),
    fn: ({ x, ids }) => tf.gather(x!, ids as tf.Tensor1D),
  },
  {
    name: "gather along the second axis",
    draw: (random) => ({ x: floats(random, [3, 5, 2]), ids: integers(random, [7], 5) }),
    fn: ({ x, ids }) => tf.gather(x!, ids as tf.Tensor1D, 1),
  },
  {
    name: "gather one of each row",
    draw: (random) => ({ x: floats(random, [4, 6]), ids: integers(random, [4, 1], 6) }),
    fn: ({ x, ids }) => tf.gather(x!, ids as tf.Tensor2D, 1, 1),
  },
  {
    name: "gather several of each row",
    draw: (random) => ({ x: floats(random, [4, 6]), ids: integers(random, [4, 3], 6) }),
    fn: ({ x, ids }) => tf.gather(x!, ids as tf.Tensor2D, 1, 1),
  },
  {
    name: "gatherND",
    draw: (random) => ({ x: floats(random, [4, 3, 2]), ids: integers(random, [5, 2], 3) }),
    fn: ({ x, ids }) => tf.gatherND(x!, ids!),
  },
  {
    name: "scatterND with repeats",
    draw: (random) => ({ x: floats(random, [9, 2]), ids: integers(random, [9, 1], 3) }),
    fn: ({ x, ids }) => tf.scatterND(ids!, x!, [5, 2]),
  },
  {
    name: "scatterND at two coordinates",
    draw: (random) => ({ x: floats(random, [9]), ids: integers(random, [9, 2], 3) }),
    fn: ({ x, ids }) => tf.scatterND(ids!, x!, [3, 4]),
  },
  {
    name: "unsortedSegmentSum",
    draw: (random) => ({ x: floats(random, [8, 2, 3]), ids: integers(random, [8], 4) }),
    fn: ({ x, ids }) => tf.unsortedSegmentSum(x!, ids as tf.Tensor1D, 4),
  },
  {
    name: "oneHot",
    draw: (random) => ({ ids: integers(random, [5], 8, -1) }),
    fn: ({ ids }) => tf.oneHot(ids as tf.Tensor1D, 6, 2, -1),
  },
];

const productCase = (
  name: string,
  shapes: (m: number, k: number, n: number) => [number[], number[]],
  transposeA = false,
  transposeB = false,
): ContractCase => ({
  name: `matMul ${name}`,
  draw: (random) => {
    const [a, b] = shapes(1 + random.integer(6), 1 + random.integer(6), 1 + random.integer(6));
    return { a: floats(random, a), b: floats(random, b) };
  },
  fn: ({ a, b }) => tf.matMul(a!, b!, transposeA, transposeB),
});

const PRODUCTS: ContractCase[] = [
  productCase("", (m, k, n) => [
    [m, k],
    [k, n],
  ]),
  productCase(
    "a'",
    (m, k, n) => [
      [k, m],
      [k, n],
    ],
    true,
  ),
  productCase(
    "b'",
    (m, k, n) => [
      [m, k],
      [n, k],
    ],
    false,
    true,
  ),
  productCase(
    "a' b'",
    (m, k, n) => [
      [k, m],
      [n, k],
    ],
    true,
    true,
  ),
  productCase("in batches", (m, k, n) => [
    [2, 3, m, k],
    [2, 3, k, n],
  ]),
  productCase(
    "in batches, b'",
    (m, k, n) => [
      [2, 3, m, k],
      [2, 3, n, k],
    ],
    false,
    true,
  ),
  productCase(
    "in batches, a'",
    (m, k, n) => [
      [3, k, m],
      [3, k, n],
    ],
    true,
  ),
  productCase(
    "in batches, a' b'",
    (m, k, n) => [
      [3, k, m],
      [3, n, k],
    ],
    true,
    true,
  ),
  productCase("of a batch and one matrix", (m, k, n) => [
    [3, m, k],
    [k, n],
  ]),
  productCase(
    "of a batch and one matrix, b'",
    (m, k, n) => [
      [2, 2, m, k],
      [n, k],
    ],
    false,
    true,
  ),
  productCase("with a broadcast batch", (m, k, n) => [
    [1, 1, m, k],
    [2, 3, k, n],
  ]),
  {
    name: "matMul of a transpose",
    draw: (random) => ({ a: floats(random, [2, 3, 4]), b: floats(random, [2, 3, 5]) }),
    fn: ({ a, b }) => tf.matMul(tf.transpose(a!, [0, 2, 1]), b!),
  },
  {
    name: "fused.matMul with bias and relu",
    draw: (random) => ({ a: floats(random, [3, 4]), b: floats(random, [4, 2]), bias: floats(random, [2]) }),
    fn: ({ a, b, bias }) => tf.fused.matMul({ a: a!, b: b!, bias: bias!, activation: "relu" }),
  },
  {
    name: "einsum",
    draw: (random) => ({ a: fixed(floats(random, [2, 3, 4])), b: fixed(floats(random, [4, 5])) }),
    fn: ({ a, b }) => tf.einsum("bij,jk->bki", a!, b!),
  },
];

const meanSquare = (x: tf.Tensor, axis: number, keep: boolean): tf.Tensor =>
  tf.add(tf.mean(tf.square(x), axis, keep), 0.01);

/** Forms of RMSNorm, which become one node, and what only looks like one. */
const NORMS: ContractCase[] = [
  {
    name: "RMSNorm by the reciprocal root, with its weight",
    draw: (random) => ({ x: floats(random, [2, 3, 5]), w: floats(random, [5]) }),
    fn: ({ x, w }) => tf.mul(tf.mul(x!, tf.rsqrt(meanSquare(x!, -1, true))), w!),
  },
  {
    name: "RMSNorm by the root, without a weight",
    draw: (random) => ({ x: floats(random, [4, 5]) }),
    fn: ({ x }) => tf.div(x!, tf.sqrt(meanSquare(x!, 1, true))),
  },
  {
    name: "a mean over rows is no RMSNorm",
    draw: (random) => ({ x: floats(random, [4, 4]), w: floats(random, [4]) }),
    fn: ({ x, w }) => tf.mul(tf.mul(x!, tf.rsqrt(meanSquare(x!, 0, true))), w!),
  },
  {
    name: "a mean that loses its axis is no RMSNorm",
    draw: (random) => ({ x: floats(random, [4, 4]), w: floats(random, [4, 1]) }),
    fn: ({ x, w }) => tf.mul(tf.mul(x!, tf.rsqrt(meanSquare(x!, 1, false))), w!),
  },
  {
    name: "the mean of another tensor is no RMSNorm",
    draw: (random) => ({ x: floats(random, [4, 4]), y: floats(random, [4, 4]) }),
    fn: ({ x, y }) => tf.mul(x!, tf.rsqrt(meanSquare(y!, 1, true))),
  },
];

const COMPOSED: ContractCase[] = [
  unaryCase("silu", (x) => tf.mul(x, tf.sigmoid(x))),
  unaryCase("silu, factors swapped", (x) => tf.mul(tf.sigmoid(x), x)),
  binaryCase("a sigmoid gate of something else", (a, b) => tf.mul(tf.add(a, b), tf.sigmoid(a))),
  {
    name: "customGrad",
    draw: (random) => ({ x: floats(random, [3, 2]) }),
    fn: ({ x }) =>
      tf.customGrad((y) => ({ value: tf.square(y as tf.Tensor), gradFunc: (dy) => tf.mul(dy, 7) }))(x!),
  },
  {
    name: "stopGradient",
    draw: (random) => ({ x: floats(random, [3, 2]) }),
    fn: ({ x }) => tf.mul(stopGradient(tf.exp(x!)), x!),
  },
  {
    name: "cross entropy of picked tokens",
    draw: (random) => ({ x: floats(random, [6, 9]), ids: integers(random, [6, 1], 9) }),
    fn: ({ x, ids }) => tf.neg(tf.mean(tf.gather(tf.logSoftmax(x!), ids as tf.Tensor2D, 1, 1))),
  },
];

export const CASES: ContractCase[] = [
  ...ELEMENTWISE,
  ...LOGIC,
  ...ORDER,
  ...LAYOUT,
  ...INDEXING,
  ...PRODUCTS,
  ...NORMS,
  ...COMPOSED,
];
