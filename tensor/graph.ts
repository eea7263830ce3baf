/**
 * The recorded graph: values and the ONNX nodes that make them, all shapes known. Nodes are shared as they are
 * recorded (the same op on the same inputs is one node); what no output needs is dropped when the graph is written.
 */
import { int8Blocks } from "./int8-blocks.js";

/**
 * ONNX element types that occur in a recorded graph. tfjs knows no int64: it appears only as ONNX's index type. Nor does it
 * know float16 and int8: to tfjs such a value is float32, see half-precision.ts and int8-product.ts.
 */
export type ElementType = "float32" | "float16" | "int8" | "int32" | "bool" | "int64";

export type Attribute =
  | { readonly int: number }
  | { readonly float: number }
  | { readonly text: string }
  | { readonly ints: readonly number[] };

/** Elements of a constant: one number that fills the whole shape, or all of them in row-major order. */
export type Constant =
  | { readonly fill: number }
  | { readonly data: Float32Array | Int32Array | BigInt64Array | Uint8Array };

/** One tensor of the graph: an input, a constant, or an output of a node. */
export interface Value {
  readonly id: number;
  readonly shape: readonly number[];
  readonly type: ElementType;
  readonly node?: OpNode;
  readonly constant?: Constant;
  readonly input?: string;
  /** Of an int8 matrix. */
  readonly scales?: Value;
}

/** One ONNX node. An absent optional input is null. */
export interface OpNode {
  readonly op: string;
  readonly domain: string;
  readonly inputs: readonly (Value | null)[];
  readonly attributes: Readonly<Record<string, Attribute>>;
  readonly outputs: readonly Value[];
}

/** Shape and type of a node's output. */
export interface Output {
  readonly shape: readonly number[];
  readonly type: ElementType;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export const sizeOf = (shape: readonly number[]): number => shape.reduce((size, length) => size * length, 1);

export const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((length, axis) => length === b[axis]);

/** What an execution provider can run, where that changes which nodes are recorded. */
export interface Dialect {
  /** com.microsoft FusedMatMul: matrix products of transposed operands without a transpose. */
  readonly fusedMatMul: boolean;
  /** ScatterND with add loses updates of repeated indices. */
  readonly racingScatter: boolean;
  /** SimplifiedLayerNormalization's second output is computed: webgpu leaves it unwritten, without an error. */
  readonly inverseOfNorm: boolean;
  /** ONNX ops that the provider has no kernel for and that we can say in others. */
  readonly missing: ReadonlySet<string>;
}

/** What every provider can run. */
export const PLAIN_DIALECT: Dialect = {
  fusedMatMul: false,
  racingScatter: false,
  inverseOfNorm: false,
  missing: new Set(),
};

/** Whether all elements have the bits of the first. Compared by memcmp: the gradient of a sum over logits is millions of ones. */
function isRepeated({ buffer, byteOffset, byteLength, BYTES_PER_ELEMENT: size }: NodeJS.TypedArray): boolean {
  const rest = byteLength - size;
  return Buffer.from(buffer, byteOffset, rest).equals(Buffer.from(buffer, byteOffset + size, rest));
}

/** Records nodes. One per compiled function. */
export class Graph {
  private count = 0;
  private readonly known = new Map<string, readonly Value[]>();
  private readonly constants = new Map<string, Value>();
  private readonly replaced = new Map<Value, Value>();

  constructor(readonly dialect: Dialect) {}

  input(name: string, shape: readonly number[], type: ElementType): Value {
    const value = { id: this.count++, shape, type, input: name };
    if (type !== "int8") return value;
    const blocks = shape[0]! * int8Blocks(shape[1]!);
    return { ...value, scales: this.input(`${name}.scales`, [blocks], "float32") };
  }

  /** A constant filled with one number. */
  fill(fill: number, shape: readonly number[], type: ElementType): Value {
    const key = `${type}|${Object.is(fill, -0) ? "-0" : fill}|${shape.join()}`;
    const known = this.constants.get(key);
    if (known) return known;
    const value: Value = { id: this.count++, shape, type, constant: { fill } };
    this.constants.set(key, value);
    return value;
  }

  /** A constant of given elements, copied; recognised as a fill when all are equal. */
  constant(
    data: Float32Array | Int32Array | BigInt64Array | Uint8Array,
    shape: readonly number[],
    type: ElementType,
  ): Value {
    const first = data[0];
    if (first !== undefined && type !== "int64" && isRepeated(data)) {
      return this.fill(Number(first), shape, type);
    }
    // Long constants are not looked up: hashing them would cost more than a second copy.
    if (data.length > 64) return { id: this.count++, shape, type, constant: { data: data.slice() } };
    const key = `${type}|${data.join()}|${shape.join()}`;
    const known = this.constants.get(key);
    if (known) return known;
    const value: Value = { id: this.count++, shape, type, constant: { data: data.slice() } };
    this.constants.set(key, value);
    return value;
  }

  /** A one-dimensional int64 constant: ONNX's shapes, axes and bounds. */
  int64(numbers: readonly number[]): Value {
    return this.constant(BigInt64Array.from(numbers, BigInt), [numbers.length], "int64");
  }

  /** From now on `by` stands wherever a node takes `value`, also in nodes recorded before. */
  replace(value: Value, by: Value): void {
    this.replaced.set(value, by);
  }

  /** What stands for a value. */
  current(value: Value): Value {
    return this.replaced.get(value) ?? value;
  }

  /** Records a node with several outputs. */
  nodes(
    op: string,
    inputs: readonly (Value | null)[],
    outputs: readonly Output[],
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = "",
  ): readonly Value[] {
    const key = `${domain}:${op}|${inputs.map((value) => value?.id ?? "-").join()}|${JSON.stringify(attributes)}|${outputs.length}|${outputs[0]!.type}`;
    const known = this.known.get(key);
    if (known) return known;
    const node: Mutable<OpNode> = { op, domain, inputs, attributes, outputs: [] };
    node.outputs = outputs.map(({ shape, type }) => ({ id: this.count++, shape, type, node }));
    this.known.set(key, node.outputs);
    return node.outputs;
  }

  /** Records a node with one output. */
  node(
    op: string,
    inputs: readonly (Value | null)[],
    output: Output,
    attributes: Readonly<Record<string, Attribute>> = {},
    domain = "",
  ): Value {
    return this.nodes(op, inputs, [output], attributes, domain)[0]!;
  }
}

/** A recorded function: its inputs and outputs as values of one graph, by name. */
export interface Recording {
  readonly graph: Graph;
  readonly inputs: Readonly<Record<string, Value>>;
  readonly outputs: Readonly<Record<string, Value>>;
}

/** The nodes that the given values need, each after the nodes it needs itself, with replaced values replaced. */
export function neededNodes(graph: Graph, values: readonly Value[]): OpNode[] {
  const order: OpNode[] = [];
  const seen = new Set<OpNode>();
  // An explicit stack: a chain of a few thousand ops would overflow the call stack.
  const stack: { node: OpNode; inputs: readonly (Value | null)[]; next: number }[] = [];
  const visit = (value: Value | null | undefined): void => {
    const node = value?.node;
    if (!node || seen.has(node)) return;
    seen.add(node);
    stack.push({ node, inputs: node.inputs.map((input) => input && graph.current(input)), next: 0 });
  };
  for (const value of values) {
    visit(graph.current(value));
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      if (top.next < top.inputs.length) visit(top.inputs[top.next++]);
      else {
        order.push({ ...top.node, inputs: top.inputs });
        stack.pop();
      }
    }
  }
  return order;
}
