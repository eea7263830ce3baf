/** Writes a recorded graph as an ONNX model. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import type protobuf from "protobufjs";
import { packageRoot } from "../core/index.js";
import { isLargeFill, onnxType } from "./arithmetic.js";
import {
  type Attribute,
  type Constant,
  type ElementType,
  type Graph,
  neededNodes,
  type OpNode,
  sizeOf,
  type Value,
} from "./graph.js";
import { INT8_BLOCK, int8Blocks } from "./int8-blocks.js";

/** Opset 18 has every op that we write, and the form that ONNX Runtime's fusions look for. */
const OPSET = 18;
const IR_VERSION = 8;

let schema: protobuf.Type | undefined;
/** Loaded with the first model: many processes and threads write none. */
function modelProto(): protobuf.Type {
  schema ??= (createRequire(import.meta.url)("protobufjs") as typeof protobuf)
    .parse(readFileSync(join(packageRoot, "tensor", "onnx.proto"), "utf8"), { keepCase: true })
    .root.lookupType("onnx.ModelProto");
  return schema;
}

const ARRAY_OF: Record<
  ElementType,
  (fill: number, length: number) => Exclude<Constant, { fill: number }>["data"]
> = {
  float32: (fill, length) => new Float32Array(length).fill(fill),
  float16: () => {
    throw new Error("a constant of a recorded graph is never float16: it is cast where it is used");
  },
  int8: () => {
    throw new Error("a constant of a recorded graph is never int8");
  },
  int32: (fill, length) => new Int32Array(length).fill(fill),
  int64: (fill, length) => new BigInt64Array(length).fill(BigInt(fill)),
  bool: (fill, length) => new Uint8Array(length).fill(fill),
};

function tensorProto(name: string, type: ElementType, shape: readonly number[], constant: Constant): object {
  const data = "fill" in constant ? ARRAY_OF[type](constant.fill, sizeOf(shape)) : constant.data;
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return { name, dims: shape, data_type: onnxType(type), raw_data: bytes };
}

function attributeProto(name: string, attribute: Attribute): object {
  if ("int" in attribute) return { name, i: attribute.int, type: 2 };
  if ("float" in attribute) return { name, f: attribute.float, type: 1 };
  if ("text" in attribute) return { name, s: Buffer.from(attribute.text), type: 3 };
  return { name, ints: attribute.ints, type: 7 };
}

const valueInfo = (name: string, value: Value): object => ({
  name,
  type: {
    tensor_type: {
      elem_type: onnxType(value.type),
      shape: { dim: value.shape.map((length) => (length < 0 ? {} : { dim_value: length })) },
    },
  },
});

/** An ONNX model. Inputs are named i0, i1, ...; outputs o0, o1, ..., in the order given. */
export interface OnnxModel {
  readonly bytes: Uint8Array;
  readonly nodeCount: number;
}

/** Names every value once: inputs and outputs by their place, all others by their id. */
class Names {
  private readonly names = new Map<Value, string>();
  readonly copies: { from: Value; to: string }[] = [];

  constructor(inputs: readonly Value[], outputs: readonly Value[]) {
    inputs.forEach((value, i) => {
      this.names.set(value, `i${i}`);
    });
    outputs.forEach((value, i) => {
      // An input, a constant or a value that is an output already needs a node of its own to become one.
      if (value.node && !this.names.has(value)) this.names.set(value, `o${i}`);
      else this.copies.push({ from: value, to: `o${i}` });
    });
  }
  of(value: Value): string {
    return this.names.get(value) ?? `v${value.id}`;
  }
}

/** Where the elements of a value stand: `location` relative to the folder that the session is told. */
export interface ExternalData {
  readonly location: string;
  readonly offset: number;
  readonly bytes: number;
}

const int8Dims = ([out = 0, width = 0]: readonly number[]): number[] => [out, int8Blocks(width), INT8_BLOCK];

function externalProto(name: string, value: Value, { location, offset, bytes }: ExternalData): object {
  const entries = { location, offset, length: bytes };
  return {
    name,
    dims: value.type === "int8" ? int8Dims(value.shape) : value.shape,
    data_type: onnxType(value.type),
    data_location: 1,
    external_data: Object.entries(entries).map(([key, entry]) => ({ key, value: String(entry) })),
  };
}

/**
 * Writes the nodes that the outputs need, and the constants that those need.
 * @param external - inputs of the recorded function that are read from files, and are no inputs of the model
 */
export function encodeModel(
  graph: Graph,
  name: string,
  inputs: readonly Value[],
  recorded: readonly Value[],
  external: ReadonlyMap<Value, ExternalData> = new Map(),
): OnnxModel {
  const outputs = recorded.map((value) => graph.current(value));
  const names = new Names(inputs, outputs);
  const nodes = neededNodes(graph, outputs);
  const constants = new Set<Value>();
  for (const value of [...nodes.flatMap((node) => node.inputs), ...outputs]) {
    if (value?.constant) constants.add(value);
  }
  const fills = [...constants].filter(isLargeFill);
  const proto = {
    name,
    initializer: [...constants]
      .filter((value) => !isLargeFill(value))
      .map((value) => tensorProto(names.of(value), value.type, value.shape, value.constant!))
      .concat(fills.map((value) => shapeProto(value, names)))
      .concat([...external].map(([value, data]) => externalProto(names.of(value), value, data))),
    node: [
      ...fills.map((value) => fillNode(value, names)),
      ...nodes.map((node) => nodeProto(node, names)),
      ...names.copies.map(({ from, to }) => ({
        op_type: "Identity",
        name: to,
        input: [names.of(from)],
        output: [to],
      })),
    ],
    input: inputs.map((value) => valueInfo(names.of(value), value)),
    output: outputs.map((value, i) => valueInfo(`o${i}`, value)),
  };
  const model = {
    ir_version: IR_VERSION,
    producer_name: "retort",
    opset_import: [
      { domain: "", version: OPSET },
      { domain: "com.microsoft", version: 1 },
    ],
    graph: proto,
  };
  const type = modelProto();
  return { bytes: type.encode(type.fromObject(model)).finish(), nodeCount: proto.node.length };
}

const nodeProto = (node: OpNode, names: Names): object => ({
  op_type: node.op,
  domain: node.domain,
  name: `${node.op}_${node.outputs[0]!.id}`,
  input: node.inputs.map((value) => (value ? names.of(value) : "")),
  output: node.outputs.map((value) => names.of(value)),
  attribute: Object.entries(node.attributes).map(([key, attribute]) => attributeProto(key, attribute)),
});

const shapeProto = (value: Value, names: Names): object =>
  tensorProto(`${names.of(value)}_shape`, "int64", [value.shape.length], {
    data: BigInt64Array.from(value.shape, BigInt),
  });

const fillNode = (value: Value, names: Names): object => ({
  op_type: "ConstantOfShape",
  name: `ConstantOfShape_${value.id}`,
  input: [`${names.of(value)}_shape`],
  output: [names.of(value)],
  attribute: [{ name: "value", type: 4, t: tensorProto("", value.type, [1], value.constant!) }],
});
