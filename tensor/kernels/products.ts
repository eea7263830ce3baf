/** Matrix products. */

import { binary, broadcastShape, unary } from "../arithmetic.js";
import type { Graph, Value } from "../graph.js";
import { halfProduct } from "../half-precision.js";
import { int8Product } from "../int8-product.js";
import { transpose } from "../layout.js";
import type * as tf from "../tfjs.js";
import { defineKernel } from "../trace-backend.js";

const swapLast = (rank: number): number[] =>
  Array.from({ length: rank }, (_, i) => (i < rank - 2 ? i : 2 * rank - 3 - i));

/** A value without a transpose of its last two axes, and whether there was one. */
function untransposed(x: Value): { source: Value; isTransposed: boolean } {
  const perm =
    x.node?.op === "Transpose" ? (x.node.attributes.perm as { ints: readonly number[] }).ints : null;
  const isTransposed = perm?.every((axis, i) => axis === swapLast(perm.length)[i]) ?? false;
  return isTransposed ? { source: x.node!.inputs[0]!, isTransposed } : { source: x, isTransposed };
}

/** op(a) op(b), each transposed in its last two axes or not. */
export function matrixProduct(
  graph: Graph,
  a: Value,
  b: Value,
  transposeA: boolean,
  transposeB: boolean,
): Value {
  if (a.type === "int8" || b.type === "int8") return int8Product(graph, a, b, transposeA, transposeB);
  if (a.type === "float16" || b.type === "float16") {
    return halfProduct(graph, a, b, (x, y) => sameTypeProduct(graph, x, y, transposeA, transposeB));
  }
  return sameTypeProduct(graph, a, b, transposeA, transposeB);
}

function sameTypeProduct(graph: Graph, a: Value, b: Value, transposeA: boolean, transposeB: boolean): Value {
  const [left, right] = [untransposed(a), untransposed(b)];
  const flipA = transposeA !== left.isTransposed;
  const flipB = transposeB !== right.isTransposed;
  const [x, y] = [left.source, right.source];
  const rows = x.shape.at(flipA ? -1 : -2)!;
  const columns = y.shape.at(flipB ? -2 : -1)!;
  const shape = [...broadcastShape(x.shape.slice(0, -2), y.shape.slice(0, -2)), rows, columns];
  const output = { shape, type: x.type };
  if (!flipA && !flipB) return graph.node("MatMul", [x, y], output);
  if (x.shape.length === 2 && y.shape.length === 2) {
    return graph.node("Gemm", [x, y], output, {
      transA: { int: Number(flipA) },
      transB: { int: Number(flipB) },
    });
  }
  if (graph.dialect.fusedMatMul) {
    const flags = { transA: { int: Number(flipA) }, transB: { int: Number(flipB) } };
    return graph.node("FusedMatMul", [x, y], output, flags, "com.microsoft");
  }
  const turned = (value: Value, flip: boolean): Value =>
    flip ? transpose(graph, value, swapLast(value.shape.length)) : value;
  return graph.node("MatMul", [turned(x, flipA), turned(y, flipB)], output);
}

const ACTIVATIONS: Record<string, string> = { relu: "Relu", sigmoid: "Sigmoid", elu: "Elu" };

function fusedProduct(
  graph: Graph,
  inputs: Readonly<Record<string, Value>>,
  attributes: tf.NamedAttrMap,
): Value {
  const { transposeA, transposeB, activation } = attributes as unknown as tf._FusedMatMulAttrs;
  const product = matrixProduct(graph, inputs.a!, inputs.b!, transposeA, transposeB);
  const biased = inputs.bias ? binary(graph, "Add", product, inputs.bias) : product;
  if (!activation || activation === "linear") return biased;
  const op = ACTIVATIONS[activation];
  if (!op) throw new Error(`compile() cannot record tf.fused.matMul with activation ${activation}`);
  return unary(graph, op, biased);
}

function einsum(graph: Graph, inputs: Readonly<Record<string, Value>>, attributes: tf.NamedAttrMap): Value {
  const equation = String(attributes.equation).replaceAll(" ", "");
  const operands = Object.values(inputs);
  const [terms, result] = equation.split("->") as [string, string];
  const lengths = new Map<string, number>();
  for (const [i, term] of terms.split(",").entries()) {
    for (const [axis, letter] of [...term].entries()) lengths.set(letter, operands[i]!.shape[axis]!);
  }
  const shape = [...result].map((letter) => lengths.get(letter)!);
  return graph.node("Einsum", operands, { shape, type: operands[0]!.type }, { equation: { text: equation } });
}

export function defineProductKernels(): void {
  defineKernel(
    "BatchMatMul",
    (graph, { a, b }, { transposeA, transposeB }) =>
      matrixProduct(graph, a!, b!, Boolean(transposeA), Boolean(transposeB)),
    { takesHalf: true },
  );
  defineKernel("_FusedMatMul", fusedProduct);
  defineKernel("Einsum", einsum);
}
