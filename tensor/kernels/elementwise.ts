/** Elementwise ops, comparisons and logic. */

import { asNumber, binary, cast, select, unary } from "../arithmetic.js";
import type { Graph, Value } from "../graph.js";
import type * as tf from "../tfjs.js";
import { defineKernel, elementType } from "../trace-backend.js";

const scalar = (graph: Graph, value: number, like: Value): Value => graph.fill(value, [], like.type);

/** Floor of a / b: ONNX's integer Div cuts towards zero, tfjs rounds down. */
function floorDivide(graph: Graph, a: Value, b: Value): Value {
  if (a.type === "float32") return unary(graph, "Floor", binary(graph, "Div", a, b));
  return binary(graph, "Div", binary(graph, "Sub", a, floorModulo(graph, a, b)), b);
}

/** Remainder with the divisor's sign. */
function floorModulo(graph: Graph, a: Value, b: Value): Value {
  if (a.type === "int32") return binary(graph, "Mod", a, b);
  return binary(graph, "Sub", a, binary(graph, "Mul", floorDivide(graph, a, b), b));
}

const ARITHMETIC: Record<string, (graph: Graph, a: Value, b: Value) => Value> = {
  Add: (graph, a, b) => binary(graph, "Add", a, b),
  Sub: (graph, a, b) => binary(graph, "Sub", a, b),
  Multiply: (graph, a, b) => binary(graph, "Mul", a, b),
  RealDiv: (graph, a, b) => binary(graph, "Div", a, b),
  Pow: (graph, a, b) => binary(graph, "Pow", a, b),
  Maximum: (graph, a, b) => binary(graph, "Max", a, b),
  Minimum: (graph, a, b) => binary(graph, "Min", a, b),
  FloorDiv: floorDivide,
  Mod: floorModulo,
  SquaredDifference: (graph, a, b) => {
    const difference = binary(graph, "Sub", a, b);
    return binary(graph, "Mul", difference, difference);
  },
  Equal: (graph, a, b) => binary(graph, "Equal", a, b, "bool"),
  NotEqual: (graph, a, b) => unary(graph, "Not", binary(graph, "Equal", a, b, "bool")),
  Greater: (graph, a, b) => binary(graph, "Greater", a, b, "bool"),
  GreaterEqual: (graph, a, b) => binary(graph, "GreaterOrEqual", a, b, "bool"),
  Less: (graph, a, b) => binary(graph, "Less", a, b, "bool"),
  LessEqual: (graph, a, b) => binary(graph, "LessOrEqual", a, b, "bool"),
};

/** ONNX ops of one operand under tfjs's names. */
const UNARY: Record<string, string> = {
  Neg: "Neg",
  Abs: "Abs",
  Exp: "Exp",
  Log: "Log",
  Sqrt: "Sqrt",
  Sigmoid: "Sigmoid",
  Tanh: "Tanh",
  Sin: "Sin",
  Cos: "Cos",
  Tan: "Tan",
  Sinh: "Sinh",
  Cosh: "Cosh",
  Reciprocal: "Reciprocal",
  Relu: "Relu",
  Softplus: "Softplus",
  Erf: "Erf",
  Elu: "Elu",
  Floor: "Floor",
  Ceil: "Ceil",
  Round: "Round",
};

const DERIVED: Record<string, (graph: Graph, x: Value, attributes: tf.NamedAttrMap) => Value> = {
  Sign: sign,
  Rsqrt: (graph, x) => unary(graph, "Reciprocal", unary(graph, "Sqrt", x)),
  Square: (graph, x) => binary(graph, "Mul", x, x),
  Log1p: log1p,
  Expm1: expm1,
  Step: (graph, x, { alpha }) =>
    select(
      graph,
      binary(graph, "Greater", x, scalar(graph, 0, x), "bool"),
      graph.fill(1, x.shape, x.type),
      graph.fill(Number(alpha), x.shape, x.type),
    ),
  LeakyRelu: (graph, x, { alpha }) =>
    graph.node("LeakyRelu", [x], { shape: x.shape, type: x.type }, { alpha: { float: Number(alpha) } }),
  Relu6: (graph, x) => clip(graph, x, 0, 6),
  ClipByValue: (graph, x, { clipValueMin, clipValueMax }) =>
    clip(graph, x, Number(clipValueMin), Number(clipValueMax)),
  IsNan: (graph, x) => unary(graph, "Not", binary(graph, "Equal", x, x, "bool")),
  IsInf: (graph, x) => binary(graph, "Equal", unary(graph, "Abs", x), scalar(graph, Infinity, x), "bool"),
  IsFinite: (graph, x) => binary(graph, "Less", unary(graph, "Abs", x), scalar(graph, Infinity, x), "bool"),
  Cast: (graph, x, { dtype }) => cast(graph, x, elementType(dtype as tf.DataType)),
  Identity: (_, x) => x,
  OnesLike: (graph, x) => graph.fill(1, x.shape, x.type),
  ZerosLike: (graph, x) => graph.fill(0, x.shape, x.type),
  LogicalNot: (graph, x) => unary(graph, "Not", x),
};

