/** Matrix products by a weight of eight bits, see int8-blocks.ts. To tfjs such a weight is float32 [out, in]. */
import type { Graph, Value } from "./graph.js";
import { INT8_BLOCK } from "./int8-blocks.js";
import { transpose } from "./layout.js";

/**
 * Products with 8-bit integers, of activations that are rounded to eight bits as well: the one kernel of ONNX Runtime that
 * is faster than float32. The others unpack the weights in every call.
 */
const INTEGER_PRODUCTS = 4;

const turned = (graph: Graph, x: Value): Value => {
  const rank = x.shape.length;
  const order = Array.from({ length: rank }, (_, i) => (i < rank - 2 ? i : 2 * rank - 3 - i));
  return transpose(graph, x, order);
};

/**
 * W x^T or x W^T. @throws Error for a product along the columns of W: its blocks lie along its rows
 */
export function int8Product(
  graph: Graph,
  a: Value,
  b: Value,
  transposeA: boolean,
  transposeB: boolean,
): Value {
  const isLeft = a.type === "int8";
  const [weight, x] = isLeft ? [a, b] : [b, a];
  if (x.type !== "float32" || weight.scales === undefined || (isLeft ? transposeA : !transposeB))
    throw new Error("a matrix of int8 multiplies float32 numbers, along its rows");
  const [out, width] = weight.shape as [number, number];
  const isTurned = isLeft ? !transposeB : transposeA;
  const rows = isTurned ? turned(graph, x) : x; // [..., M, in]
  const product = graph.node(
    "MatMulNBits",
    [rows, weight, weight.scales],
    { shape: [...rows.shape.slice(0, -1), out], type: "float32" },
    {
      K: { int: width },
      N: { int: out },
      bits: { int: 8 },
      block_size: { int: INT8_BLOCK },
      accuracy_level: { int: INTEGER_PRODUCTS },
    },
    "com.microsoft",
  );
  return isLeft ? turned(graph, product) : product;
}
