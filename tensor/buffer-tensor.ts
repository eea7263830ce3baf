/** Tensors in GPU buffers that ONNX Runtime owns. */

import { cast } from "./arithmetic.js";
import { Graph, PLAIN_DIALECT } from "./graph.js";
import { encodeModel } from "./onnx.js";
import { type InferenceSession, ort, type Tensor } from "./ort.js";
import { reportTransfer } from "./transfers.js";
import type { DeviceTensor, HostArray, TensorSpec } from "./values.js";

/** One session for each provider, type and rank: copies its input. */
const readers = new Map<string, Promise<InferenceSession>>();

function reader({ dtype, shape }: TensorSpec, provider: "cpu" | "webgpu"): Promise<InferenceSession> {
  const key = `${provider} ${dtype} ${shape.length}`;
  let session = readers.get(key);
  if (!session) {
    const graph = new Graph(PLAIN_DIALECT);
    const anyLength = shape.map(() => -1);
    const input = graph.input("x", anyLength, dtype);
    const output = dtype === "float16" ? cast(graph, input, "float32") : input;
    const { bytes } = encodeModel(graph, "read", [input], [output]);
    session = ort().InferenceSession.create(bytes, { executionProviders: [provider], logSeverityLevel: 3 });
    readers.set(key, session);
  }
  return session;
}

/**
 * A tensor's elements in host memory, float16 widened. onnxruntime-node cannot download a GPU buffer (its getData aborts
 * the process), but every session's CPU output is one.
 */
export async function readTensor(
  spec: TensorSpec,
  tensor: Tensor,
  provider: "cpu" | "webgpu",
): Promise<HostArray> {
  const { o0 } = await (await reader(spec, provider)).run({ i0: tensor });
  return o0!.data as HostArray;
}

/**
 * An ONNX Runtime session that lives until it is closed and its last GPU buffer is disposed of: a buffer whose session
 * is gone takes the process down when it is touched.
 */
export class SharedSession {
  private buffers = 0;
  private isClosing = false;

  constructor(readonly session: InferenceSession) {}

  /** Wraps an output that stays on the GPU. */
  buffer(spec: TensorSpec, tensor: Tensor): DeviceTensor {
    this.buffers++;
    return new BufferTensor(spec, tensor, () => {
      this.buffers--;
      // Nobody waits for a release that comes late; it cannot fail in a way that matters to the caller.
      if (this.isClosing && this.buffers === 0) void this.session.release();
    });
  }
  async close(): Promise<void> {
    this.isClosing = true;
    if (this.buffers === 0) await this.session.release();
  }
}

/** A tensor in a GPU buffer. Valid in the thread that made it. */
export class BufferTensor implements DeviceTensor {
  private isDisposed = false;

  constructor(
    readonly spec: TensorSpec,
    private readonly buffer: Tensor,
    private readonly afterDispose: () => void,
  ) {}
  /** @throws Error after dispose: ONNX Runtime would read freed memory */
  get tensor(): Tensor {
    if (this.isDisposed) throw new Error("a GPU tensor was used after it was disposed of");
    return this.buffer;
  }
  async read(): Promise<HostArray> {
    const data = await readTensor(this.spec, this.tensor, "webgpu");
    reportTransfer("read", "out", "x", data);
    return data;
  }
  dispose(): void {
    if (this.isDisposed) return;
    this.isDisposed = true;
    this.buffer.dispose();
    this.afterDispose();
  }
}