function sign(graph: Graph, x: Value): Value {
  if (!graph.dialect.missing.has("Sign")) return unary(graph, "Sign", x);
  const zero = scalar(graph, 0, x);
  const isTrue = (op: string): Value => cast(graph, binary(graph, op, x, zero, "bool"), x.type);
  return binary(graph, "Sub", isTrue("Greater"), isTrue("Less"));
}

function or(graph: Graph, a: Value, b: Value): Value {
  if (!graph.dialect.missing.has("Or")) return binary(graph, "Or", a, b, "bool");
  return unary(graph, "Not", binary(graph, "And", unary(graph, "Not", a), unary(graph, "Not", b), "bool"));
}

function clip(graph: Graph, x: Value, low: number, high: number): Value {
  return graph.node("Clip", [x, scalar(graph, low, x), scalar(graph, high, x)], {
    shape: x.shape,
    type: x.type,
  });
}

/** x * (c0 + x * (c1 + ...)) where |x| < bound, else another function: accurate near 0 on every provider. */
function nearZero(
  graph: Graph,
  x: Value,
  bound: number,
  coefficients: readonly number[],
  otherwise: Value,
): Value {
  const series = coefficients.reduceRight<Value>(
    (sum, c) => binary(graph, "Mul", x, binary(graph, "Add", sum, scalar(graph, Math.fround(c), x))),
    scalar(graph, 0, x),
  );
  const isNear = binary(graph, "Less", unary(graph, "Abs", x), scalar(graph, bound, x), "bool");
  return select(graph, isNear, series, otherwise);
}

/** log(1 + x). */
function log1p(graph: Graph, x: Value): Value {
  const plain = unary(graph, "Log", binary(graph, "Add", x, scalar(graph, 1, x)));
  return nearZero(graph, x, 0.03, [1, -1 / 2, 1 / 3, -1 / 4, 1 / 5], plain);
}

/** e^x - 1. */
function expm1(graph: Graph, x: Value): Value {
  const plain = binary(graph, "Sub", unary(graph, "Exp", x), scalar(graph, 1, x));
  return nearZero(graph, x, 0.1, [1, 1 / 2, 1 / 6, 1 / 24, 1 / 120], plain);
}

export function defineElementwiseKernels(): void {
  for (const [name, record] of Object.entries(ARITHMETIC)) {
    defineKernel(name, (graph, { a, b }) => record(graph, asNumber(graph, a!), asNumber(graph, b!)));
  }
  for (const [name, op] of Object.entries(UNARY)) {
    defineKernel(name, (graph, { x }) => unary(graph, op, x!));
  }
  for (const [name, record] of Object.entries(DERIVED)) {
    defineKernel(name, (graph, { x }, attributes) => record(graph, x!, attributes), {
      takesHalf: name === "Identity",
    });
  }
  defineKernel("LogicalAnd", (graph, { a, b }) => binary(graph, "And", a!, b!, "bool"));
  defineKernel("LogicalOr", (graph, { a, b }) => or(graph, a!, b!));
  defineKernel("Select", (graph, { condition, t, e }) => select(graph, condition!, t!, e!));
  defineKernel("AddN", (graph, inputs) =>
    Object.values(inputs).reduce((sum, x) => binary(graph, "Add", sum, x)),
  );
  defineKernel("EluGrad", (graph, { dy, y }) => {
    const slope = binary(graph, "Min", binary(graph, "Add", y!, scalar(graph, 1, y!)), scalar(graph, 1, y!));
    return binary(graph, "Mul", dy!, slope);
  });
  defineKernel("Prelu", (graph, { x, alpha }) => {
    const isNegative = binary(graph, "Less", x!, scalar(graph, 0, x!), "bool");
    return select(graph, isNegative, binary(graph, "Mul", x!, alpha!), x!);
  });
}
