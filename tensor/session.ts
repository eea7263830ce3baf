/** Runs an ONNX model with ONNX Runtime. */
import { availableParallelism } from "node:os";
import { InfrastructureError } from "../core/index.js";
import { BufferTensor, SharedSession } from "./buffer-tensor.js";
import { gpuRefusal } from "./gpu-refusal.js";
import type { OnnxModel } from "./onnx.js";
import { type InferenceSession, ort, type Tensor } from "./ort.js";
import { collectProfile } from "./profile.js";
import { reportTransfer } from "./transfers.js";
import {
  type CompiledFunction,
  checkFeeds,
  HalfTensor,
  type HostArray,
  HostTensor,
  isHostArray,
  type Signature,
  type TensorSpec,
  type Value,
} from "./values.js";

export interface SessionOptions {
  readonly provider: "cpu" | "webgpu" | "cuda";
  readonly threads?: number;
  readonly keepOnDevice?: readonly string[];
  readonly deterministic?: boolean;
  readonly name?: string;
  readonly profilePath?: string;
  /** Keep the memory of intermediate results between runs. Default: yes. */
  readonly arena?: boolean;
  /** Lay them out in one block from the second run on. Default: yes. */
  readonly memoryPattern?: boolean;
  /** Folder that external data is relative to. */
  readonly externalFolder?: string;
  /** Weights of eight bits are packed, a copy for each session: the kernel that reads them as they stand is ten times slower. */
  readonly packs?: boolean;
}

/**
 * Constants that are computed from others when a graph is opened, and kept: no larger ones. Measured: the zeros that a chosen
 * token's gradient is put into are as large as the logits, and were held beside them; made in each run they are written to in
 * place. A mask of 1,024 x 1,024 is kept.
 */
const MOST_FOLDED = 2 ** 22;

function sessionOptions(options: SessionOptions, signature: Signature): InferenceSession.SessionOptions {
  const threads = options.threads ?? availableParallelism();
  const isGpu = options.provider === "webgpu";
  const kept = new Set(isGpu ? (options.keepOnDevice ?? []) : []);
  const locations = Object.keys(signature.outputs).map((name, i) => [
    `o${i}`,
    kept.has(name) ? "gpu-buffer" : "cpu",
  ]);
  return {
    executionProviders: [options.provider],
    graphOptimizationLevel: "all",
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    ...(options.arena === false ? { enableCpuMemArena: false } : {}),
    ...(options.arena === false || options.memoryPattern === false ? { enableMemPattern: false } : {}),
    ...(kept.size > 0 ? { preferredOutputLocation: Object.fromEntries(locations) } : {}),
    ...(options.profilePath ? { enableProfiling: true, profileFilePrefix: options.profilePath } : {}),
    extra: {
      optimization: { constant_folding_max_output_size_in_bytes: String(MOST_FOLDED) },
      session: {
        use_deterministic_compute: options.deterministic ? "1" : "0",
        // Threads that wait by spinning take the cores from sandboxes and other sessions. Measured on two cores in use
        // by others: a decoding step of 64 sequences (3.5M parameters) 33 ms with spinning, 11 ms without; on idle cores
        // 6.9 and 7.4 ms, and a training step the same.
        "intra_op.allow_spinning": "0",
        // Packing would copy the weights that all sessions share as pages of one file.
        ...(options.externalFolder === undefined
          ? {}
          : {
              disable_prepacking: options.packs ? "0" : "1",
              model_external_initializers_file_folder_path: options.externalFolder,
            }),
      },
    },
  };
}

/** Opens a session on a model whose inputs and outputs are those of `signature`, in that order. */
export async function openSession(
  model: OnnxModel,
  signature: Signature,
  options: SessionOptions,
): Promise<CompiledFunction> {
  const name = options.name ?? "compiled function";
  let session: InferenceSession;
  try {
    session = await ort().InferenceSession.create(model.bytes, sessionOptions(options, signature));
  } catch (cause) {
    throw new InfrastructureError(`ONNX Runtime refused ${name} on ${options.provider}: ${String(cause)}`, {
      cause,
    });
  }
  const shared = new SharedSession(session);
  return {
    ...signature,
    run: (feeds) => runSession(shared, signature, options, feeds),
    dispose: async () => {
      if (options.profilePath) {
        session.endProfiling();
        collectProfile(options.profilePath);
      }
      await shared.close();
    },
  };
}

function feedTensor(by: string, name: string, spec: TensorSpec, value: Value): Tensor {
  if (value instanceof BufferTensor) return value.tensor;
  if (value instanceof HalfTensor) return new (ort().Tensor)("float16", value.data, spec.shape);
  const data = isHostArray(value) ? value : value instanceof HostTensor ? value.data : null;
  if (!data) throw new Error("a tensor of a file or another device was fed to this session; see placeOn");
  reportTransfer(by, "in", name, data);
  return data instanceof Int32Array
    ? new (ort().Tensor)("int32", data, spec.shape)
    : new (ort().Tensor)("float32", data, spec.shape);
}

async function runSession(
  shared: SharedSession,
  signature: Signature,
  options: SessionOptions,
  feeds: Readonly<Record<string, Value>>,
): Promise<Record<string, Value>> {
  checkFeeds(signature.inputs, feeds);
  const by = options.name ?? "compiled function";
  const tensors = Object.entries(signature.inputs).map(
    ([name, spec], i) => [`i${i}`, feedTensor(by, name, spec, feeds[name]!)] as const,
  );
  const results = await shared.session.run(Object.fromEntries(tensors)).catch((error: unknown) => {
    throw options.provider === "webgpu" ? gpuRefusal(error) : error;
  });
  return Object.fromEntries(
    Object.entries(signature.outputs).map(([name, spec], i) => {
      const tensor = results[`o${i}`]!;
      if (tensor.location === "gpu-buffer") return [name, shared.buffer(spec, tensor)];
      const data = tensor.data as HostArray;
      reportTransfer(by, "out", name, data);
      return [name, options.keepOnDevice?.includes(name) ? new HostTensor(spec, data) : data];
    }),
  );
}
