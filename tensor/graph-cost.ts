/** What one call of a recorded graph takes, read off the graph: bytes held at once, multiplications, bytes moved. */
import { Arena, type Chunk } from "./arena.js";
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
/** Nodes whose CPU kernels may write over their first input: not those of arithmetic. */
const IN_PLACE = new Set([
  "Cast",
  "Clip",
  "Relu",
  "ScatterElements",
  "ScatterND",
  "Sigmoid",
  "Softmax",
  "Tanh",
]);

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

/** A buffer, shared by the values that alias it. */
interface Held {
  readonly bytes: number;
  uses: number;
  isKept: boolean;
}

/** What is told of buffers as they come and go. */
interface BufferWatch {
  held(buffer: Held): void;
  released(buffer: Held): void;
}

/** Nodes that a run computes, of a graph; and what ONNX Runtime computes once, when it opens it. */
function nodesOf({ graph, inputs, outputs }: Recording) {
  const results = Object.values(outputs).map((value) => graph.current(value));
  const nodes = neededNodes(graph, results);
  const isConstant = constantNodes(nodes, new Set(Object.values(inputs)));
  return {
    nodes,
    isConstant,
    results,
    computed: inOrderOfRunning(nodes.filter((node) => !isConstant.has(node))),
  };
}

/** As ONNX Runtime runs them: depth first from what nobody reads, the last of it and of each node's inputs first. */
function inOrderOfRunning(nodes: readonly OpNode[]): OpNode[] {
  const index = new Map(nodes.map((node, i) => [node, i]));
  const producer = new Map(nodes.flatMap((node) => node.outputs.map((value) => [value, node] as const)));
  const before = ({ inputs }: OpNode): OpNode[] => {
    const found = new Set(inputs.flatMap((input) => (input === null ? [] : (producer.get(input) ?? []))));
    return [...found].sort((a, b) => index.get(a)! - index.get(b)!);
  };
  const read = new Set(nodes.flatMap(before));
  const ordered: OpNode[] = [];
  const seen = new Set<OpNode>();
  const stack = nodes.filter((node) => !read.has(node)).map((node) => ({ node, isDone: false }));
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { node, isDone } = next;
    if (isDone) ordered.push(node);
    if (isDone || seen.has(node)) continue;
    seen.add(node);
    stack.push({ node, isDone: true });
    for (const input of before(node)) if (!seen.has(input)) stack.push({ node: input, isDone: false });
  }
  return ordered;
}

export function graphCost(recording: Recording): GraphCost {
  const { nodes, isConstant, results, computed } = nodesOf(recording);
  const constants = new Set<Value>();
  for (const node of nodes) {
    for (const input of node.inputs) if (input?.constant && !isLargeFill(input)) constants.add(input);
    if (isConstant.has(node)) continue;
    for (const input of node.inputs) if (input?.node && isConstant.has(input.node)) constants.add(input);
  }
  let [flops, moved, productBytes, largest] = [0, 0, 0, 0];
  for (const node of computed) {
    const own = productFlops(node);
    flops += own;
    const bytes = ALIASES.has(node.op) ? 0 : bytesTouched(node);
    moved += bytes;
    if (own > 0) productBytes += bytes;
    for (const value of [...node.inputs, ...node.outputs])
      if (value !== null) largest = Math.max(largest, bytesOf(value));
  }
  let [live, peak] = [0, 0];
  walkBuffers(computed, results, {
    held: ({ bytes }) => {
      live += bytes;
      peak = Math.max(peak, live);
    },
    released: ({ bytes }) => {
      live -= bytes;
    },
  });
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

/** Bytes that a session's arena keeps once the graph has run: what the second run finds free is not where the first took it. */
export function arenaBytes(recording: Recording): number {
  const { results, computed } = nodesOf(recording);
  const arena = new Arena();
  for (let run = 0; run < 2; run++) {
    const chunks = new Map<Held, Chunk>();
    walkBuffers(computed, results, {
      held: (buffer) => chunks.set(buffer, arena.take(buffer.bytes)),
      released: (buffer) => {
        arena.giveBack(chunks.get(buffer)!);
        chunks.delete(buffer);
      },
    });
    for (const chunk of chunks.values()) arena.giveBack(chunk); // the outputs, which were copied
  }
  return arena.touchedBytes();
}

/** Walks the graph in the order in which it is computed. */
function walkBuffers(computed: readonly OpNode[], results: readonly Value[], watch: BufferWatch): void {
  const buffer = new Map<Value, Held>();
  const bufferOf = (value: Value): Held | undefined => buffer.get(value);
  const reads = new Map<Value, number>();
  for (const node of computed)
    for (const input of node.inputs) if (input) reads.set(input, (reads.get(input) ?? 0) + 1);
  const kept = new Set(results);
  const release = (value: Value): void => {
    const held = bufferOf(value);
    if (held === undefined || --held.uses > 0 || held.isKept) return;
    watch.released(held);
  };
  for (const node of computed) {
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
      watch.held(held);
    }
    for (const input of node.inputs) if (input) release(input);
    for (const value of node.outputs) {
      const held = buffer.get(value)!;
      if (held.uses === 0 && !held.isKept && (reads.get(value) ?? 0) === 0) watch.released(held);
    }
  }
}

/** The buffer that a node's output takes over: that of the input it aliases, or of one that ends with it. */
function reusable(
  { op, inputs, outputs }: OpNode,
  bufferOf: (value: Value) => Held | undefined,
  reads: ReadonlyMap<Value, number>,
): Held | undefined {
  if (ALIASES.has(op)) return inputs[0] ? bufferOf(inputs[0]) : undefined;
  if (!IN_PLACE.has(op)) return undefined;
  const [input] = inputs;
  const held = input ? bufferOf(input) : undefined;
  if (held === undefined || held.isKept || held.bytes !== bytesOf(outputs[0]!)) return undefined;
  const readsHere = inputs.filter((other) => other && bufferOf(other) === held).length;
  return held.uses === readsHere && (reads.get(input!) ?? 0) > 0 ? held : undefined;
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
