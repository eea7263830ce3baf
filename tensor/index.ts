export { fileIdentity } from "./bound.js";
export { collectGarbage } from "./collect-garbage.js";
export {
  type CompileOptions,
  compile,
  functionCost,
  type Provider,
  type RecordedFunction,
  recordFunction,
} from "./compile.js";
export {
  availableProviders,
  hasBuffersOf,
  hasHalfPrecision,
  isSoftwareVulkan,
  type ProviderState,
  providerState,
  providerStates,
  softwareVulkanEnvironment,
} from "./devices.js";
export {
  type LossWithExtras,
  stopGradient,
  type TensorMap,
  type TracedFunction,
  valueAndGradients,
} from "./differentiate.js";
export { currentDryRun, DryRun, type DryStage, whileDry } from "./dry-run.js";
export { useTensorflowBackend } from "./eager.js";
export { movedArray } from "./give-back.js";
export { tooSmallBuffers } from "./gpu-refusal.js";
export type { GraphCost } from "./graph-cost.js";
export { dequantizedRows, INT8_BLOCK, int8Blocks, quantizedRows } from "./int8-blocks.js";
export { placeOn } from "./place.js";
export { type NodeProfile, readProfile } from "./profile.js";
export { recordSplit, type SplitFunction } from "./split.js";
export { type Transfer, watchTransfers } from "./transfers.js";
export {
  type CompiledFunction,
  type DeviceTensor,
  disposeValues,
  type FileTensor,
  type HostArray,
  HostTensor,
  isFileTensor,
  isHostArray,
  readValue,
  type TensorSpec,
  type Value,
} from "./values.js";
export { aligned, binary, type Code, get, type Kernel, leb, makeKernel, set, simd, unary } from "./wasm.js";
