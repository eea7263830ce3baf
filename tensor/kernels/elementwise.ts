/** Elementwise ops, comparisons and logic. */
import type * as tf from "@tensorflow/tfjs-core";
import { asNumber, binary, cast, expand, select, unary } from "../arithmetic.js";
import type { Graph, Value } from "../graph.js";
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
  Sign: "Sign",
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
  Rsqrt: (graph, x) => unary(graph, "Reciprocal", unary(graph, "Sqrt", x)),
  Square: (graph, x) => binary(graph, "Mul", x, x),
  Log1p: log1p,
  // tanh(x / 2) * (e^x + 1) is e^x - 1 without the cancellation near 0.
  Expm1: (graph, x) =>
    binary(
      graph,
      "Mul",
      unary(graph, "Tanh", binary(graph, "Mul", x, scalar(graph, 0.5, x))),
      binary(graph, "Add", unary(graph, "Exp", x), scalar(graph, 1, x)),
    ),
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

function clip(graph: Graph, x: Value, low: number, high: number): Value {
  return graph.node("Clip", [x, scalar(graph, low, x), scalar(graph, high, x)], {
    shape: x.shape,
    type: x.type,
  });
}

/** log(1 + x) accurate near 0. @see Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 1.14.1 */
function log1p(graph: Graph, x: Value): Value {
  const one = scalar(graph, 1, x);
  const sum = binary(graph, "Add", x, one);
  const correction = binary(graph, "Div", x, binary(graph, "Sub", sum, one));
  const precise = binary(graph, "Mul", unary(graph, "Log", sum), correction);
  return select(graph, binary(graph, "Equal", sum, one, "bool"), x, precise);
}

/** tfjs lets a condition of rank 1 choose whole rows. */
function selectRows(graph: Graph, { condition, t, e }: Readonly<Record<string, Value>>): Value {
  const isRowwise = condition!.shape.length === 1 && t!.shape.length > 1;
  const shape = isRowwise ? [condition!.shape[0]!, ...t!.shape.slice(1).map(() => 1)] : condition!.shape;
  const wide = isRowwise
    ? graph.node("Reshape", [condition!, graph.int64(shape)], { shape, type: "bool" })
    : condition!;
  return expand(graph, select(graph, wide, t!, e!), t!.shape);
}

export function defineElementwiseKernels(): void {
  for (const [name, record] of Object.entries(ARITHMETIC)) {
    defineKernel(name, (graph, { a, b }) => record(graph, asNumber(graph, a!), asNumber(graph, b!)));
  }
  for (const [name, op] of Object.entries(UNARY)) {
    defineKernel(name, (graph, { x }) => unary(graph, op, x!));
  }
  for (const [name, record] of Object.entries(DERIVED)) {
    defineKernel(name, (graph, { x }, attributes) => record(graph, x!, attributes));
  }
  defineKernel("LogicalAnd", (graph, { a, b }) => binary(graph, "And", a!, b!, "bool"));
  defineKernel("LogicalOr", (graph, { a, b }) => binary(graph, "Or", a!, b!, "bool"));
  defineKernel("Select", selectRows);
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
