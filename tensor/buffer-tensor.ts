/** Tensors in GPU buffers that ONNX Runtime owns. */
import * as ort from "onnxruntime-node";
import { Graph } from "./graph.js";
import { encodeModel } from "./onnx.js";
import type { DeviceTensor, HostArray, TensorSpec } from "./values.js";

type ReaderKey = `${TensorSpec["dtype"]} ${number}`;

/** One session for each type and rank: copies its input. */
const readers = new Map<ReaderKey, Promise<ort.InferenceSession>>();

/** onnxruntime-node cannot download a GPU buffer (its getData aborts the process), but every session's CPU output is one. */
function reader({ dtype, shape }: TensorSpec): Promise<ort.InferenceSession> {
  const key: ReaderKey = `${dtype} ${shape.length}`;
  let session = readers.get(key);
  if (!session) {
    const graph = new Graph({ fusedMatMul: false, racingScatter: false });
    const anyLength = shape.map(() => -1);
    const input = graph.input("x", anyLength, dtype);
    const { bytes } = encodeModel("read", [input], [input]);
    session = ort.InferenceSession.create(bytes, { executionProviders: ["webgpu"], logSeverityLevel: 3 });
    readers.set(key, session);
  }
  return session;
}

/** A tensor in a GPU buffer. Valid in the thread that made it. */
export class BufferTensor implements DeviceTensor {
  constructor(
    readonly spec: TensorSpec,
    readonly tensor: ort.Tensor,
  ) {}
  async read(): Promise<HostArray> {
    const { o0 } = await (await reader(this.spec)).run({ i0: this.tensor });
    return o0!.data as HostArray;
  }
  dispose(): void {
    this.tensor.dispose();
  }
}
