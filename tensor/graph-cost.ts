/** What one call of a recorded graph takes, read off the graph: bytes held at once, multiplications, bytes moved. */
import { isLargeFill } from "./arithmetic.js";
import { type ElementType, neededNodes, type OpNode, type Recording, sizeOf, type Value } from "./graph.js";

const BYTES: Record<ElementType, number> = { float32: 4, float16: 2, int8: 1, int32: 4, bool: 1, int64: 8 };

/** Bytes of a value's elements. */
export const bytesOf = ({ shape, type }: Pick<Value, "shape" | "type">): number =>
  sizeOf(shape) * BYTES[type];

export interface GraphCost {
  /** Most bytes that values of the graph hold at once, outputs included, inputs and constants not. */
  readonly peakBytes: number;
  /** Constants that stand in the graph, or that ONNX Runtime computes when it opens it. */
  readonly constantBytes: number;
  /** Floating-point operations of its matrix products. */
  readonly flops: number;
  /** Bytes that its nodes read and write, each once. */
  readonly movedBytes: number;
  /** Of these, bytes of matrix products. */
  readonly productBytes: number;
  /** Nodes that are computed in each run. */
  readonly nodes: number;
  /** Of the largest value: GPUs limit the size of one buffer. */
  readonly largestBytes: number;
}

/** Nodes whose output is their input under another shape. */
const ALIASES = new Set(["Reshape", "Identity"]);
/** Nodes that ONNX Runtime lets write over an input of the same size that nobody needs any more. */
const IN_PLACE = new Set(
  [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Exp",
    "Log",
    "Neg",
    "Sqrt",
    "Sigmoid",
    "Tanh",
    "Abs",
    "Reciprocal",
    "Relu",
  ].concat([
    "Softmax",
    "Where",
    "Pow",
    "Floor",
    "Ceil",
    "Max",
    "Min",
    "Not",
    "And",
    "Or",
    "ScatterND",
    "Clip",
  ]),
);

/** Multiply-adds of each element of a matrix product; 0 of another op. */
export function productDepth({ op, inputs, attributes }: OpNode): number {
  if (op !== "MatMul" && op !== "FusedMatMul" && op !== "Gemm") return 0;
  const [a] = inputs;
  const isTransposed = attributes.transA && "int" in attributes.transA && attributes.transA.int === 1;
  return a!.shape.at(isTransposed ? -2 : -1) ?? 1;
}

/** Multiply-adds count two. */
const productFlops = (node: OpNode): number => 2 * sizeOf(node.outputs[0]!.shape) * productDepth(node);

/** A gather reads the rows that it gives, not the table that they stand in. */
function bytesTouched({ op, inputs, outputs }: OpNode): number {
  const written = outputs.reduce((sum, value) => sum + bytesOf(value), 0);
  if (op === "Gather") return 2 * written;
  return inputs.reduce((sum, value) => sum + (value === null ? 0 : bytesOf(value)), written);
}

/** Walks the graph in the order in which it is computed. */
export function graphCost({ graph, inputs, outputs }: Recording): GraphCost {
  const results = Object.values(outputs).map((value) => graph.current(value));
  const nodes = neededNodes(graph, results);
  const given = new Set(Object.values(inputs));
  const constants = new Set<Value>();
  // A buffer is shared by the values that alias it.
  const buffer = new Map<Value, { bytes: number; uses: number; isKept: boolean }>();
  const bufferOf = (value: Value): { bytes: number; uses: number; isKept: boolean } | undefined =>
    buffer.get(value);
  const isConstant = constantNodes(nodes, given);
  let [flops, moved, productBytes, largest] = [0, 0, 0, 0];
  // First the buffers and how often each is read.
  const computed = nodes.filter((node) => !isConstant.has(node));
  for (const node of nodes) {
    for (const input of node.inputs) if (input?.constant && !isLargeFill(input)) constants.add(input);
    if (isConstant.has(node)) continue;
    for (const input of node.inputs) if (input?.node && isConstant.has(input.node)) constants.add(input);
  }
  const reads = new Map<Value, number>();
  for (const node of computed)
    for (const input of node.inputs) if (input) reads.set(input, (reads.get(input) ?? 0) + 1);
  const kept = new Set(results);
  let [live, peak] = [0, 0];
  const release = (value: Value): void => {
    const held = bufferOf(value);
    if (held === undefined || --held.uses > 0 || held.isKept) return;
    live -= held.bytes;
  };
  for (const node of computed) {
    const own = productFlops(node);
    flops += own;
    const touched = [...node.inputs, ...node.outputs].filter((value) => value !== null);
    const bytes = ALIASES.has(node.op) ? 0 : bytesTouched(node);
    moved += bytes;
    if (own > 0) productBytes += bytes;
    for (const value of touched) largest = Math.max(largest, bytesOf(value));
    const reused = reusable(node, bufferOf, reads);
    for (const [index, value] of node.outputs.entries()) {
      const uses = reads.get(value) ?? 0;
      const isKept = kept.has(value);
      if (index === 0 && reused !== undefined) {
        reused.uses += uses;
        reused.isKept ||= isKept;
        buffer.set(value, reused);
        continue;
      }
      const held = { bytes: bytesOf(value), uses, isKept };
      buffer.set(value, held);
      live += held.bytes;
    }
    peak = Math.max(peak, live);
    for (const input of node.inputs) if (input) release(input);
    for (const value of node.outputs) {
      const held = buffer.get(value)!;
      if (held.uses === 0 && !held.isKept && (reads.get(value) ?? 0) === 0) live -= held.bytes;
    }
  }
  return {
    peakBytes: peak,
    constantBytes: [...constants].reduce((sum, value) => sum + bytesOf(value), 0),
    flops,
    movedBytes: moved,
    productBytes,
    nodes: computed.filter(({ op }) => !ALIASES.has(op)).length,
    largestBytes: largest,
  };
}

/** The buffer that a node's output takes over: that of the input it aliases, or of one that ends with it. */
function reusable(
  { op, inputs, outputs }: OpNode,
  bufferOf: (value: Value) => { bytes: number; uses: number; isKept: boolean } | undefined,
  reads: ReadonlyMap<Value, number>,
): { bytes: number; uses: number; isKept: boolean } | undefined {
  if (ALIASES.has(op)) return inputs[0] ? bufferOf(inputs[0]) : undefined;
  if (!IN_PLACE.has(op)) return undefined;
  for (const input of inputs) {
    const held = input ? bufferOf(input) : undefined;
    if (held === undefined || held.isKept || held.bytes !== bytesOf(outputs[0]!)) continue;
    const readsHere = inputs.filter((other) => other && bufferOf(other) === held).length;
    if (held.uses === readsHere && (reads.get(input!) ?? 0) > 0) return held;
  }
  return undefined;
}

/** Nodes that depend on no input: ONNX Runtime computes them once, when it opens the graph. */
function constantNodes(nodes: readonly OpNode[], given: ReadonlySet<Value>): Set<OpNode> {
  const constant = new Set<OpNode>();
  const producer = new Map<Value, OpNode>();
  for (const node of nodes) {
    for (const value of node.outputs) producer.set(value, node);
    const isFixed = node.inputs.every(
      (input) =>
        input === null ||
        (!given.has(input) && (input.constant !== undefined || constant.has(producer.get(input)!))),
    );
    if (isFixed) constant.add(node);
  }
  return constant;
}
