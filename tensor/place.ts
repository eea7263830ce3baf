/** Values that are put where a provider computes, once. */
import { cast } from "./arithmetic.js";
import { readTensor, SharedSession } from "./buffer-tensor.js";
import type { Provider } from "./compile.js";
import { currentDryRun } from "./dry-run.js";
import { gpuRefusal } from "./gpu-refusal.js";
import { Graph, PLAIN_DIALECT } from "./graph.js";
import { encodeModel } from "./onnx.js";
import { ort, type Tensor } from "./ort.js";
import { reportTransfer } from "./transfers.js";
import {
  type DeviceTensor,
  HalfTensor,
  type HostArray,
  isFileTensor,
  isHostArray,
  readValue,
  type TensorSpec,
  type Value,
} from "./values.js";

/** One session for each type and rank: its input, on the GPU. Never closed: what it gives lives as long as it does. */
const uploaders = new Map<string, Promise<SharedSession>>();

function uploader(
  { dtype, shape }: TensorSpec,
  provider: "cpu" | "webgpu" = "webgpu",
): Promise<SharedSession> {
  const key = `${provider} ${dtype} ${shape.length}`;
  let session = uploaders.get(key);
  if (session === undefined) {
    const graph = new Graph(PLAIN_DIALECT);
    const input = graph.input(
      "x",
      shape.map(() => -1),
      dtype === "int32" ? dtype : "float32",
    );
    // What is stored in float16 is narrowed where it goes.
    const output = cast(graph, input, dtype);
    session = ort()
      .InferenceSession.create(encodeModel(graph, "upload", [input], [output]).bytes, {
        executionProviders: [provider],
        logSeverityLevel: 3,
        ...(provider === "webgpu" ? { preferredOutputLocation: "gpu-buffer" } : {}),
      })
      .then((opened) => new SharedSession(opened));
    uploaders.set(key, session);
  }
  return session;
}

/** A value in a GPU buffer of webgpu, in this thread. */
async function upload(name: string, spec: TensorSpec, value: Value): Promise<DeviceTensor> {
  const session = await uploader(spec);
  const data = await readValue(value);
  reportTransfer("upload", "in", name, data);
  const { o0 } = await session.session.run({ i0: hostTensor(data, spec) }).catch((error: unknown) => {
    throw gpuRefusal(error);
  });
  return session.buffer(spec, o0!);
}

const hostTensor = (data: HostArray, { shape }: TensorSpec): Tensor =>
  data instanceof Int32Array
    ? new (ort().Tensor)("int32", data, shape)
    : new (ort().Tensor)("float32", data, shape);

/** Float16 in host memory: half the space, and narrowed like on a GPU; onnxruntime widens it again to compute on cpu. */
async function narrow(spec: TensorSpec, value: Value): Promise<DeviceTensor> {
  const { session } = await uploader(spec, "cpu");
  const { o0 } = await session.run({ i0: hostTensor(await readValue(value), spec) });
  const bits = o0!.data as unknown as Uint16Array;
  return new HalfTensor(spec, new Uint16Array(bits.buffer, bits.byteOffset, bits.length), (data) =>
    readTensor(spec, new (ort().Tensor)("float16", data, spec.shape), "cpu"),
  );
}

/**
 * Puts values where a provider can be bound to them (`CompileOptions.bound`) without another copy: on cpu files stay
 * files, on webgpu everything goes into GPU buffers, which the caller disposes of; else files are read. What is float16 by
 * its spec is narrowed.
 * @param specs - of the values, by name
 */
export async function placeOn(
  provider: Provider,
  values: Readonly<Record<string, Value>>,
  specs: Readonly<Record<string, TensorSpec>>,
): Promise<Record<string, Value>> {
  const placed: Record<string, Value> = {};
  for (const [name, value] of Object.entries(values)) {
    const isHere = isHostArray(value) || isFileTensor(value);
    const dry = currentDryRun();
    const isHalf = specs[name]?.dtype === "float16";
    if (dry !== undefined && provider !== "cpu" && isHere)
      placed[name] = dry.value(specs[name]!, provider === "webgpu");
    else if (provider === "webgpu" && isHere) placed[name] = await upload(name, specs[name]!, value);
    else if (isHalf && isHere) placed[name] = await narrow(specs[name]!, value);
    else placed[name] = provider === "cpu" || !isFileTensor(value) ? value : await readValue(value);
  }
  return placed;
}
