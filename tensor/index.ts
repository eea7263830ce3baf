export {
  type CompileOptions,
  compile,
  type Provider,
  type RecordedFunction,
  recordFunction,
} from "./compile.js";
export { availableProviders, softwareVulkanEnvironment } from "./devices.js";
export {
  type LossWithExtras,
  stopGradient,
  type TensorMap,
  type TracedFunction,
  valueAndGradients,
} from "./differentiate.js";
export { useTensorflowBackend } from "./eager.js";
export { placeOn } from "./place.js";
export { type NodeProfile, readProfile } from "./profile.js";
export { type Transfer, watchTransfers } from "./transfers.js";
export {
  type CompiledFunction,
  type DeviceTensor,
  disposeValues,
  type FileTensor,
  type HostArray,
  isFileTensor,
  isHostArray,
  readValue,
  type TensorSpec,
  type Value,
} from "./values.js";
