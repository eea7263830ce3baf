/**
 * Elementwise nodes, simplified as they are recorded. tfjs's gradients multiply by whole tensors of ones and add whole
 * tensors of zeros; here those vanish, and a broadcast stays unmaterialised until something needs its full shape.
 */
import { type ElementType, type Graph, sameShape, sizeOf, type Value } from "./graph.js";
import { recognizeNorm } from "./root-mean-square.js";
import { recognizeSiluGradient } from "./silu.js";

/** Shape of two operands together, as NumPy broadcasts. */
export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, axis) => {
    const [x, y] = [a[axis - rank + a.length] ?? 1, b[axis - rank + b.length] ?? 1];
    if (x !== y && x !== 1 && y !== 1) throw new Error(`shapes [${a}] and [${b}] do not broadcast`);
    return x === 1 ? y : x;
  });
}

/** The value before a broadcast, or a constant's single element: enough wherever ONNX broadcasts by itself. */
export function unexpanded(graph: Graph, value: Value): Value {
  if (value.constant && "fill" in value.constant) return graph.fill(value.constant.fill, [], value.type);
  return value.node?.op === "Expand" ? value.node.inputs[0]! : value;
}

/** Broadcasts to a shape. */
export function expand(graph: Graph, value: Value, shape: readonly number[]): Value {
  if (sameShape(value.shape, shape)) return value;
  if (value.constant && "fill" in value.constant) return graph.fill(value.constant.fill, shape, value.type);
  const source = unexpanded(graph, value);
  if (sameShape(source.shape, shape)) return source;
  return graph.node("Expand", [source, graph.int64(shape)], { shape, type: value.type });
}

const FOLDED: Record<string, (a: number, b: number) => number> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
  Pow: (a, b) => a ** b,
  Max: Math.max,
  Min: Math.min,
};

const fillOf = (value: Value): number | undefined =>
  value.constant && "fill" in value.constant ? value.constant.fill : undefined;

/** A result that is one of the operands, or cheaper than the op asked for; undefined where there is none. */
function shortcut(graph: Graph, op: string, a: Value, b: Value): Value | undefined {
  const [x, y] = [fillOf(a), fillOf(b)];
  if (op === "Add" && x === 0) return b;
  if ((op === "Add" || op === "Sub") && y === 0) return a;
  if (op === "Sub" && x === 0) return unary(graph, "Neg", b);
  if (op === "Mul" && x === 1) return b;
  if ((op === "Mul" || op === "Div" || op === "Pow") && y === 1) return a;
  if (op === "Pow" && y === 2) return binary(graph, "Mul", a, a);
  if (op === "Pow" && y === 0.5) return unary(graph, "Sqrt", a);
  if (op === "Pow" && y === -1) return unary(graph, "Reciprocal", a);
  return op === "Add" ? recognizeSiluGradient(graph, a, b, binary) : recognizeNorm(graph, op, a, b);
}

/** An elementwise op of two operands of one type; comparisons yield bool. */
export function binary(graph: Graph, op: string, a: Value, b: Value, type: ElementType = a.type): Value {
  const shape = broadcastShape(a.shape, b.shape);
  const [x, y] = [fillOf(a), fillOf(b)];
  const fold = FOLDED[op];
  if (x !== undefined && y !== undefined && fold && type === "float32") {
    return graph.fill(Math.fround(fold(x, y)), shape, type);
  }
  const short = shortcut(graph, op, a, b);
  if (short) return expand(graph, short, shape);
  const [left, right] = [unexpanded(graph, a), unexpanded(graph, b)];
  const small = broadcastShape(left.shape, right.shape);
  return expand(graph, graph.node(op, [left, right], { shape: small, type }), shape);
}

const FOLDED_UNARY: Record<string, (x: number) => number> = {
  Neg: (x) => -x,
  Exp: Math.exp,
  Log: Math.log,
  Sqrt: Math.sqrt,
  Reciprocal: (x) => 1 / x,
};

/** An elementwise op of one operand. */
export function unary(graph: Graph, op: string, x: Value, type: ElementType = x.type): Value {
  const fill = fillOf(x);
  const fold = FOLDED_UNARY[op];
  if (fill !== undefined && fold && type === "float32")
    return graph.fill(Math.fround(fold(fill)), x.shape, type);
  if (op === "Neg" && x.node?.op === "Neg") return x.node.inputs[0]!;
  const source = unexpanded(graph, x);
  return expand(graph, graph.node(op, [source], { shape: source.shape, type }), x.shape);
}

const ONNX_TYPE: Record<ElementType, number> = {
  float32: 1,
  int8: 2, // bytes without a sign
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
};
/** ONNX's number for an element type (TensorProto.DataType). */
export const onnxType = (type: ElementType): number => ONNX_TYPE[type];

/** Converts elements; to bool as "is not zero", to int32 by cutting off the fraction. */
export function cast(graph: Graph, x: Value, type: ElementType): Value {
  if (x.type === type) return x;
  const fill = fillOf(x);
  if (fill !== undefined && type !== "float16") {
    const converted =
      type === "bool" ? Number(fill !== 0) : type === "float32" ? Math.fround(fill) : Math.trunc(fill);
    return graph.fill(converted, x.shape, type);
  }
  const data = x.constant && "data" in x.constant ? x.constant.data : undefined;
  if (data && type === "int64")
    return graph.constant(BigInt64Array.from(data as Int32Array, BigInt), x.shape, type);
  const source = unexpanded(graph, x);
  const node = graph.node("Cast", [source], { shape: source.shape, type }, { to: { int: onnxType(type) } });
  return expand(graph, node, x.shape);
}

/** Takes one of two values, element by element. */
export function select(graph: Graph, condition: Value, yes: Value, no: Value): Value {
  // ONNX Runtime's Where takes no bool branches on the CPU.
  if (yes.type === "bool")
    return cast(graph, select(graph, condition, asNumber(graph, yes), asNumber(graph, no)), "bool");
  const shape = broadcastShape(condition.shape, broadcastShape(yes.shape, no.shape));
  const operands = [condition, yes, no].map((value) => unexpanded(graph, value));
  const small = operands.map((value) => value.shape).reduce(broadcastShape);
  return expand(graph, graph.node("Where", operands, { shape: small, type: yes.type }), shape);
}

/** Bool as int32: ONNX orders, adds and compares numbers only. */
export const asNumber = (graph: Graph, x: Value): Value => (x.type === "bool" ? cast(graph, x, "int32") : x);

/** Constants of fewer elements than this are written out, larger fills are made at run time. */
export const SMALL_CONSTANT = 16;

/** True where a fill is too large to write out. */
export const isLargeFill = (value: Value): boolean =>
  value.constant !== undefined && "fill" in value.constant && sizeOf(value.shape) > SMALL_CONSTANT;
